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

// How long ending sessions is waited for.
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
			return report, invalid(k.op, err)
		}
	}
	err = c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		report = database.Report{}
		if len(all) == 0 {
			if err := dropAll(ctx, s, name); err != nil {
				return err
			}
		} else if err := revoke(ctx, s, name, all, &report); err != nil {
			spend(s)
			return err
		}
		if wild(all) {
			defer spend(s)
		}
		if !o.TerminateSessions {
			return nil
		}
		return evict(ctx, s, name, &report)
	})
	return report, c.explain(k, err)
}

// revoke runs a role's statements. One that fails where the user is gone fails only because of that, and the rest
// still runs: the user may have been half revoked before. Statements that drop a user mean all of its accounts, also where
// they name one that is not there, or not all.
func revoke(ctx context.Context, s *sql.Conn, name string, all []statement, report *database.Report) error {
	before, err := hosts(ctx, s, name)
	if err != nil {
		return err
	}
	drops, clearing := slices.ContainsFunc(all, dropsUser), slices.ContainsFunc(all, clears)
	if drops && !clearing { // before privileges are revoked, which tell what the user may have made
		if err := indispensable(ctx, s, name, before, false); err != nil {
			return err
		}
	}
	for i, one := range all {
		if clearing && dropsUser(one) {
			if err := indispensable(ctx, s, name, before, true); err != nil {
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
			report.Notes = append(report.Notes, fmt.Sprintf("statement %d of the role's revocation_statements failed (error %d: %s) and was passed over", i+1, number(err), numbers[number(err)][0]))
			continue
		}
		return &failed{err: cause(ctx, err), at: i, of: len(all), what: one}
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
	report.Notes = append(report.Notes, fmt.Sprintf("the role's revocation_statements left the user's accounts for the hosts %q, which were dropped as well", left))
	return dropAll(ctx, s, name)
}

// misnamed are the answers to a statement that is about an account, or privileges, that are not there.
var misnamed = []uint16{1141, 1147, 1269, 1396, 1403}

func dropsUser(s statement) bool {
	return s.word == "DROP" && s.next == "USER"
}

// clears reports whether a statement may take away, or change, what a user is the DEFINER of.
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
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		return toAll(ctx, s, name, func(accounts string) string { return "ALTER USER " + accounts + " ACCOUNT LOCK" })
	}))
}

// evict ends the user's sessions: to drop a user does not. The user is gone by now, so no new ones come.
func evict(ctx context.Context, s *sql.Conn, name string, report *database.Report) error {
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
			case 1094: // gone by itself
			default:
				report.Notes = append(report.Notes, fmt.Sprintf("the user's sessions could not be ended: %s", numbers[1095][1]))
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
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

func rest(ctx context.Context) error {
	select {
	case <-time.After(endLook):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sessions(ctx context.Context, s *sql.Conn, name string) (ids []uint64, err error) {
	rows, err := s.QueryContext(ctx, "SHOW PROCESSLIST") // its table has another name in each kind of server
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

// SettleAttempt ends the session that holds the attempt's lock. None, at a time when the server's clock has
// passed the deadline, means that none comes.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the attempt is refused; it must have a deadline, and an id of 1 to 48 of A-Z a-z 0-9 . _ -"))
	}
	err = c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		// The clock first: a session that takes the lock after this look was too late.
		late, _, err := values(ctx, s, "SELECT UTC_TIMESTAMP(6) >= ?, 0", instant(a.Deadline))
		if err != nil {
			return err
		}
		gone, err := endHolder(ctx, s, a)
		settled = gone && late.Int64 == 1
		return err
	})
	if err != nil {
		return false, c.explain(k, err)
	}
	return settled, nil
}

// endHolder ends the session that runs an attempt and reports whether there is none any more.
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
		if _, err := s.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", holder.Int64)); err != nil && number(err) != 1094 {
			return false, err
		}
		if err := rest(ctx); err != nil {
			return false, err
		}
	}
}
