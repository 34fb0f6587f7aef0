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
	"time"

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
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *session) error {
		_, err := s.do(ctx, []string{"TIME"}, []string{"ACL", "GETUSER", idleName + "-verify"}, []string{"CLIENT", "LIST"}, []string{"CLIENT", "KILL", "ID", nobody})
		return err
	}))
}

// Create makes the user with one command, behind the fence.
func (c *conn) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	k := c.call("Create", "creating the user", u.Password)
	k.field = "creation_statements"
	if err := database.CheckUser(k.op, u); err != nil {
		return err
	}
	if len(statements) == 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "creation_statements are missing: without rules a user may do nothing; write them into the role"))
	}
	if len(rollback) > 0 {
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "rollback_statements: Redis has none; leave them out"))
	}
	given, err := rules(statements)
	if err != nil {
		return invalid(k.op, err)
	}
	k.rules = given
	set := append([]string{"ACL", "SETUSER", u.Name, "reset", "on", passwordRule(u.Password)}, given...)
	err = c.unsent(ctx, func(ctx context.Context, s *session) error {
		if err := fence(ctx, s, u); err != nil {
			s.broken = true // it has the attempt's name
			return &notSent{err}
		}
		message := append(c.kept(set), []string{"CLIENT", "SETNAME", idleName})
		_, err := s.do(ctx, message...)
		said, answered := errors.AsType[*answer](err)
		if !answered {
			return err
		}
		if said.at == 0 {
			return &notSent{err} // the server took no part of it
		}
		// The user is there, and would not be after a restart: that is not what was asked for.
		if _, e := s.do(ctx, []string{"ACL", "DELUSER", u.Name}); e == nil {
			return &notSent{err}
		}
		return err
	})
	return c.explain(k, err)
}

// fence names the session after the attempt and only then reads the clock. It also looks that the name is free.
func fence(ctx context.Context, s *session, u database.User) error {
	replies, err := s.do(ctx, []string{"CLIENT", "SETNAME", sessionName(u.Attempt.ID)}, []string{"TIME"}, []string{"ACL", "GETUSER", u.Name})
	if err != nil {
		return err
	}
	now, err := clock(replies[1])
	switch {
	case err != nil:
		return err
	case !now.Before(u.Attempt.Deadline):
		return errTooLate
	case !replies[2].null:
		return errTaken
	}
	return nil
}

// clock reads the reply to TIME.
func clock(r reply) (time.Time, error) {
	if len(r.list) != 2 {
		return time.Time{}, errProtocol
	}
	seconds, err1 := strconv.ParseInt(r.list[0].text, 10, 64)
	micros, err2 := strconv.ParseInt(r.list[1].text, 10, 64)
	if err1 != nil || err2 != nil {
		return time.Time{}, errProtocol
	}
	return time.Unix(seconds, micros*1000), nil
}

// invalid marks an error that came before anything was sent.
func invalid(op string, err error) error {
	return database.MarkUnchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
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
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *session) error { return present(ctx, s, name) }))
}

// present returns errAbsent where there is no such user.
func present(ctx context.Context, s *session, name string) error {
	replies, err := s.do(ctx, []string{"ACL", "GETUSER", name})
	if err == nil && replies[0].null {
		err = errAbsent
	}
	return err
}

// SetPassword makes the password the only one of the user. The command would make a user that is not
// there, without any rights; that one who removes it at the same time may leave behind.
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
		return database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the new password is empty; check the password policy"))
	}
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *session) error {
		if err := present(ctx, s, name); err != nil {
			return &notSent{err}
		}
		_, err := s.do(ctx, c.kept([]string{"ACL", "SETUSER", name, "resetpass", passwordRule(password)})...)
		if said, ok := errors.AsType[*answer](err); ok && said.at == 0 {
			return &notSent{err}
		}
		return err
	}))
}

