package mysql

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// numbers maps the common errors to a text and what to do.
var numbers = map[uint16][2]string{
	1007: {"that database exists already", "correct the statement"},
	1008: {"no such database", "correct the statement"},
	1021: {"its disk is full", "make room there"},
	1040: {"too many connections", "lower max_open_connections, or raise the server's max_connections"},
	1044: {"the administrator may not do that in the database",
		"GRANT it what the statement grants there, WITH GRANT OPTION"},
	1045: {"the administrator may not do that", "GRANT it what the statement grants ON *.*, WITH GRANT OPTION"},
	1046: {"no database is named", "name it before the table, or in connection_url"},
	1047: {"the server is not ready for statements",
		"see whether this node is part of its cluster (wsrep_cluster_status)"},
	1049: {"no such database", "correct the statement"},
	1053: {"the server is shutting down", "try again"},
	1054: {"no such column", "correct the statement"},
	1064: {"syntax error", "correct the statement; the server's words may hold the password and are not kept"},
	1095: {"not the owner of that session",
		"grant CONNECTION ADMIN (MariaDB), CONNECTION_ADMIN (MySQL 8) or SUPER to the administrator"},
	1130: {"this machine's address is not allowed", "create the administrator's account for this host, or for '%'"},
	1133: {"no such account", "name the user and the host that exist"},
	1141: {"no such grant", "correct the statement"},
	1142: {"the administrator may not do that on the table",
		"GRANT it what the statement needs there, WITH GRANT OPTION what it grants"},
	1143: {"the administrator may not do that on the column",
		"GRANT it what the statement needs there, WITH GRANT OPTION what it grants"},
	1146: {"no such table", "correct the statement"},
	1147: {"no such grant on that table", "correct the statement"},
	1193: {"no such variable", "correct the statement"},
	1205: {"a lock was not to be had", "try again"},
	1213: {"deadlock", "try again"},
	1226: {"a limit of the account was passed",
		"raise the administrator's MAX_USER_CONNECTIONS, or another limit of its account"},
	1227: {"the administrator lacks a privilege",
		"give it CREATE USER, and GRANT OPTION on what the statements grant"},
	1269: {"the user has no such privileges", "correct the statement"},
	1290: {"the server runs with an option that forbids it",
		"connect to the primary where it is read_only, or see skip_grant_tables in its configuration"},
	1305: {"no such routine", "correct the statement"},
	1317: {"interrupted", "try again; see who ran KILL"},
	1370: {"the administrator may not do that with the routine", "GRANT it EXECUTE there, WITH GRANT OPTION"},
	1372: {"the password is not one in that form", "write IDENTIFIED BY"},
	1396: {"the server could not do that to the user", "see whether the statement names the user and host that exist"},
	1403: {"no such grant on that routine", "correct the statement"},
	1410: {"the administrator may not create users by GRANT", "CREATE USER first"},
	1419: {"a privilege is missing for routines", "see log_bin_trust_function_creators"},
	1470: {"a name is too long", "shorten username_template; mysql-legacy-database-plugin makes names of 16"},
	1524: {"the server has no such plugin", "correct the statement, or install the plugin there"},
	1644: {"the statement itself says so (SIGNAL)", "see the server's words in the log"},
	1698: {"the administrator may not grant or take back that role or PROXY",
		"GRANT it the role WITH ADMIN OPTION, PROXY WITH GRANT OPTION"},
	1792: {"the transaction is read-only", "connect to the primary"},
	1819: {"the password is too weak for the server", "give the role a password_policy that fits the server's"},
	1820: {"the account's password has expired", "set a new one there"},
	1827: {"the password is not one in that form", "write IDENTIFIED BY"},
	1836: {"the server is read-only", "connect to the primary"},
	1862: {"the account's password has expired", "set a new one there"},
	1959: {"no such role, or the administrator may not grant it",
		"create it, and GRANT it to the administrator WITH ADMIN OPTION"},
	1961: {"the administrator may not grant that role", "GRANT it to the administrator WITH ADMIN OPTION"},
	1969: {"it took longer than the server's max_statement_time", "raise that for the administrator"},
	3024: {"it took longer than the server's max_execution_time", "raise that for the administrator"},
	3118: {"the account is locked", "unlock it"},
	3523: {"no such role", "create it first"},
	3530: {"the role is not granted to the user", "grant it before it is made the default"},
	4006: {"the user is the DEFINER of what others use",
		"drop that, or give it another DEFINER; information_schema tells what it is"},
	4031: {"the session was idle for too long", "try again"},
	4151: {"the account is locked", "unlock it"},
}

// atConnect has the errors that have another meaning during the login.
var atConnect = map[uint16][2]string{
	1044: {"the administrator may not use the database in connection_url",
		"GRANT it something there, or leave the database out"},
	1045: {"wrong username or password",
		"check both, the host that the administrator's account is for, and whether it asks for TLS (REQUIRE)"},
	1049: {"no such database", "correct it in connection_url, or leave it out"},
	1129: {"the server has blocked this machine after many errors of connections", "FLUSH HOSTS there"},
	1698: {"the account takes no passwords", "create it with a password"},
}

// explain converts an error of a call to a fault.
func (k call) explain(err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: k.op, Kind: fault.Upstream}
	unchanged := k.classify(f, err)
	if _, before := errors.AsType[*database.Uncertain](err); before {
		unchanged = false
	}
	f.Err = errors.New(k.scrub(logged(err)))
	if n := number(err); n != 0 {
		f = database.MarkCode(f, fmt.Sprintf("error %d", n))
	}
	if refusalOnly(err) {
		f = database.MarkRefused(f)
	}
	if unchanged {
		return database.MarkUnchanged(f)
	}
	return f
}

