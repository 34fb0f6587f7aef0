package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// lockName is the lock that the session of an attempt holds.
func lockName(attemptID string) string { return "keyturn " + attemptID }

// instant writes a deadline exactly enough: both who create and who settle write it so.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// expiration writes a time as {{expiration}}: to the second, and never earlier than the lease's end.
func expiration(t time.Time) string {
	whole := t.UTC().Truncate(time.Second)
	if whole.Before(t) {
		whole = whole.Add(time.Second)
	}
	return whole.Format("2006-01-02 15:04:05-0700")
}

func fillings(name string, password secret.Value, expires time.Time) map[string]string {
	v := map[string]string{"name": name, "username": name}
	if !expires.IsZero() {
		v["expiration"] = expiration(expires)
	}
	if !password.Empty() {
		v["password"] = password.RevealString()
	}
	return v
}

// invalid marks an error that came before anything was sent.
func invalid(op string, err error) error {
	return database.MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
}

// knowEscaped lets a call's errors hide a password in the form that statements give it, too.
func (k *call) knowEscaped(password secret.Value) {
	quoted := text(password.RevealString())
	k.secrets = append(k.secrets, secret.Text(quoted[1:len(quoted)-1]))
}

// Create runs the statements one by one behind the fence: the attempt's lock, then the clock.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field = "creation_statements"
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "creation_statements are missing: without them no user can be made; write them into the role"))
	}
	v := fillings(u.Name, u.Password, u.Expires)
	u.Key.Fill(v)
	all, err := compile(k.field, statements, v)
	if err != nil {
		return invalid(k.op, err)
	}
	k.knowEscaped(u.Password)
	undone := false
	err = c.unsent(ctx, func(ctx context.Context, s *sql.Conn) error {
		if err := fence(ctx, s, u); err != nil {
			spend(s)
			return &notSent{err} // nothing that has an effect
		}
		if err := run(ctx, s, all); err != nil {
			if number(err) != 0 && !dying(err) && !(readOnly(err) && untouched(err)) {
				undone = c.rollBack(ctx, s, k, u.Name, rollback, v)
			}
			spend(s)
			return err
		}
		if _, err := s.ExecContext(ctx, "DO RELEASE_LOCK(?)", lockName(u.Attempt.ID)); err != nil || wild(all) {
			spend(s) // and the lock with it; the user is there, which is what was asked for
		}
		return nil
	})
	err = c.explain(k, err)
	if f, ok := errors.AsType[*fault.Error](err); ok && undone && !database.Unchanged(err) {
		return database.MarkUnchanged(f)
	}
	return err
}

// fence takes the attempt's lock and only then reads the clock. It also looks that the name is free.
func fence(ctx context.Context, s *sql.Conn, u database.User) error {
	got, _, err := values(ctx, s, "SELECT GET_LOCK(?, 0), 0", lockName(u.Attempt.ID))
	switch {
	case err != nil:
		return err
	case got.Int64 != 1:
		return errTracked
	}
	early, taken, err := values(ctx, s, "SELECT UTC_TIMESTAMP(6) < ?, EXISTS (SELECT 1 FROM mysql.user WHERE User = ?)", instant(u.Attempt.Deadline), u.Name)
	switch {
	case err != nil:
		return err
	case early.Int64 != 1:
		return errTooLate
	case taken.Int64 != 0:
		return errTaken
	}
	return nil
}

// run runs statements until one fails.
func run(ctx context.Context, s *sql.Conn, all []statement) error {
	for i, one := range all {
		if _, err := s.ExecContext(ctx, one.sql); err != nil {
			return &failed{err: cause(ctx, err), at: i, of: len(all), what: one}
		}
	}
	return nil
}

// rollBack takes away what a failed create has made: what the role's rollback statements say, and the user in
// any case. It reports whether the user is gone; otherwise undoing the lease comes anyway.
func (c *conn) rollBack(ctx context.Context, s *sql.Conn, k call, name string, rollback []string, v map[string]string) bool {
	if len(rollback) > 0 {
		all, err := compile("rollback_statements", rollback, v)
		if err == nil {
			err = run(ctx, s, all)
		}
		if err != nil {
			c.log.Warn("running rollback_statements failed", "user", name, "error", k.scrub(logged(err)))
		}
	}
	err := dropAll(ctx, s, name)
	if err != nil {
		c.log.Warn("removing what a failed create has made", "user", name, "error", k.scrub(err.Error()))
	}
	return err == nil
}

