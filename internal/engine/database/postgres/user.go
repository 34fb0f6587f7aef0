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

// ident quotes a name for SQL.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// text quotes a string for SQL; sessions have standard_conforming_strings on.
func quoteText(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// sessionName is the application_name of the session that runs an attempt.
func sessionName(attemptID string) string { return appName + " " + attemptID }

// fence comes before the statements of a create, in the same transaction. First it names the
// session after the attempt, then it reads the clock.
func fence(a database.Attempt) string {
	return fmt.Sprintf("SET LOCAL application_name = %s;\n"+
		"SELECT (CASE WHEN pg_catalog.clock_timestamp() < %s::pg_catalog.timestamptz THEN '0' ELSE %s "+
		"END)::pg_catalog.int4;\n",
		quoteText(sessionName(a.ID)), quoteText(instant(a.Deadline)), quoteText(tooLate))
}

const fenceResults = 2

// instant formats a deadline. Create and SettleAttempt must use the same precision.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000-0700") }

// Create runs the fence and the statements as one message, in one transaction and one round trip.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field, k.preamble, k.texts = "creation_statements", fenceResults, statements
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"creation_statements are missing: without them no user can be created; write them into the role"))
	}
	values, err := c.values(u.Name, u.Password, u.Expires)
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	u.Key.Fill(values)
	k.secrets = append(k.secrets, secret.Text(values["password"]))
	s, err := compile(k.field, statements, values)
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	m := &message{head: fence(u.Attempt), headers: fenceResults, body: s.sql, resets: s.resets()}
	results, err := c.change(ctx, m)
	if err == nil {
		k.warn(ctx, m.warnings)
		return nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42710" &&
		strings.Contains(pg.Message, u.Name) {
		return database.MarkUnchanged(
			&fault.Error{Op: k.op, Kind: fault.Conflict, Err: errors.New(k.scrub(err.Error())),
				Msg: "PostgreSQL says that the user exists already; nothing was changed; check that the username " +
					"template has {{random}} in it"})
	}
	if sqlState(err) != "" {
		rollBack(ctx, c, rollback, values)
	}
	return k.explain(len(results), err)
}

// rollBack runs a role's rollback statements after a create that PostgreSQL has rolled back. They
// undo what is outside of the transaction. A failure is only logged, because the lease is revoked
// anyway.
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

// values returns the values of the placeholders in a role's statements.
func (p *prepared) values(name string, password secret.Value, expires time.Time) (map[string]string, error) {
	v := map[string]string{"name": name, "username": name}
	if !expires.IsZero() {
		v["expiration"] = database.Expiration(expires)
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

// Renew sets VALID UNTIL, or runs the role's renew statements.
func (c *conn) Renew(ctx context.Context, name string, expires time.Time, statements []string) error {
	k := c.call("Renew", "renewing the user")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	if len(statements) == 0 {
		return c.alter(ctx, k, name, "VALID UNTIL "+quoteText(database.Expiration(expires)))
	}
	values, _ := c.values(name, secret.Value{}, expires)
	k.field = "renew_statements"
	return runForUser(ctx, c, k, name, statements, values)
}

// SetPassword changes a password.
func (c *conn) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	k := c.call("SetPassword", "changing the password", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if password.Empty() || strings.ContainsRune(password.RevealString(), 0) {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"the new password is empty or has a NUL byte in it; check the password policy"))
	}
	values, err := c.values(name, password, time.Time{})
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	k.secrets = append(k.secrets, secret.Text(values["password"]))
	if len(statements) == 0 {
		return c.alter(ctx, k, name, "PASSWORD "+quoteText(values["password"]))
	}
	k.field = "rotation_statements"
	return runForUser(ctx, c, k, name, statements, values)
}

// runForUser runs the role's statements of k.field for a user that must exist.
func runForUser(ctx context.Context, c *conn, k call, name string, statements []string,
	values map[string]string) error {
	k.texts = statements
	s, err := compile(k.field, statements, values)
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	m := &message{body: s.sql, resets: s.resets(), repeatable: true}
	results, err := c.change(ctx, m)
	if err == nil {
		k.warn(ctx, m.warnings)
	}
	return c.explainAbsent(ctx, k, name, len(results), err)
}

func (c *conn) alter(ctx context.Context, k call, name, what string) error {
	_, err := c.change(ctx, &message{body: "ALTER ROLE " + ident(name) + " WITH " + what, repeatable: true})
	return c.explainAbsent(ctx, k, name, 0, err)
}

// explainAbsent explains an error. It is NotFound if the user does not exist.
func (c *conn) explainAbsent(ctx context.Context, k call, name string, done int, err error) error {
	if err != nil && sqlState(err) == "42704" {
		if there, e := c.roleExists(ctx, name); e == nil && !there {
			return database.MarkUnchanged(
				&fault.Error{Op: k.op, Kind: fault.NotFound, Err: errors.New(k.scrub(err.Error())),
					Msg: "there is no user " + name + " in PostgreSQL; create it first, or correct the name"})
		}
	}
	return k.explain(done, err)
}

// Exists looks for a user.
func (c *conn) Exists(ctx context.Context, name string) (bool, error) {
	k := c.call("Exists", "looking for the user")
	if err := database.CheckName(k.op, name); err != nil {
		return false, err
	}
	there, err := c.roleExists(ctx, name)
	return there, k.explain(0, err)
}

// existsQuery is a query for whether a role exists. It reads a cache of the server, because a
// query of pg_roles added a third to the time of a DROP ROLE.
func existsQuery(name string) string {
	return "SELECT pg_catalog.to_regrole(" + quoteText(ident(name)) + ") IS NOT NULL"
}

func (c *conn) roleExists(ctx context.Context, name string) (there bool, err error) {
	err = c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		rows, err := query(ctx, s, existsQuery(name))
		there = err == nil && singleValue(rows) == "t"
		return err
	})
	return there, err
}
