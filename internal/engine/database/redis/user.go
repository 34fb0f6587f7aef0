package redis

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// sessionName is what the session of an attempt is called.
func sessionName(attemptID string) string { return idleName + "-" + attemptID }

// passwordRule makes a password a user's, by its hash.
func passwordRule(password secret.Value) string {
	sum := sha256.Sum256(password.Reveal())
	return "#" + hex.EncodeToString(sum[:])
}

// kept appends the command that keeps the list over a restart, where one was asked for.
func (c *conn) kept(commands ...[]string) [][]string {
	if c.persist == nil {
		return commands
	}
	return append(commands, c.persist)
}

// nobody is an id that no session has.
const nobody = "9223372036854775807"

// Verify proves that a session can be had, and that it may do what the others need.
func (c *conn) Verify(ctx context.Context) error {
	k := c.call("Verify", "connecting")
	return c.explain(k, c.visit(ctx, func(ctx context.Context, v *visit) error {
		return v.look(ctx, func(ctx context.Context, s *session) error {
			_, err := s.do(ctx, []string{"TIME"}, []string{"ACL", "GETUSER", idleName + "-verify"},
				[]string{"CLIENT", "LIST"}, []string{"CLIENT", "KILL", "ID", nobody})
			return err
		})
	}))
}

// Create makes the user with one command at each server, behind a fence at all of them.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field = "creation_statements"
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"creation_statements are missing: without rules a user may do nothing; write them into the role"))
	}
	if len(rollback) > 0 {
		return database.MarkUnchanged(
			fault.New(k.op, fault.Invalid, "rollback_statements: Redis has none; leave them out"))
	}
	given, err := rules(statements)
	if err != nil {
		return database.NotStarted(k.op, err)
	}
	k.rules = given
	set := append([]string{"ACL", "SETUSER", u.Name, "reset", "on", passwordRule(u.Password)}, given...)
	var left []string
	err = c.visit(ctx, func(ctx context.Context, v *visit) error {
		errs := v.each(ctx, func(ctx context.Context, s *session) error { return fence(ctx, s, u) })
		left, errs = v.leaveDown(errs)
		if err := v.worst(errs); err != nil {
			return &database.NotSent{Err: err}
		}
		return v.change(ctx, func(ctx context.Context, s *session) error { return c.put(ctx, s, u.Name, set) })
	})
	if err == nil && len(left) > 0 {
		database.Warn(ctx,
			"the user was not made at "+strings.Join(left, ", ")+": the other servers count it as down, and it "+
				"serves nothing; when it is back it does not know the user")
	}
	return c.explain(k, err)
}

// leaveDown leaves out servers that cannot be reached, where the others count them as down and
// they serve nothing: a replica, or a primary from before a fail-over. Nobody uses them, and the
// outage of one must not keep users from being issued.
func (v *visit) leaveDown(errs []error) (left []string, rest []error) {
	var servers []server
	var sessions []*session
	for i, to := range v.servers {
		if _, connecting := errors.AsType[*connectError](errs[i]); to.down && connecting {
			left = append(left, to.address)
			continue
		}
		servers, sessions, rest = append(servers, to), append(sessions, v.sessions[i]), append(rest, errs[i])
	}
	v.servers, v.sessions = servers, sessions
	return left, rest
}

// fence names the session after the attempt and only then reads the clock. It also looks that the
// name is free.
func fence(ctx context.Context, s *session, u database.User) error {
	s.broken = true // with the attempt's name it is of no other use
	replies, err := s.do(ctx, []string{"CLIENT", "SETNAME", sessionName(u.Attempt.ID)}, []string{"TIME"},
		[]string{"ACL", "GETUSER", u.Name})
	if err != nil {
		return err
	}
	now, err := clock(replies[1])
	switch {
	case err != nil:
		return err
	case !now.Before(u.Attempt.Deadline):
		return errTooLate
	case replies[2] != nil:
		return errTaken
	}
	return nil
}

// put makes a user whose fence is up.
func (c *conn) put(ctx context.Context, s *session, name string, set []string) error {
	replies, err := s.do(ctx, append(c.kept(set), []string{"CLIENT", "SETNAME", idleName})...)
	said, answered := errors.AsType[*answer](err)
	s.broken = len(replies) == 0 || replies[len(replies)-1] != any("OK")
	switch {
	case !answered:
		return err
	case said.at == 0:
		return &database.NotSent{Err: err} // the server took no part of it
	}
	// The user is there, and would not be after a restart: that is not what was asked for.
	if _, e := s.do(ctx, []string{"ACL", "DELUSER", name}); e == nil {
		return &database.NotSent{Err: err}
	}
	return err
}

// clock reads the reply to TIME.
func clock(reply any) (time.Time, error) {
	parts := texts(reply)
	if len(parts) != 2 {
		return time.Time{}, errProtocol
	}
	seconds, err1 := strconv.ParseInt(parts[0], 10, 64)
	micros, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err1 != nil || err2 != nil {
		return time.Time{}, errProtocol
	}
	return time.Unix(seconds, micros*1000), nil
}

