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

// Drop runs the role's revocation statements, or the default ones, as one message. It handles the
// objections of PostgreSQL only if there are any, because normally there are none.
func (c *conn) Drop(ctx context.Context, name string, o database.DropOptions) (database.Report, error) {
	k := c.call("Drop", "revoking the user")
	k.steps = true
	var report database.Report
	if err := database.CheckName(k.op, name); err != nil {
		return report, err
	}
	s, err := revocation(&k, name, o.Statements, c.super.Load())
	if err != nil {
		return report, database.NotStarted(k.op, err)
	}
	if o.TerminateSessions {
		if err := c.terminateSessions(ctx, name, &report); err != nil {
			return report, k.explain(0, err)
		}
	}
	results, err := c.revoke(ctx, name, s, &report)
	if err == nil {
		return report, nil
	}
	if !removable(err) {
		return report, c.explainUnlessGone(ctx, k, name, len(results), err)
	}
	firstErr := err
	if there, err := c.roleExists(ctx, name); err != nil || !there {
		return report, k.explain(0, err)
	}
	taken, err := c.dissolve(ctx, name)
	report.Notes = append(report.Notes, taken.notes...)
	if err != nil {
		return report, k.explain(0, err)
	}
	if len(o.Statements) > 0 {
		report.Insufficient = true
		report.Notes = append(report.Notes,
			fmt.Sprintf("the role's revocation_statements failed (SQLSTATE %s) and were run again",
				sqlState(firstErr)))
	}
	results, err = c.revoke(ctx, name, s, &report)
	if err == nil {
		return report, nil
	}
	err = c.explainUnlessGone(ctx, k, name, len(results), err)
	if f, ok := errors.AsType[*fault.Error](err); ok && len(taken.left) > 0 {
		detailed := *f
		detailed.Msg += ": " + strings.Join(taken.left, "; ")
		err = &detailed
	}
	return report, err
}

// revocation returns the role's statements, or the default ones. These reassign the objects of the
// user first, so that DROP OWNED only revokes privileges.
func revocation(k *call, name string, statements []string, super bool) (script, error) {
	if len(statements) > 0 {
		k.field, k.texts = "revocation_statements", statements
		return compile(k.field, statements, map[string]string{"name": name, "username": name})
	}
	role := ident(name)
	sql := "REASSIGN OWNED BY " + role + " TO CURRENT_USER; DROP OWNED BY " + role + "; DROP ROLE " + role + ";\n"
	if !super {
		sql = "GRANT " + role + " TO CURRENT_USER; " + sql // others may not reassign the objects
	}
	return script{sql: ownership(name) + sql, first: []string{"DROP OWNED"}, ours: true}, nil
}

// removable reports whether dissolve can remove the cause of an error: privileges and objects of
// the user, missing rights of the administrator, or a circular membership.
func removable(err error) bool {
	return slices.Contains([]string{"2BP01", "42501", "0LP01"}, sqlState(err))
}

// revoke runs the statements and checks, in the same message, whether the role is gone. The
// default statements first count what the role owns, for the report.
func (c *conn) revoke(ctx context.Context, name string, s script, report *database.Report) ([]result, error) {
	results, err := c.change(ctx, &message{body: s.sql + existsQuery(name), resets: s.resets(), repeatable: true})
	if err != nil {
		return results, err
	}
	if owned := singleValue(results[0].rows); s.ours && owned != "0" {
		report.Notes = append(report.Notes,
			"handed "+c.admin.Scrub(owned)+" objects that the user owned to the administrator")
	}
	report.Remains = singleValue(results[len(results)-1].rows) == "t"
	return results, nil
}

// ownership is a query that counts what a role owns in this database.
func ownership(name string) string {
	return `SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON s.refobjid = r.oid
  JOIN pg_catalog.pg_database b ON s.dbid = b.oid WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
  AND s.deptype = 'o' AND b.datname = pg_catalog.current_database() AND r.rolname = ` + quoteText(name) + ";\n"
}

// explainUnlessGone explains an error. If the user is gone, it returns nil, because the statements
// failed only for lack of a user.
func (c *conn) explainUnlessGone(ctx context.Context, k call, name string, done int, err error) error {
	if sqlState(err) != "" {
		if there, e := c.roleExists(ctx, name); e == nil && !there {
			return nil
		}
	}
	return k.explain(done, err)
}

// Disable removes LOGIN from the user. The commit need not be durable: if the server loses it in a
// crash, the user was not dropped either, and the revocation is retried. Disable ends sessions of
// the user that have an uncommitted change of their own role, such as a new password, because
// these would block it.
func (c *conn) Disable(ctx context.Context, name string) error {
	k := c.call("Disable", "taking the user's login away")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	m := &message{body: "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'; ALTER ROLE " +
		ident(name) + " WITH NOLOGIN", repeatable: true}
	_, err := c.change(ctx, m)
	if sqlState(err) == "55P03" {
		if _, _, err := c.endUserSessions(ctx, name); err != nil {
			return k.explain(0, err)
		}
		_, err = c.change(ctx, m)
	}
	if sqlState(err) == "42704" {
		return nil // absent
	}
	return k.explain(0, err)
}

// endUserSessions ends the sessions of a user.
func (c *conn) endUserSessions(ctx context.Context, name string) (gone bool, ended int, err error) {
	err = c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) (err error) {
		gone, ended, err = endSessions(ctx, s, "usename = "+quoteText(name))
		if sqlState(err) == "42501" {
			if _, err = send(ctx, s, "GRANT "+ident(name)+" TO CURRENT_USER"); err == nil {
				gone, ended, err = endSessions(ctx, s, "usename = "+quoteText(name))
			}
		}
		return err
	})
	return gone, ended, err
}

// terminateSessions ends the sessions of the user. If it may not, it says so in the report, and
// the user is revoked all the same.
func (c *conn) terminateSessions(ctx context.Context, name string, report *database.Report) error {
	gone, ended, err := c.endUserSessions(ctx, name)
	switch {
	case err != nil && sqlState(err) == "":
		return err
	case err != nil:
		report.Notes = append(report.Notes, fmt.Sprintf(
			"the user's sessions could not be ended (SQLSTATE %s): grant pg_signal_backend to the administrator",
			sqlState(err)))
	case !gone:
		report.Notes = append(report.Notes, "some of the user's sessions were told to end and have not yet")
	case ended > 0:
		report.Notes = append(report.Notes, fmt.Sprintf("ended %d of the user's sessions", ended))
	}
	return nil
}
