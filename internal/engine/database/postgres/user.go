package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// ident quotes a name for SQL, whatever is in it.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// text quotes a string for SQL; sessions have standard_conforming_strings on.
func text(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// expiration writes a time as {{expiration}}: to the second, and never earlier than the
// lease's end.
func expiration(t time.Time) string {
	whole := t.UTC().Truncate(time.Second)
	if whole.Before(t) {
		whole = whole.Add(time.Second)
	}
	return whole.Format("2006-01-02 15:04:05-0700")
}

// session is the application_name of the session that runs an attempt.
func session(attemptID string) string { return appName + " " + attemptID }

// fence is what precedes the statements of a create, in the same transaction and in this order:
// first the session can be found under the attempt's name, then the clock is read.
func fence(a database.Attempt) string {
	return fmt.Sprintf("SET LOCAL application_name = %s;\n"+
		"SELECT (CASE WHEN pg_catalog.clock_timestamp() < %s::pg_catalog.timestamptz THEN '0' ELSE %s END)::pg_catalog.int4;\n",
		text(session(a.ID)), text(instant(a.Deadline)), text(tooLate))
}

const fenceResults = 2

// instant writes a deadline exactly enough: both who create and who settle write it so.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000-0700") }

// Create runs the fence and the statements as one message, so as one transaction
// and in one round trip.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field, k.preamble, k.texts = "creation_statements", fenceResults, statements
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "creation_statements are missing: without them no user can be made; write them into the role"))
	}
	values, err := c.values(u.Name, u.Password, u.Expires)
	if err != nil {
		return invalid(k.op, err)
	}
	u.Key.Fill(values)
	k.secrets = append(k.secrets, secret.Text(values["password"]))
	s, err := compile(k.field, statements, values)
	if err != nil {
		return invalid(k.op, err)
	}
	m := &message{head: fence(u.Attempt), headers: fenceResults, body: s.sql, resets: s.resets()}
	results, err := c.change(ctx, m)
	if err == nil {
		k.pass(ctx, m.warnings)
		return nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42710" && strings.Contains(pg.Message, u.Name) {
		return database.MarkUnchanged(&fault.Error{Op: k.op, Kind: fault.Conflict, Err: errors.New(k.scrub(err.Error())), Msg: "PostgreSQL says that the user exists already; nothing was changed; check that the username template has {{random}} in it"})
	}
	if sqlState(err) != "" {
		rollBack(ctx, c, rollback, values)
	}
	return c.explain(k, len(results), err)
}

// rollBack runs a role's rollback statements after a create that PostgreSQL has undone
// by itself: they are for what is outside of its transactions. If they fail,
// only the log hears of it, since undoing the lease comes anyway.
func rollBack(ctx context.Context, c *conn, statements []string, values map[string]string) {
	if len(statements) == 0 {
		return
	}
	k := c.call("Create", "rolling back", secret.Text(values["password"]))
	s, err := compile("rollback_statements", statements, values)
	if err == nil {
		_, err = c.change(ctx, &message{body: s.sql, resets: s.resets(), repeatable: true})
	}
	if err != nil {
		c.log.Warn("running rollback_statements failed", "user", values["name"], "error", k.scrub(err.Error()))
	}
}

// values are what the placeholders of a role's statements stand for.
func (p *plan) values(name string, password secret.Value, expires time.Time) (map[string]string, error) {
	v := map[string]string{"name": name, "username": name}
	if !expires.IsZero() {
		v["expiration"] = expiration(expires)
	}
	if password.Empty() {
		return v, nil
	}
	if p.scram {
		var err error
		if password, err = verifier(password); err != nil {
			return nil, err
		}
	}
	v["password"] = password.RevealString()
	return v, nil
}

// invalid marks an error that came before anything was sent.
func invalid(op string, err error) error {
	return database.MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
}

// Renew moves VALID UNTIL, or runs the role's renew statements.
func (c *conn) Renew(ctx context.Context, name string, expires time.Time, statements []string) error {
	k := c.call("Renew", "renewing the user")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	if len(statements) == 0 {
		return c.alter(ctx, k, name, "VALID UNTIL "+text(expiration(expires)))
	}
	k.field, k.texts = "renew_statements", statements
	values, _ := c.values(name, secret.Value{}, expires)
	s, err := compile(k.field, statements, values)
	if err != nil {
		return invalid(k.op, err)
	}
	return about(ctx, c, k, name, s)
}

// SetPassword changes a password.
func (c *conn) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	k := c.call("SetPassword", "changing the password", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if password.Empty() || strings.ContainsRune(password.RevealString(), 0) {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the new password is empty or has a NUL byte in it; check the password policy"))
	}
	values, err := c.values(name, password, time.Time{})
	if err != nil {
		return invalid(k.op, err)
	}
	k.secrets = append(k.secrets, secret.Text(values["password"]))
	if len(statements) == 0 {
		return c.alter(ctx, k, name, "PASSWORD "+text(values["password"]))
	}
	k.field, k.texts = "rotation_statements", statements
	s, err := compile(k.field, statements, values)
	if err != nil {
		return invalid(k.op, err)
	}
	return about(ctx, c, k, name, s)
}

// about runs a role's statements about a user that must be there.
func about(ctx context.Context, c *conn, k call, name string, s script) error {
	m := &message{body: s.sql, resets: s.resets(), repeatable: true}
	results, err := c.change(ctx, m)
	if err == nil {
		k.pass(ctx, m.warnings)
	}
	return c.absentOr(ctx, k, name, len(results), err)
}

func (c *conn) alter(ctx context.Context, k call, name, what string) error {
	_, err := c.change(ctx, &message{body: "ALTER ROLE " + ident(name) + " WITH " + what, repeatable: true})
	return c.absentOr(ctx, k, name, 0, err)
}

// absentOr explains an error, as NotFound where it came of the user's absence.
func (c *conn) absentOr(ctx context.Context, k call, name string, done int, err error) error {
	if err != nil && sqlState(err) == "42704" {
		if there, e := c.present(ctx, name); e == nil && !there {
			return database.MarkUnchanged(&fault.Error{Op: k.op, Kind: fault.NotFound, Err: errors.New(k.scrub(err.Error())), Msg: "there is no user " + name + " in PostgreSQL; make it first, or correct the name"})
		}
	}
	return c.explain(k, done, err)
}

// Exists looks for a user.
func (c *conn) Exists(ctx context.Context, name string) (bool, error) {
	k := c.call("Exists", "looking for the user")
	if err := database.CheckName(k.op, name); err != nil {
		return false, err
	}
	there, err := c.present(ctx, name)
	return there, c.explain(k, 0, err)
}

// presence asks whether there is a role. It is a look into a cache of the server's; a query of
// pg_roles took a third as long again as a DROP ROLE.
func presence(name string) string {
	return "SELECT pg_catalog.to_regrole(" + text(ident(name)) + ") IS NOT NULL"
}

func (c *conn) present(ctx context.Context, name string) (there bool, err error) {
	err = c.repeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := ask(ctx, s, presence(name))
		there = err == nil && one(rows) == "t"
		return err
	})
	return there, err
}

// one returns the only value of an answer of ours.
func one(rows [][]string) string {
	if len(rows) == 0 || len(rows[0]) == 0 {
		return ""
	}
	return rows[0][0]
}