// none refuses statements of which Redis has none.
func none(op, field string, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	return database.MarkUnchanged(fault.New(op, fault.Invalid, "%s: Redis has none; leave them out", field))
}

// Renew only looks that the user is there: users of Redis do not expire by themselves.
func (c *conn) Renew(ctx context.Context, name string, _ time.Time, statements []string) error {
	k := c.call("Renew", "renewing the user")
	k.user = name
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	if err := none(k.op, "renew_statements", statements); err != nil {
		return err
	}
	there, err := c.exists(ctx, name)
	if err == nil && !there {
		err = errAbsent
	}
	return c.explain(k, err)
}

// exists reports whether a server has the user. That none has it takes all to say.
func (c *conn) exists(ctx context.Context, name string) (there bool, err error) {
	err = c.visit(ctx, func(ctx context.Context, v *visit) error {
		errs := v.each(ctx, func(ctx context.Context, s *session) error { return present(ctx, s, name) })
		if there = slices.Contains(errs, nil); there {
			return nil
		}
		errs, _ = without(errs, errAbsent)
		return v.worst(errs)
	})
	return there, err
}

// without takes an error out, and reports whether it was there.
func without(errs []error, is error) (rest []error, had bool) {
	rest = slices.Clone(errs)
	for i, err := range rest {
		if errors.Is(err, is) {
			rest[i], had = nil, true
		}
	}
	return rest, had
}

// present returns errAbsent where there is no such user.
func present(ctx context.Context, s *session, name string) error {
	replies, err := s.do(ctx, []string{"ACL", "GETUSER", name})
	if err == nil && replies[0] == nil {
		err = errAbsent
	}
	return err
}

// SetPassword makes the password the only one of the user. The command would make a user that is
// not there, without any rights; that one who removes it at the same time may leave behind.
//
// At several servers the user first has the new password beside the old one, at all of them, and
// only then the new one alone: one of the two always works everywhere, so that a call that breaks
// off can be repeated, even by the user itself.
func (c *conn) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	k := c.call("SetPassword", "changing the password", password)
	k.user = name
	if err := database.CheckGivenName(k.op, name); err != nil {
		return err
	}
	if err := none(k.op, "rotation_statements", statements); err != nil {
		return err
	}
	if password.Empty() {
		return database.MarkUnchanged(
			fault.New(k.op, fault.Invalid, "the new password is empty; check the password policy"))
	}
	set := func(v *visit, commands ...[]string) error {
		return v.change(ctx, func(ctx context.Context, s *session) error {
			_, err := s.do(ctx, commands...)
			if said, ok := errors.AsType[*answer](err); ok && said.at == 0 {
				return &database.NotSent{Err: err}
			}
			return err
		})
	}
	return c.explain(k, c.visit(ctx, func(ctx context.Context, v *visit) error {
		if err := v.look(ctx,
			func(ctx context.Context, s *session) error { return present(ctx, s, name) }); err != nil {
			return &database.NotSent{Err: err}
		}
		beside := len(v.servers) > 1
		if beside {
			if err := set(v, []string{"ACL", "SETUSER", name, passwordRule(password)}); err != nil {
				return err
			}
		}
		err := set(v, c.kept([]string{"ACL", "SETUSER", name, "resetpass", passwordRule(password)})...)
		if err != nil && beside {
			return &partly{err}
		}
		return err
	}))
}

