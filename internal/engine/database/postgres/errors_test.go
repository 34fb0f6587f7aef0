package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
)

// TestExplain checks what an error proves. The database is unchanged only if the server or the
// missing connection proves it, and an error is a refusal only if it does not concern the server
// as a whole.
func TestExplain(t *testing.T) {
	says := func(severity, code, message string) *pgconn.PgError {
		return &pgconn.PgError{SeverityUnlocalized: severity, Code: code, Message: message, File: "x.c", Routine: "x"}
	}
	pooler := &pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "08P01", Message: "query_wait_timeout"}
	for name, tt := range map[string]struct {
		err                error
		kind               fault.Kind
		unchanged, refused bool
		want               string // in the message
	}{
		"refused": {says("ERROR", "42501", "permission denied"), fault.Upstream, true, true,
			"PostgreSQL refused creating the user"},
		"no room": {says("ERROR", "53100", "disk full"), fault.Upstream, true, false, "PostgreSQL refused"},
		"lost to another": {says("ERROR", "40001", "could not serialize"), fault.Upstream, true, true,
			"PostgreSQL refused"},
		"connection exception": {says("ERROR", "08006", "x"), fault.Upstream, true, false, "PostgreSQL refused"},
		"internal":             {says("ERROR", "XX000", "x"), fault.Upstream, true, false, "PostgreSQL refused"},
		"file missing":         {says("ERROR", "58P01", "x"), fault.Upstream, true, false, "PostgreSQL refused"},
		"a code of no class":   {says("ERROR", "4", "x"), fault.Upstream, true, false, "PostgreSQL refused"},
		"read only":            {says("ERROR", "25006", "x"), fault.Upstream, true, false, "PostgreSQL refused"},
		"shutting down":        {says("FATAL", "57P01", "terminating"), fault.Upstream, false, false, "PostgreSQL refused"},
		"ended for its own": {says("FATAL", "25P03", "idle in transaction"), fault.Upstream, false, false,
			"PostgreSQL refused"},
		"crashed": {says("PANIC", "53100", "could not write to the log"), fault.Upstream, false, false,
			"PostgreSQL refused"},
		"its own timeout": {says("ERROR", "57014", "canceling statement due to statement timeout"),
			fault.Timeout, true, false, "the server's statement_timeout; raise"},
		"canceled there": {says("ERROR", "57014", "canceling statement due to user request"), fault.Timeout,
			true, false, "pg_cancel_backend"},
		"after the deadline": {says("ERROR", "P0001", tooLate), fault.Timeout, true, true,
			"after the attempt's deadline"},
		"uncertain before": {&database.Uncertain{Err: says("ERROR", "42501", "x")}, fault.Upstream, false, true,
			"PostgreSQL refused"},
		"a pooler's":           {pooler, fault.Upstream, false, false, "the pooler"},
		"a pooler's, not sent": {&database.NotSent{Err: pooler}, fault.Upstream, true, false, "the pooler"},
		"a standby":            {errStandby, fault.Upstream, true, false, "standby"},
		"too slow":             {fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Timeout, false, false, "took too long"},
		"too slow, not sent": {&database.NotSent{Err: context.DeadlineExceeded}, fault.Timeout, true, false,
			"took too long"},
		"canceled here": {context.Canceled, fault.Unavailable, false, false, "canceled"},
		"closed":        {database.ErrClosed, fault.Unavailable, false, false, "canceled"},
		"connection lost": {errors.New("unexpected EOF"), fault.Upstream, false, false,
			"lost while creating the user"},
		"lost before it was sent": {&database.NotSent{Err: errors.New("unexpected EOF")}, fault.Upstream, true, false,
			"lost while"},
	} {
		k := call{op: "postgres.Create", doing: "creating the user"}
		err := k.explain(0, tt.err)
		code := ""
		if pg, answered := errors.AsType[*pgconn.PgError](tt.err); answered {
			code = "SQLSTATE " + pg.Code
		}
		databasetest.Told{Kind: tt.kind, Unchanged: tt.unchanged, Refused: tt.refused, Want: tt.want,
			Code: code}.Check(t, name, err)
		k.steps = true
		if database.Unchanged(k.explain(0, tt.err)) {
			t.Errorf("%s: a call of several messages is called unchanged", name)
		}
	}
	if err := (call{}).explain(0, nil); err != nil {
		t.Errorf("no error: %v", err)
	}
}

// TestExplainNamesTheStatement checks that the error names the statement that failed, and quotes a
// name from the server's message only if the statements contain it.
func TestExplainNamesTheStatement(t *testing.T) {
	k := call{doing: "creating the user", field: "creation_statements", preamble: 1,
		texts: []string{`GRANT x ON app_table TO "{{name}}"`}}
	for done, want := range map[int]string{0: "statement 1 of creation_statements", 1: "statement 1 of",
		2: "statement 2 of", 5: "statement 5 of"} {
		pg := &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "42P01",
			Message: `relation "app_table" is not near "secret_table"`, Detail: "of the log", File: "x.c"}
		err := k.explain(done, pg)
		got := fault.Message(err)
		if !strings.Contains(got, want) || !strings.Contains(got, ": app_table: ") ||
			strings.Contains(got, "secret_table") || strings.Contains(got, "of the log") {
			t.Errorf("after %d: %q, want %q in it", done, got, want)
		}
		if cause := fault.Cause(err); cause == nil || !strings.Contains(cause.Error(), "(of the log)") {
			t.Errorf("the cause is %v, want the server's detail in it", cause)
		}
	}
	for _, message := range []string{`relation "secret_table" is not near app_table`, `app_table "zz"app_table"`,
		`"1app_table"`, "x"} {
		if got := k.quoted(&pgconn.PgError{Message: message}); got != "" {
			t.Errorf("%s: it quotes %q", message, got)
		}
	}
}
