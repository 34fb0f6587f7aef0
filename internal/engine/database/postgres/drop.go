package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// Drop runs the role's revocation statements, or ours, as one message. What
// PostgreSQL objects to is dealt with only then, since normally it does not.
func (c *conn) Drop(ctx context.Context, name string, o database.DropOptions) (database.Report, error) {
	k := c.call("Drop", "revoking the user")
	k.steps = true
	var report database.Report
	if err := database.CheckName(k.op, name); err != nil {
		return report, err
	}
	s, err := revocation(&k, name, o.Statements, c.super.Load())
	if err != nil {
		return report, invalid(k.op, err)
	}
	if o.TerminateSessions {
		if err := c.evict(ctx, name, &report); err != nil {
			return report, c.explain(k, 0, err)
		}
	}
	results, err := c.revoke(ctx, name, s, &report)
	if err == nil {
		return report, nil
	}
	if !retrievable(err) {
		return report, c.goneOr(ctx, k, name, len(results), err)
	}
	first := err
	if there, err := c.present(ctx, name); err != nil || !there {
		return report, c.explain(k, 0, err)
	}
	taken, err := c.dissolve(ctx, name)
	report.Notes = append(report.Notes, taken.notes...)
	if err != nil {
		return report, c.explain(k, 0, err)
	}
	if len(o.Statements) > 0 {
		report.Insufficient = true
		report.Notes = append(report.Notes, fmt.Sprintf("the role's revocation_statements failed (SQLSTATE %s) and were run again", sqlState(first)))
	}
	results, err = c.revoke(ctx, name, s, &report)
	if err == nil {
		return report, nil
	}
	err = c.goneOr(ctx, k, name, len(results), err)
	if f, ok := errors.AsType[*fault.Error](err); ok && len(taken.left) > 0 {
		told := *f
		told.Msg += ": " + strings.Join(taken.left, "; ")
		err = &told
	}
	return report, err
}

// revocation returns the role's statements, or ours: they hand over what the user
// owns, which makes DROP OWNED a mere revoking of privileges.
func revocation(k *call, name string, statements []string, super bool) (script, error) {
	if len(statements) > 0 {
		k.field, k.texts = "revocation_statements", statements
		return compile(k.field, statements, map[string]string{"name": name, "username": name})
	}
	role := ident(name)
	sql := "REASSIGN OWNED BY " + role + " TO CURRENT_USER; DROP OWNED BY " + role + "; DROP ROLE " + role + ";\n"
	if !super {
		sql = "GRANT " + role + " TO CURRENT_USER; " + sql // whose objects they are, others may not touch
	}
	return script{sql: ownership(name) + sql, first: []string{"DROP OWNED"}, ours: true}, nil
}

// retrievable reports whether an error came of something that dissolve can take
// away: privileges and objects, missing rights, and a membership that would be circular.
func retrievable(err error) bool {
	return slices.Contains([]string{"2BP01", "42501", "0LP01"}, sqlState(err))
}

// revoke runs the statements and looks, in the same message, whether the role is
// gone. Ours are preceded by a look at what the role owns, for the report.
func (c *conn) revoke(ctx context.Context, name string, s script, report *database.Report) ([]result, error) {
	results, err := c.change(ctx, &message{body: s.sql + presence(name), resets: s.resets(), repeatable: true})
	if err != nil {
		return results, err
	}
	if owned := one(results[0].rows); s.ours && owned != "0" {
		report.Notes = append(report.Notes, "handed "+c.admin.Scrub(owned)+" objects that the user owned to the administrator")
	}
	report.Remains = one(results[len(results)-1].rows) == "t"
	return results, nil
}

// ownership counts what a role owns in this database.
func ownership(name string) string {
	return `SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON s.refobjid = r.oid
  JOIN pg_catalog.pg_database b ON s.dbid = b.oid WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
  AND s.deptype = 'o' AND b.datname = pg_catalog.current_database() AND r.rolname = ` + text(name) + ";\n"
}

// goneOr explains an error, unless the user is gone: then the statements failed
// only because there is nothing left.
func (c *conn) goneOr(ctx context.Context, k call, name string, done int, err error) error {
	if sqlState(err) != "" {
		if there, e := c.present(ctx, name); e == nil && !there {
			return nil
		}
	}
	return c.explain(k, done, err)
}

// Disable takes the user's LOGIN away. The commit need not be durable: a server that forgets it in a crash is asked
// again, since the drop has not followed then. A session of the user's that has changed its own role and not
// committed, such as its password, would hold it up for as long as it likes, and is ended.
func (c *conn) Disable(ctx context.Context, name string) error {
	k := c.call("Disable", "taking the user's login away")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	m := &message{body: "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'; ALTER ROLE " + ident(name) + " WITH NOLOGIN", repeatable: true}
	_, err := c.change(ctx, m)
	if sqlState(err) == "55P03" {
		if _, _, err := c.endAll(ctx, name); err != nil {
			return c.explain(k, 0, err)
		}
		_, err = c.change(ctx, m)
	}
	if sqlState(err) == "42704" {
		return nil // absent
	}
	return c.explain(k, 0, err)
}

// endAll ends the sessions of a user.
func (c *conn) endAll(ctx context.Context, name string) (gone bool, ended int, err error) {
	err = c.repeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) (err error) {
		gone, ended, err = endSessions(ctx, s, "usename = "+text(name))
		if sqlState(err) == "42501" {
			if _, err = send(ctx, s, "GRANT "+ident(name)+" TO CURRENT_USER"); err == nil {
				gone, ended, err = endSessions(ctx, s, "usename = "+text(name))
			}
		}
		return err
	})
	return gone, ended, err
}

// evict ends the user's sessions. Where that is not allowed, the report says so and the user is revoked all the same.
func (c *conn) evict(ctx context.Context, name string, report *database.Report) error {
	gone, ended, err := c.endAll(ctx, name)
	switch {
	case err != nil && sqlState(err) == "":
		return err
	case err != nil:
		report.Notes = append(report.Notes, fmt.Sprintf("the user's sessions could not be ended (SQLSTATE %s): grant pg_signal_backend to the administrator", sqlState(err)))
	case !gone:
		report.Notes = append(report.Notes, "some of the user's sessions were told to end and have not yet")
	case ended > 0:
		report.Notes = append(report.Notes, fmt.Sprintf("ended %d of the user's sessions", ended))
	}
	return nil
}