// Login logs in as the user, on a connection of its own to each server.
func (c *conn) Login(ctx context.Context, name string, password secret.Value) (ok bool, err error) {
	k := c.call("Login", "trying the login", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	err = c.visit(ctx, func(ctx context.Context, v *visit) error {
		errs := v.all(ctx, func(ctx context.Context, _ int, to server) error { return c.try(ctx, to, name, password) })
		errs, refused := without(errs, errRefused)
		if err := v.worst(errs); err != nil {
			return &database.NotSent{Err: err}
		}
		ok = !refused
		if name == c.username || ok && len(v.servers) == 1 {
			return nil
		}
		return conclusive(ctx, k, v, name, ok)
	})
	if said, answered := errors.AsType[*answer](err); answered && said.word() == "WRONGPASS" && name == c.username &&
		password.Equal(c.config.Password) {
		return false, nil // it is what the servers were to be asked for with
	}
	if fault.Is(err, fault.Unsupported) {
		return false, err
	}
	return ok && err == nil, c.explain(k, err)
}

// try logs in at one server.
func (c *conn) try(ctx context.Context, to server, name string, password secret.Value) error {
	s, err := c.connect(ctx, to)
	if err != nil {
		return &database.NotSent{Err: err}
	}
	defer s.shut()
	err = s.authenticate(ctx, []string{"AUTH", name, password.RevealString()})
	if said, answered := errors.AsType[*answer](err); answered && said.word() == "WRONGPASS" {
		return errRefused
	}
	if err != nil {
		return &database.NotSent{Err: err}
	}
	return nil
}

// conclusive returns nil where a login means what it says. Redis answers the same to who has been
// switched off; and of several servers one may still take another password, because a change has
// broken off.
func conclusive(ctx context.Context, k call, v *visit, name string, ok bool) error {
	var off, others atomic.Bool
	err := v.look(ctx, func(ctx context.Context, s *session) error {
		replies, err := s.do(ctx, []string{"ACL", "GETUSER", name})
		if err != nil {
			return err
		}
		if slices.Contains(texts(value(replies[0], "flags")), "off") {
			off.Store(true)
		}
		if len(texts(value(replies[0], "passwords"))) > 1 {
			others.Store(true)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !ok && off.Load():
		return database.MarkUnchanged(
			fault.New(k.op, fault.Unsupported, "%s cannot log in to Redis: the user is off; ACL SETUSER %s on", name,
				name))
	case ok && others.Load():
		return database.MarkUnchanged(
			fault.New(k.op, fault.Unsupported, "%s can log in to Redis with another password, too; rotate it", name))
	}
	return nil
}

// Exists looks for a user.
func (c *conn) Exists(ctx context.Context, name string) (bool, error) {
	k := c.call("Exists", "looking for the user")
	if err := database.CheckName(k.op, name); err != nil {
		return false, err
	}
	there, err := c.exists(ctx, name)
	return there, c.explain(k, err)
}

// Disable switches the user off. Its sessions go on until it is removed.
func (c *conn) Disable(ctx context.Context, name string) error {
	k := c.call("Disable", "switching the user off")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	return c.explain(k, c.visit(ctx, func(ctx context.Context, v *visit) error {
		return v.change(ctx, func(ctx context.Context, s *session) error {
			err := present(ctx, s, name)
			if err != nil {
				if errors.Is(err, errAbsent) {
					err = nil
				}
				return err
			}
			_, err = s.do(ctx, []string{"ACL", "SETUSER", name, "off"})
			return err
		})
	}))
}

// Drop removes the user; the server ends its sessions by itself. The list is kept also where the
// user was gone: who removed it may not have come to that.
func (c *conn) Drop(ctx context.Context, name string, o database.DropOptions) (report database.Report, err error) {
	k := c.call("Drop", "revoking the user")
	if err := database.CheckName(k.op, name); err != nil {
		return report, err
	}
	if err := none(k.op, "revocation_statements", o.Statements); err != nil {
		return report, err
	}
	return report, c.explain(k, c.visit(ctx, func(ctx context.Context, v *visit) error {
		return v.change(ctx, func(ctx context.Context, s *session) error {
			_, err := s.do(ctx, c.kept([]string{"ACL", "DELUSER", name})...)
			return err
		})
	}))
}

// How long ending a session is waited for.
const (
	endWait = time.Second
	endLook = 20 * time.Millisecond
)

// SettleAttempt ends the session that has the attempt's name. None, at a time when the server's
// clock has passed the deadline, means that none comes.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false,
			database.MarkUnchanged(fault.New(k.op, fault.Invalid,
				"the attempt is refused; it must have a deadline, and an id of 1 to 48 of A-Z a-z 0-9 . _ -"))
	}
	var later atomic.Bool
	err = c.visit(ctx, func(ctx context.Context, v *visit) error {
		return v.look(ctx, func(ctx context.Context, s *session) error {
			// The clock first: a session that takes the name after this look was too late.
			replies, err := s.do(ctx, []string{"TIME"})
			if err != nil {
				return err
			}
			now, err := clock(replies[0])
			if err != nil {
				return err
			}
			gone, err := endNamed(ctx, s, sessionName(a.ID))
			if !gone || now.Before(a.Deadline) {
				later.Store(true)
			}
			return err
		})
	})
	return err == nil && !later.Load(), c.explain(k, err)
}

// endNamed ends the sessions of a name and reports whether none is left.
func endNamed(ctx context.Context, s *session, name string) (gone bool, err error) {
	for until := time.Now().Add(endWait); ; {
		replies, err := s.do(ctx, []string{"CLIENT", "LIST"})
		if err != nil {
			return false, err
		}
		text, _ := replies[0].(string)
		ids := named(text, name)
		switch {
		case len(ids) == 0:
			return true, nil
		case time.Now().After(until):
			return false, nil
		}
		for _, id := range ids {
			if _, err := s.do(ctx, []string{"CLIENT", "KILL", "ID", id}); err != nil {
				return false, err
			}
		}
		if !cron.Pause(ctx, endLook) {
			return false, ctx.Err()
		}
	}
}

// named finds the ids of sessions of a name in the reply to CLIENT LIST: a line for each, of
// key=value. What others have called themselves can hold neither spaces nor line ends.
func named(list, name string) (ids []string) {
	for lines := bufio.NewScanner(strings.NewReader(list)); lines.Scan(); {
		pairs := strings.Fields(lines.Text())
		if !slices.Contains(pairs, "name="+name) {
			continue
		}
		for _, p := range pairs {
			if id, ok := strings.CutPrefix(p, "id="); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