// serverErrors concern the server as a whole: it has no room, shuts down, or is read-only.
var serverErrors = []uint16{1040, 1041, 1047, 1053, 1037, 1038, 1203, 1290, 1792, 1836, 1021}

// refusalOnly reports whether the server refused only this statement.
func refusalOnly(err error) bool {
	if _, kept := errors.AsType[*definerError](err); kept {
		return true
	}
	_, connecting := errors.AsType[*connectError](err)
	early := database.IsNotSent(err)
	n := number(err)
	return n != 0 && !connecting && !early && !dying(err) && !slices.Contains(serverErrors, n)
}

// logged returns the text of an error for the log. It omits the server's message if that may quote
// a statement with a password, because the server cuts its quotes, and a redactor does not find a
// part of a password.
func logged(err error) string {
	at, many := errors.AsType[*statementError](err)
	my, answered := errors.AsType[*mysql.MySQLError](err)
	if !answered || my.Number != 1064 && !(many && at.what.secretive) {
		return err.Error()
	}
	return fmt.Sprintf("the server answered error %d (%s)", my.Number, my.SQLState)
}

// classify sets kind and message, and reports whether the database is certainly unchanged.
func (k call) classify(f *fault.Error, err error) (unchanged bool) {
	early := database.IsNotSent(err)
	my, answered := errors.AsType[*mysql.MySQLError](err)
	_, connecting := errors.AsType[*connectError](err)
	at, many := errors.AsType[*statementError](err)
	kept, needed := errors.AsType[*definerError](err)
	switch {
	case errors.Is(err, database.ErrClosed), errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, k.doing+" was canceled"
	case fault.Is(err, fault.Denied):
		f.Kind, f.Msg = fault.Denied, fault.Message(err)
		return true
	case errors.Is(err, errTooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached MySQL after the attempt's deadline and was not done: "+
			"compare the server's clock with this machine's, or see what delays the connection"
		return true
	case errors.Is(err, errTaken):
		f.Kind, f.Msg = fault.Conflict, "MySQL has a user of this name already; nothing was changed; check that the "+
			"username template has {{random}} in it"
		return true
	case needed:
		f.Msg = kept.says(k.scrub) + ", which would fail for everybody without it (error 1449); it is locked and " +
			"not dropped until they are dropped or have another DEFINER"
	case errors.Is(err, errTracked):
		f.Msg = "another session of MySQL holds this attempt's lock; try again"
		return true
	case errors.Is(err, errAbsent):
		f.Kind, f.Msg = fault.NotFound, "there is no user "+k.user+" in MySQL; create it first, or correct the name"
		return true
	case connecting && !answered && errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, "cannot connect to MySQL: it does not answer in time; check the address in "+
			"connection_url, and what lies between"
		return true
	case connecting && !answered:
		f.Msg = "cannot connect to MySQL: " + unreachable(err)
		return true
	case connecting:
		f.Msg = "cannot connect to MySQL: " + state(my, atConnect)
		return true
	case errors.Is(err, errBlind):
		f.Msg = fmt.Sprintf(
			"the administrator may not read the list of users (error %d); GRANT SELECT ON mysql.user TO it",
			number(err))
	case errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, k.doing+" took too long: see what blocks it in the server's process list"
	case answered:
		f.Msg = k.refused(at, my)
	case fault.Is(err, fault.TooLarge):
		f.Msg = k.doing + ": " + fault.Message(err)
	default:
		f.Msg = "the connection to MySQL was lost while " + k.doing
	}
	// A single statement that was refused had no effect. Of several, the earlier ones had theirs.
	return early || answered && !dying(err) && !(many && at.of > 1)
}

// refused says which statement the server refused, and why.
func (k call) refused(at *statementError, my *mysql.MySQLError) string {
	if k.field == "" || at == nil {
		return fmt.Sprintf("MySQL refused %s: %s", k.doing, state(my, nil))
	}
	return fmt.Sprintf("MySQL refused statement %d of %s: %s", at.at+1, k.field, state(my, nil))
}

// lacking matches the privileges that the server names.
var lacking = regexp.MustCompile(`the ([A-Z_]+(?:(?:, | )[A-Z_]+)*) privilege`)

func state(my *mysql.MySQLError, first map[uint16][2]string) string {
	known, ok := first[my.Number]
	if !ok {
		known, ok = numbers[my.Number]
	}
	if !ok {
		return fmt.Sprintf("error %d; the server's words are in the log", my.Number)
	}
	if needs := lacking.FindStringSubmatch(my.Message); my.Number == 1227 && needs != nil {
		return fmt.Sprintf("the administrator lacks a privilege (error 1227); GRANT it %s",
			strings.ReplaceAll(needs[1], ", ", " or "))
	}
	return fmt.Sprintf("%s (error %d); %s", known[0], my.Number, known[1])
}

// unreachable says why there is no connection.
func unreachable(err error) string {
	if errors.Is(err, mysql.ErrNoTLS) {
		return "the server has no TLS; switch it on there, or leave out the fields for TLS and tls= in connection_url"
	}
	for _, e := range foreign {
		if errors.Is(err, e) {
			return "the administrator's account logs in by a way that is not known here; create it with a password " +
				"(mysql_native_password, caching_sha2_password, ed25519)"
		}
	}
	if why, ok := fields.Unreachable(err); ok {
		return why
	}
	return "the log has the reason; check address and TLS"
}

var fields = database.Fields{
	Address: "the address in connection_url", Authority: "tls_ca", Name: "tls_server_name",
	Pair: "tls_certificate_key", TLS: "tls in connection_url",
}
