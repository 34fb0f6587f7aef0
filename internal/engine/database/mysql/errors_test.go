package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestExplain checks what an error proves. The database is unchanged only if the server or the
// missing connection proves it, and an error is a refusal only if it does not concern the server
// as a whole.
func TestExplain(t *testing.T) {
	says := func(n uint16) *mysql.MySQLError {
		return &mysql.MySQLError{Number: n, SQLState: [5]byte{'4', '2', '0', '0', '0'},
			Message: "Canary of the server"}
	}
	lacks := &mysql.MySQLError{Number: 1227,
		Message: "Access denied; you need (at least one of) the CREATE USER, SUPER privilege(s) for this operation"}
	plain := statement{sql: "x", word: "CREATE"}
	for name, tt := range map[string]struct {
		err                error
		kind               fault.Kind
		unchanged, refused bool
		want               string // in the message
	}{
		"refused": {says(1396), fault.Upstream, true, true,
			"MySQL refused creating the user: the server could not do that to the user"},
		"of words that are not ours": {says(65000), fault.Upstream, true, true,
			"error 65000; the server's words are in the log"},
		"a privilege":            {lacks, fault.Upstream, true, true, "GRANT it CREATE USER or SUPER"},
		"a privilege, not named": {says(1227), fault.Upstream, true, true, "give it CREATE USER"},
		"the only statement": {&statementError{err: says(1064), at: 0, of: 1, what: plain}, fault.Upstream,
			true, true, "refused statement 1 of creation_statements"},
		"a later statement": {&statementError{err: says(1064), at: 2, of: 3, what: plain}, fault.Upstream,
			false, true, "refused statement 3 of creation_statements"},
		"the first of several": {&statementError{err: says(1064), at: 0, of: 2, what: plain}, fault.Upstream,
			false, true, "refused statement 1 of creation_statements"},
		"disk full":        {says(1021), fault.Upstream, true, false, "its disk is full"},
		"read only":        {says(1290), fault.Upstream, true, false, "connect to the primary"},
		"shutting down":    {says(1053), fault.Upstream, false, false, "shutting down"},
		"session killed":   {says(1927), fault.Upstream, false, false, "error 1927"},
		"uncertain before": {&database.Uncertain{Err: says(1396)}, fault.Upstream, false, true, "MySQL refused"},
		"not sent":         {&database.NotSent{Err: says(1396)}, fault.Upstream, true, false, "MySQL refused"},
		"not let in": {&connectError{says(1045)}, fault.Upstream, true, false,
			"cannot connect to MySQL: wrong username or password"},
		"no connection": {&connectError{errors.New("x")}, fault.Upstream, true, false,
			"cannot connect to MySQL: the log has the reason"},
		"no TLS":    {&connectError{mysql.ErrNoTLS}, fault.Upstream, true, false, "the server has no TLS"},
		"no answer": {&connectError{context.DeadlineExceeded}, fault.Timeout, true, false, "does not answer in time"},
		"too slow":  {context.DeadlineExceeded, fault.Timeout, false, false, "took too long"},
		"too late":  {errTooLate, fault.Timeout, true, false, "after the attempt's deadline"},
		"taken":     {errTaken, fault.Conflict, true, false, "has a user of this name already"},
		"absent":    {errAbsent, fault.NotFound, true, false, "there is no user v-app"},
		"tracked":   {errTracked, fault.Upstream, true, false, "another session"},
		"blind": {errors.Join(errBlind, says(1142)), fault.Upstream, true, true,
			"may not read the list of users (error 1142)"},
		"a definer": {&definerError{objects: []string{"v"}}, fault.Upstream, false, true,
			"the user is the DEFINER of v"},
		"canceled": {context.Canceled, fault.Unavailable, false, false, "creating the user was canceled"},
		"closed":   {database.ErrClosed, fault.Unavailable, false, false, "creating the user was canceled"},
		"denied":   {fault.New("x", fault.Denied, "not this host"), fault.Denied, true, false, "not this host"},
		"lost":     {mysql.ErrInvalidConn, fault.Upstream, false, false, "lost while creating the user"},
	} {
		k := call{op: "mysql.Create", doing: "creating the user", field: "creation_statements", user: "v-app"}
		err := k.explain(tt.err)
		code := ""
		if my, answered := errors.AsType[*mysql.MySQLError](tt.err); answered {
			code = fmt.Sprintf("error %d", my.Number)
		}
		databasetest.Told{Kind: tt.kind, Unchanged: tt.unchanged, Refused: tt.refused, Want: tt.want,
			Code: code}.Check(t, name, err)
	}
	if err := (call{}).explain(nil); err != nil {
		t.Errorf("no error: %v", err)
	}
}

// TestLogged checks that the server's message is logged unless it quotes a statement with the
// password.
func TestLogged(t *testing.T) {
	for name, tt := range map[string]struct {
		number uint16
		what   *statement
		kept   bool
	}{
		"an error":                        {1396, nil, true},
		"of a statement":                  {1396, &statement{}, true},
		"of a statement with a password":  {1396, &statement{secretive: true}, false},
		"of syntax":                       {1064, nil, false},
		"of syntax, without any password": {1064, &statement{}, false},
	} {
		var err error = &mysql.MySQLError{Number: tt.number, Message: "near 'Canary"}
		if tt.what != nil {
			err = &statementError{err: err, what: *tt.what, of: 1}
		}
		got := logged(err)
		if strings.Contains(got, "Canary") != tt.kept || !strings.Contains(got, "1") {
			t.Errorf("%s: %q, want the server's words: %v", name, got, tt.kept)
		}
	}
}

// TestTLSFields checks how the fields for TLS decide about verification and the name.
func TestTLSFields(t *testing.T) {
	for _, tt := range []struct {
		url    string
		extra  map[string]string
		skip   bool
		name   string
		hasTLS bool
	}{
		{"u:p@tcp(db:3306)/", nil, false, "", false},
		{"u:p@tcp(db:3306)/", map[string]string{"tls_skip_verify": "false"}, false, "", false},
		{"u:p@tcp(db:3306)/", map[string]string{"tls_skip_verify": "true"}, true, "db", true},
		{"u:p@tcp(db:3306)/", map[string]string{"tls_server_name": "other"}, false, "other", true},
		{"u:p@tcp(db:3306)/", map[string]string{"tls_server_name": "other", "tls_skip_verify": "false"}, false,
			"other", true},
		{"u:p@tcp(db:3306)/?tls=true", nil, false, "db", true},
		{"u:p@tcp(db:3306)/?tls=skip-verify", nil, true, "", true},
		{"u:p@tcp(db:3306)/?tls=skip-verify", map[string]string{"tls_server_name": "other"}, false, "other", true},
	} {
		c := database.Config{URL: secret.Text(tt.url), Extra: tt.extra}
		d, err := parseDSN(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := checkTLS(c, d)
		if err != nil || (got != nil) != tt.hasTLS {
			t.Errorf("%s %v: %v, %v", tt.url, tt.extra, got, err)
			continue
		}
		if got != nil && (got.InsecureSkipVerify != tt.skip || got.ServerName != tt.name && tt.name != "") {
			t.Errorf("%s %v: verifies %v, by the name %q", tt.url, tt.extra, !got.InsecureSkipVerify, got.ServerName)
		}
	}
}