// Login logs in as the user on a connection of its own.
func (c *conn) Login(ctx context.Context, name string, password secret.Value) (ok bool, err error) {
	k := c.call("Login", "trying the login", password)
	if err := database.CheckGivenName(k.op, name); err != nil {
		return false, err
	}
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return false, c.explain(k, &notSent{err})
	}
	defer end()
	s, err := c.connect(ctx)
	if err != nil {
		return false, c.explain(k, &notSent{cause(ctx, err)})
	}
	defer s.net.Close()
	_, err = s.do(ctx, []string{"AUTH", name, password.RevealString()})
	if said, answered := errors.AsType[*answer](err); answered && said.word() == "WRONGPASS" {
		return false, c.conclusive(ctx, k, name)
	}
	if err != nil {
		return false, c.explain(k, &notSent{cause(ctx, err)})
	}
	return true, nil
}

// conclusive returns nil where a refused login means what it says. Redis answers the same to who has been switched off.
func (c *conn) conclusive(ctx context.Context, k call, name string) error {
	if name == c.username {
		return nil
	}
	off := false
	err := c.repeatable(ctx, func(ctx context.Context, s *session) error {
		replies, err := s.do(ctx, []string{"ACL", "GETUSER", name})
		if err != nil {
			return err
		}
		list := replies[0].list
		for i := 0; i+1 < len(list); i += 2 {
			if list[i].text == "flags" {
				off = slices.ContainsFunc(list[i+1].list, func(flag reply) bool { return flag.text == "off" })
			}
		}
		return nil
	})
	if err != nil || !off {
		return c.explain(k, err)
	}
	return database.MarkUnchanged(fault.New(k.op, fault.Unsupported, "%s cannot log in to Redis: the user is off; ACL SETUSER %s on", name, name))
}

// Exists looks for a user.
func (c *conn) Exists(ctx context.Context, name string) (bool, error) {
	k := c.call("Exists", "looking for the user")
	if err := database.CheckName(k.op, name); err != nil {
		return false, err
	}
	err := c.repeatable(ctx, func(ctx context.Context, s *session) error { return present(ctx, s, name) })
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	return err == nil, c.explain(k, err)
}

// Disable switches the user off. Its sessions go on until it is removed.
func (c *conn) Disable(ctx context.Context, name string) error {
	k := c.call("Disable", "switching the user off")
	if err := database.CheckName(k.op, name); err != nil {
		return err
	}
	return c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *session) error {
		err := present(ctx, s, name)
		if err != nil {
			if errors.Is(err, errAbsent) {
				err = nil
			}
			return err
		}
		_, err = s.do(ctx, []string{"ACL", "SETUSER", name, "off"})
		return err
	}))
}

// Drop removes the user; the server ends its sessions by itself. The list is kept also where the user was gone: who
// removed it may not have come to that.
func (c *conn) Drop(ctx context.Context, name string, o database.DropOptions) (report database.Report, err error) {
	k := c.call("Drop", "revoking the user")
	if err := database.CheckName(k.op, name); err != nil {
		return report, err
	}
	if err := none(k.op, "revocation_statements", o.Statements); err != nil {
		return report, err
	}
	return report, c.explain(k, c.repeatable(ctx, func(ctx context.Context, s *session) error {
		_, err := s.do(ctx, c.kept([]string{"ACL", "DELUSER", name})...)
		return err
	}))
}

// How long ending a session is waited for.
const (
	endWait = time.Second
	endLook = 20 * time.Millisecond
)

// SettleAttempt ends the session that has the attempt's name. None, at a time when the server's clock has passed the
// deadline, means that none comes.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the attempt is refused; it must have a deadline, and an id of 1 to 48 of A-Z a-z 0-9 . _ -"))
	}
	err = c.repeatable(ctx, func(ctx context.Context, s *session) error {
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
		settled = gone && !now.Before(a.Deadline)
		return err
	})
	if err != nil {
		return false, c.explain(k, err)
	}
	return settled, nil
}

// endNamed ends the sessions of a name and reports whether none is left.
func endNamed(ctx context.Context, s *session, name string) (gone bool, err error) {
	for until := time.Now().Add(endWait); ; {
		replies, err := s.do(ctx, []string{"CLIENT", "LIST"})
		if err != nil {
			return false, err
		}
		ids := named(replies[0].text, name)
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
		select {
		case <-time.After(endLook):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// named finds the ids of sessions of a name in the reply to CLIENT LIST: a line for each, of key=value. What
// others have called themselves can hold neither spaces nor line ends.
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
