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

// lockName is the name of the lock that the session of an attempt takes.
func lockName(attemptID string) string { return "keyturn " + attemptID }

// instant formats a deadline. Create and SettleAttempt must use the same precision.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

func fillings(name string, password secret.Value, expires time.Time) map[string]string {
	v := map[string]string{"name": name, "username": name}
	if !expires.IsZero() {
		v["expiration"] = database.Expiration(expires)
	}
	if !password.Empty() {
		v["password"] = password.RevealString()
	}
	return v
}

// knowEscaped adds the escaped form of a password to the secrets of the call.
func (k *call) knowEscaped(password secret.Value) {
	quoted := quoteText(password.RevealString())
	k.secrets = append(k.secrets, secret.Text(quoted[1:len(quoted)-1]))
}

// Create runs the statements one by one after the fence.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field = "creation_statements"
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"creation_statements are missing: without them no user can be created; write them into the role"))
	}
	v := fillings(u.Name, u.Password, u.Expires)
	u.Key.Fill(v)
	all, err := compile(k.field, statements, v)
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	k.knowEscaped(u.Password)
	undone := false
	err = c.runOnce(ctx, func(ctx context.Context, s *sql.Conn) error {
		if err := fence(ctx, s, u); err != nil {
			discard(s)
			return &database.NotSent{Err: err} // the fence has no effect
		}
		if err := run(ctx, s, all); err != nil {
			if number(err) != 0 && !dying(err) && !(readOnly(err) && untouched(err)) {
				undone = c.rollBack(ctx, s, k, u.Name, rollback, v)
			}
			discard(s)
			return err
		}
		if _, err := s.ExecContext(ctx, "DO RELEASE_LOCK(?)", lockName(u.Attempt.ID)); err != nil ||
			changesSession(all) {
			discard(s) // releases the lock as well; the user exists, so that this is no error
		}
		return nil
	})
	err = k.explain(err)
	if f, ok := errors.AsType[*fault.Error](err); ok && undone && !database.Unchanged(err) {
		return database.MarkUnchanged(f)
	}
	return err
}

// fence takes the attempt's lock, then reads the clock, and checks that the name is free.
func fence(ctx context.Context, s *sql.Conn, u database.User) error {
	got, _, err := values(ctx, s, "SELECT GET_LOCK(?, 0), 0", lockName(u.Attempt.ID))
	switch {
	case err != nil:
		return err
	case got.Int64 != 1:
		return errTracked
	}
	early, taken, err := values(ctx, s,
		"SELECT UTC_TIMESTAMP(6) < ?, EXISTS (SELECT 1 FROM mysql.user WHERE User = ?)", instant(u.Attempt.Deadline),
		u.Name)
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
			return &statementError{err: database.WithCause(ctx, err), at: i, of: len(all), what: one}
		}
	}
	return nil
}

// rollBack removes what a failed create has created: it runs the role's rollback statements, and
// drops the user. It reports whether the user is gone; if not, the revocation of the lease drops
// it.
func (c *conn) rollBack(ctx context.Context, s *sql.Conn, k call, name string, rollback []string,
	v map[string]string) bool {
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

// hosts returns the hosts of a user's accounts.
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
	if err := checkDefiner(ctx, s, name, all, false); err != nil {
		return err
	}
	return toAll(ctx, s, name, func(accounts string) string { return "DROP USER " + accounts })
}

// toAll runs a statement for all accounts of a name, if there are any.
func toAll(ctx context.Context, s *sql.Conn, name string, sql func(accounts string) string) error {
	all, err := hosts(ctx, s, name)
	if err != nil || len(all) == 0 {
		return err
	}
	accounts := make([]string, len(all))
	for i, host := range all {
		accounts[i] = quoteText(name) + "@" + quoteText(host)
	}
	_, err = s.ExecContext(ctx, sql(strings.Join(accounts, ", ")))
	if number(err) == 1396 {
		// If the accounts are gone, a concurrent revocation has dropped them.
		if left, e := hosts(ctx, s, name); e == nil && len(left) == 0 {
			return nil
		}
	}
	return err
}

// Renew runs the role's renew statements. Without statements there is nothing to do, because
// accounts do not expire.
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
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"the new password is empty or has a NUL byte in it; check the password policy"))
	}
	k.knowEscaped(password)
	k.field = "rotation_statements"
	return c.alter(ctx, k, name, statements, fillings(name, password, time.Time{}), func(hosts []string) []statement {
		quoted := quoteText(password.RevealString())
		if hosts == nil {
			// MySQL and MariaDB have different statements for changing the own password without a
			// privilege.
			return []statement{
				{sql: "ALTER USER CURRENT_USER() IDENTIFIED BY " + quoted, word: "ALTER", secretive: true},
				{sql: "SET PASSWORD = PASSWORD(" + quoted + ")", word: "SET", secretive: true},
			}
		}
		accounts := make([]string, len(hosts))
		for i, host := range hosts {
			accounts[i] = fmt.Sprintf("%s@%s IDENTIFIED BY %s", quoteText(name), quoteText(host), quoted)
		}
		return []statement{{sql: "ALTER USER " + strings.Join(accounts, ", "), word: "ALTER", secretive: true}}
	})
}

// alter runs the role's statements for a user that must exist or, without any, the first default
// statement that the session may run. defaults gets no hosts if the user is the session's own and
// may not read the list of users.
func (c *conn) alter(ctx context.Context, k call, name string, statements []string, v map[string]string,
	defaults func(hosts []string) []statement) error {
	var all []statement
	k.user = name
	if len(statements) > 0 {
		var err error
		if all, err = compile(k.field, statements, v); err != nil {
			return database.NotStarted(k.op, err)
		}
	}
	return k.explain(c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		found, err := hosts(ctx, s, name)
		switch {
		case number(err) == 1142 && name == c.driver.User:
		case err != nil:
			return err
		case len(found) == 0:
			return errAbsent
		}
		if len(all) == 0 && defaults != nil {
			for _, one := range defaults(found) {
				if err = run(ctx, s, []statement{one}); number(err) != 1227 {
					break
				}
			}
		} else {
			err = run(ctx, s, all)
		}
		if changesSession(all) {
			discard(s)
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
	err = c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		found, err := hosts(ctx, s, name)
		there = len(found) > 0
		return err
	})
	return there, k.explain(err)
}

// Verify checks that a session can be opened, and that it may read the list of users.
func (c *conn) Verify(ctx context.Context) error {
	k := c.call("Verify", "connecting")
	return k.explain(c.runRepeatable(ctx, func(ctx context.Context, s *sql.Conn) error {
		_, err := hosts(ctx, s, "keyturn")
		return err
	}))
}
