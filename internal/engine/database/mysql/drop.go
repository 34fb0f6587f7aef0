package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Limit and interval of waiting for sessions to end.
const (
	endWait = time.Second
	endLook = 20 * time.Millisecond
)

// Drop runs the role's revocation statements, or drops all accounts of the name.
func (c *conn) Drop(ctx context.Context, name string, o database.DropOptions) (report database.Report, err error) {
	k := c.call("Drop", "revoking the user")
	if err := database.CheckName(k.op, name); err != nil {
		return report, err
	}
	var all []statement
	if len(o.Statements) > 0 {
		k.field = "revocation_statements"
		if all, err = compile(k.field, o.Statements, fillings(name, secret.Value{}, time.Time{})); err != nil {
			return report, database.NotStarted(k.op, err)
		}
	}
	err = c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		report = database.Report{}
		if len(all) == 0 {
			if err := dropAll(ctx, s, name); err != nil {
				return err
			}
		} else if err := revoke(ctx, s, name, all, &report); err != nil {
			discard(s)
			return err
		}
		if changesSession(all) {
			defer discard(s)
		}
		if !o.TerminateSessions {
			return nil
		}
		return terminateSessions(ctx, s, name, &report)
	})
	return report, k.explain(err)
}

// revoke runs a role's statements. If a statement fails and the user is gone, the other statements
// still run, because an earlier revocation may have been interrupted. Statements that drop the
// user are meant for all of its accounts, even if they name only some of them, or one that does
// not exist.
func revoke(ctx context.Context, s *sql.Conn, name string, all []statement, report *database.Report) error {
	before, err := hosts(ctx, s, name)
	if err != nil {
		return err
	}
	drops, clearing := slices.ContainsFunc(all, dropsUser), slices.ContainsFunc(all, clears)
	if drops && !clearing { // before the privileges are revoked, which show whether the user can be a DEFINER
		if err := checkDefiner(ctx, s, name, before, false); err != nil {
			return err
		}
	}
	for i, one := range all {
		if clearing && dropsUser(one) {
			if err := checkDefiner(ctx, s, name, before, true); err != nil {
				return err
			}
		}
		_, err := s.ExecContext(ctx, one.sql)
		if err == nil {
			continue
		}
		if number(err) != 0 && !dying(err) {
			if left, e := hosts(ctx, s, name); e == nil && len(left) == 0 {
				continue
			}
		}
		if drops && slices.Contains(misnamed, number(err)) {
			report.Insufficient = true
			report.Notes = append(report.Notes, fmt.Sprintf(
				"statement %d of the role's revocation_statements failed (error %d: %s) and was passed over", i+1,
				number(err), numbers[number(err)][0]))
			continue
		}
		return &statementError{err: database.WithCause(ctx, err), at: i, of: len(all), what: one}
	}
	left, err := hosts(ctx, s, name)
	if err != nil || len(left) == 0 {
		return err
	}
	if !drops && len(left) == len(before) {
		report.Remains = true
		return nil
	}
	report.Insufficient = true
	report.Notes = append(report.Notes, fmt.Sprintf(
		"the role's revocation_statements left the user's accounts for the hosts %q, which were dropped as well",
		left))
	return dropAll(ctx, s, name)
}

// misnamed are the errors for a statement about an account, or privileges, that do not exist.
var misnamed = []uint16{1141, 1147, 1269, 1396, 1403}

func dropsUser(s statement) bool {
	return s.word == "DROP" && s.next == "USER"
}

// clears reports whether a statement may drop or change objects of which a user is the DEFINER.
func clears(s statement) bool {
	if s.next == "USER" && (s.word == "DROP" || s.word == "ALTER") {
		return false
	}
	return !slices.Contains([]string{"REVOKE", "GRANT", "FLUSH", "KILL", "SELECT", "DO", "SET"}, s.word)
}

// Disable locks all accounts of the name.
func (c *conn) Disable(ctx context.Context, name string) error {
	k := c.call("Disable", "locking the user")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	return k.explain(c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		return toAll(ctx, s, name, func(accounts string) string { return "ALTER USER " + accounts + " ACCOUNT LOCK" })
	}))
}

// terminateSessions ends the sessions of a user, which dropping the user does not. The user is
// gone by now, so that there are no new ones.
func terminateSessions(ctx context.Context, s *sql.Conn, name string, report *database.Report) error {
	seen := map[uint64]bool{}
	for until := time.Now().Add(endWait); ; {
		ids, err := sessions(ctx, s, name)
		if err != nil {
			return err
		}
		for _, id := range ids {
			seen[id] = true
			switch _, err := s.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id)); number(err) {
			case 0:
				if err != nil {
					return err
				}
			case 1094: // it has ended already
			default:
				report.Notes = append(report.Notes, fmt.Sprintf("the user's sessions could not be ended: %s",
					numbers[1095][1]))
				return nil
			}
		}
		switch {
		case len(ids) == 0:
			if len(seen) > 0 {
				report.Notes = append(report.Notes, fmt.Sprintf("ended %d of the user's sessions", len(seen)))
			}
			return nil
		case time.Now().After(until):
			report.Notes = append(report.Notes, "some of the user's sessions were told to end and have not yet")
			return nil
		}
		if err := waitForEnd(ctx); err != nil {
			return err
		}
	}
}

func waitForEnd(ctx context.Context) error {
	select {
	case <-time.After(endLook):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sessions(ctx context.Context, s *sql.Conn, name string) (ids []uint64, err error) {
	rows, err := s.QueryContext(ctx, "SHOW PROCESSLIST") // MySQL and MariaDB have different tables for it
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var id uint64
	var user sql.NullString
	row := make([]any, len(columns))
	for i, column := range columns {
		switch strings.ToLower(column) {
		case "id":
			row[i] = &id
		case "user":
			row[i] = &user
		default:
			row[i] = new(sql.RawBytes)
		}
	}
	for rows.Next() {
		if err := rows.Scan(row...); err != nil {
			return nil, err
		}
		if user.String == name {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// SettleAttempt ends the session that has the attempt's lock. If there is none and the server's
// clock is past the deadline, the attempt can have no effect any more.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"the attempt is refused; it must have a deadline, and an id of 1 to 48 of A-Z a-z 0-9 . _ -"))
	}
	err = c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		// The clock is read first, because a session that takes the lock afterwards is too late.
		late, _, err := values(ctx, s, "SELECT UTC_TIMESTAMP(6) >= ?, 0", instant(a.Deadline))
		if err != nil {
			return err
		}
		gone, err := endHolder(ctx, s, a)
		settled = gone && late.Int64 == 1
		return err
	})
	if err != nil {
		return false, k.explain(err)
	}
	return settled, nil
}

// endHolder ends the session that runs an attempt, and reports whether it is gone.
func endHolder(ctx context.Context, s *sql.Conn, a database.Attempt) (gone bool, err error) {
	for until := time.Now().Add(endWait); ; {
		holder, _, err := values(ctx, s, "SELECT IS_USED_LOCK(?), 0", lockName(a.ID))
		switch {
		case err != nil:
			return false, err
		case !holder.Valid:
			return true, nil
		case time.Now().After(until):
			return false, nil
		}
		if _, err := s.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", holder.Int64)); err != nil &&
			number(err) != 1094 {
			return false, err
		}
		if err := waitForEnd(ctx); err != nil {
			return false, err
		}
	}
}