// hosts are those that a user has accounts for.
func hosts(ctx context.Context, s *sql.Conn, name string) (all []string, err error) {
	rows, err := s.QueryContext(ctx, "SELECT Host FROM mysql.user WHERE User = ?", name)
	if n := number(err); n == 1142 || n == 1143 {
		err = errors.Join(errBlind, err)
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var host string
		if err := rows.Scan(&host); err != nil {
			return nil, err
		}
		all = append(all, host)
	}
	return all, rows.Err()
}

// dropAll removes a user with all of its accounts. Removing none succeeds.
func dropAll(ctx context.Context, s *sql.Conn, name string) error {
	all, err := hosts(ctx, s, name)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := indispensable(ctx, s, name, all, false); err != nil {
		return err
	}
	return toAll(ctx, s, name, func(accounts string) string { return "DROP USER " + accounts })
}

// toAll runs a statement about all accounts of a name, if there are any.
func toAll(ctx context.Context, s *sql.Conn, name string, sql func(accounts string) string) error {
	all, err := hosts(ctx, s, name)
	if err != nil || len(all) == 0 {
		return err
	}
	accounts := make([]string, len(all))
	for i, host := range all {
		accounts[i] = text(name) + "@" + text(host)
	}
	_, err = s.ExecContext(ctx, sql(strings.Join(accounts, ", ")))
	if number(err) == 1396 {
		// Another revocation was faster, or some of them are left: then it is an error.
		if left, e := hosts(ctx, s, name); e == nil && len(left) == 0 {
			return nil
		}
	}
	return err
}

// Renew runs the role's renew statements. Without any there is nothing to do: accounts do not expire by a time.
func (c *conn) Renew(ctx context.Context, name string, expires time.Time, statements []string) error {
	k := c.call("Renew", "renewing the user")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	k.field = "renew_statements"
	return c.alter(ctx, k, name, statements, fillings(name, secret.Value{}, expires), nil)
}

// SetPassword changes the password of all accounts of the name.
func (c *conn) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	k := c.call("SetPassword", "changing the password", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if password.Empty() || strings.ContainsRune(password.RevealString(), 0) {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the new password is empty or has a NUL byte in it; check the password policy"))
	}
	k.knowEscaped(password)
	k.field = "rotation_statements"
	return c.alter(ctx, k, name, statements, fillings(name, password, time.Time{}), func(hosts []string) []statement {
		quoted := text(password.RevealString())
		if hosts == nil {
			// MySQL and MariaDB agree on no words for one's own password that need no privilege.
			return []statement{
				{sql: "ALTER USER CURRENT_USER() IDENTIFIED BY " + quoted, word: "ALTER", secretive: true},
				{sql: "SET PASSWORD = PASSWORD(" + quoted + ")", word: "SET", secretive: true},
			}
		}
		accounts := make([]string, len(hosts))
		for i, host := range hosts {
			accounts[i] = fmt.Sprintf("%s@%s IDENTIFIED BY %s", text(name), text(host), quoted)
		}
		return []statement{{sql: "ALTER USER " + strings.Join(accounts, ", "), word: "ALTER", secretive: true}}
	})
}

// alter runs statements, or the first of ours that the session is allowed, about a user that must be there. Ours gets
// no hosts where the user is the one of the session, and may not see the list of users: it changes itself.
func (c *conn) alter(ctx context.Context, k call, name string, statements []string, v map[string]string, ours func(hosts []string) []statement) error {
	var all []statement
	k.user = name
	if len(statements) > 0 {
		var err error
		if all, err = compile(k.field, statements, v); err != nil {
			return invalid(k.op, err)
		}
	}
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		found, err := hosts(ctx, s, name)
		switch {
		case number(err) == 1142 && name == c.driver.User:
		case err != nil:
			return err
		case len(found) == 0:
			return errAbsent
		}
		if len(all) == 0 && ours != nil {
			for _, one := range ours(found) {
				if err = run(ctx, s, []statement{one}); number(err) != 1227 {
					break
				}
			}
		} else {
			err = run(ctx, s, all)
		}
		if wild(all) {
			spend(s)
		}
		if number(err) == 1396 {
			if left, e := hosts(ctx, s, name); e == nil && len(left) == 0 {
				return errAbsent
			}
		}
		return err
	}))
}

// Exists looks for a user.
func (c *conn) Exists(ctx context.Context, name string) (there bool, err error) {
	k := c.call("Exists", "looking for the user")
	if err := database.CheckName(k.op, name); err != nil {
		return false, err
	}
	err = c.repeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		found, err := hosts(ctx, s, name)
		there = len(found) > 0
		return err
	})
	return there, c.explain(k, err)
}
