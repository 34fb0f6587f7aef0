package database

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
)

// revoker renews and revokes issued users.
type revoker struct {
	log        *slog.Logger
	conns      *connections
	roles      *roles
	upstream   *upstream
	names      *reservedNames
	reusable   *reusableUsers
	noEffect   *engine.Attempts // creates that surely had no effect
	slow       slowRevocations
	tombstones *tombstones
}

// lease decodes what a lease stores, and returns its connection.
func (s *revoker) lease(ctx context.Context, u engine.Undo) (l issuedUser, c *connection, err error) {
	const op = "database.lease"
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return l, nil, engine.LeaseOnly(fault.Wrap(op, fault.Internal, err))
	}
	if c, err = s.conns.byID(ctx, l.Config); err != nil {
		return l, nil, err
	}
	if c == nil {
		return l, nil, engine.LeaseOnly(fault.New(op, fault.Held, "the connection that created %q is no longer "+
			"stored; remove that user from its database, and forget the lease with revoke-force", l.User))
	}
	return l, c, nil
}

// renew extends the life of the user in the database.
func (s *revoker) renew(ctx context.Context, u engine.Undo, expires time.Time) error {
	const op = "database.Renew"
	l, c, err := s.lease(ctx, u)
	if err != nil {
		return err
	}
	ro, err := s.roles.ofLease(ctx, &l)
	switch {
	case err != nil:
		return err
	case ro == nil:
		return errRoleDeleted(l.Role)
	case c.DeletedAt.IsZero() && ro.DB != c.Name:
		return fault.New(op, fault.Invalid, "the role %q is for the connection %q since the lease was issued, so it "+
			"cannot be renewed; read new credentials", l.Role, ro.DB)
	case !c.DeletedAt.IsZero():
		return fault.New(op, fault.Invalid,
			"the connection %q was deleted and is kept only for revocations; the lease expires as planned", c.Name)
	}
	missing := false
	err = s.upstream.do(ctx, op, c, nil, func(conn Conn) error {
		err := conn.Renew(ctx, l.User, expires, ro.Renewal)
		missing = fault.Is(err, fault.NotFound)
		return err
	})
	if missing {
		return fault.New(op, fault.Invalid, "the user %s is not in the database any more; read new credentials",
			l.User)
	}
	return err
}

func errRoleDeleted(name string) error {
	return fault.New("database.Renew", fault.Invalid,
		"the role %q was deleted since the lease was issued, so it cannot be renewed; read new credentials", name)
}

// bounds returns the current TTLs of the lease's role.
func (s *revoker) bounds(ctx context.Context, u engine.Undo) (ttl, longest time.Duration, err error) {
	var l issuedUser
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return 0, 0, fault.Wrap("database.lease", fault.Internal, err)
	}
	ro, err := s.roles.ofLease(ctx, &l)
	if err != nil {
		return 0, 0, err
	}
	if ro == nil {
		return 0, 0, errRoleDeleted(l.Role)
	}
	return ro.TTL, ro.MaxTTL, nil
}

// undo removes a user. While a create may still take effect, undo cancels it, removes the user if
// it exists, and asks for another call.
//
// undo uses the current revocation statements of the role, so that correcting them helps users
// that were issued before. If the role was replaced or the connection deleted, it uses those that
// the lease was issued with.
func (s *revoker) undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	l, c, err := s.lease(ctx, u)
	if err != nil {
		return engine.Undone{}, err
	}
	var done engine.Undone
	if u.Granted || !s.noEffect.Has(u.Attempt) {
		var other bool
		if other, done, err = s.names.ownedByOther(ctx, u, &l); err == nil && !other {
			done, err = s.revoke(ctx, u, &l, c)
		}
		if err != nil {
			return engine.Undone{}, err
		}
	}
	if !done.Again.IsZero() {
		return done, nil
	}
	if err := s.names.release(ctx, &l, u.Attempt); err != nil {
		return engine.Undone{}, err
	}
	s.reusable.remove(ctx, u.LeaseID, l.ReuseKey)
	if !c.DeletedAt.IsZero() {
		s.tombstones.checkSoon(ctx, c)
	}
	return done, nil
}

// settleRetry is the wait before another SettleAttempt after the deadline of the create: the
// server's clock is behind, or a session hangs.
const settleRetry = 2 * time.Second

func (s *revoker) revoke(ctx context.Context, u engine.Undo, l *issuedUser, c *connection) (engine.Undone, error) {
	const op = "database.Undo"
	conn, release, err := s.upstream.conn(ctx, c)
	if err != nil {
		return engine.Undone{}, upstreamError(op, err, c.redactor())
	}
	defer release()
	settled := u.Granted
	if !settled {
		if settled, err = conn.SettleAttempt(ctx, attempt(u.Attempt, u.Late.Add(-lateMargin))); err != nil {
			return engine.Undone{}, revocationError(err, c)
		}
	}
	notDisabled, err := disableUser(ctx, conn, l.User)
	if err != nil {
		return engine.Undone{}, revocationError(err, c)
	}
	done, err := s.drop(ctx, conn, l, c)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		detailed := *f
		detailed.Msg += "; " + loginStatus(notDisabled, detailed.Msg, c)
		if leaseOnly := engine.IsLeaseOnly(err); leaseOnly {
			err = engine.LeaseOnly(&detailed)
		} else {
			err = &detailed
		}
	}
	if err == nil && !settled {
		done.Again = settleAt(u.Late, time.Now())
	}
	return done, err
}

// disableWithin bounds Disable. It is one short statement.
const disableWithin = 10 * time.Second

// disableUser ends a user's access first, because dropping the user may fail or hang for long. If
// the database answers but does not disable the user, notDisabled says why, and the user is still
// dropped.
func disableUser(ctx context.Context, conn Conn, user string) (notDisabled, err error) {
	short, cancel := context.WithTimeout(ctx, disableWithin)
	defer cancel()
	err = conn.Disable(short, user)
	if Refused(err) || fault.Is(err, fault.Timeout) && serverAnswers(ctx, conn) {
		return err, nil
	}
	return nil, err
}

// loginStatus says whether a user whose revocation fails, because of reason, can log in meanwhile.
func loginStatus(notDisabled error, reason string, c *connection) string {
	switch {
	case notDisabled == nil:
		return "the user cannot log in any more"
	case fault.Message(notDisabled) == reason: // one of several servers cannot be reached, by neither call
		return "until then the user can log in there"
	}
	return "until then the user can log in: " +
		fault.Message(upstreamError("database.Undo", notDisabled, c.redactor()))
}

// drop removes a disabled user.
func (s *revoker) drop(ctx context.Context, conn Conn, l *issuedUser, c *connection) (engine.Undone, error) {
	const op = "database.Undo"
	o := DropOptions{Statements: l.Revocation, TerminateSessions: l.Terminate || c.Terminate}
	ro, err := s.roles.ofLease(ctx, l)
	if err != nil {
		return engine.Undone{}, err
	}
	if ro != nil && c.DeletedAt.IsZero() && ro.DB == c.Name {
		o.Statements, o.TerminateSessions = ro.Revocation, ro.Terminate || c.Terminate
	}
	end, ok := s.slow.begin(l.RoleID, time.Now())
	if !ok {
		return engine.Undone{}, engine.LeaseOnly(fault.New(op, fault.Timeout, "revoking users of role %q hangs, and "+
			"one revocation is still running; check what its revocation_statements wait for", l.Role))
	}
	defer end()
	report, err := conn.Drop(ctx, l.User, o)
	if fault.Is(err, fault.Timeout) && serverAnswers(ctx, conn) {
		s.slow.markSlow(l.RoleID, time.Now())
		return engine.Undone{}, engine.LeaseOnly(upstreamError(op, err, c.redactor()))
	}
	if err != nil {
		return engine.Undone{}, revocationError(err, c)
	}
	s.slow.clear(l.RoleID)
	done := engine.Undone{Note: s.noteRevocation(ctx, l, ro, o, report)}
	if report.Remains {
		// The statements may keep the user on purpose, but then it is not revoked: a person must
		// see and correct this.
		return done, engine.LeaseOnly(fault.New(op, fault.Upstream, "the user %s is still in the database after "+
			"revocation_statements of role %q have succeeded; make them drop it, or leave them out", l.User, l.Role))
	}
	return done, nil
}

// revocationError turns an error of a revocation into one of this mount. An error that only this
// user or role causes delays no other lease.
func revocationError(err error, c *connection) error {
	f := upstreamError("database.Undo", err, c.redactor())
	if Refused(err) || f.Kind == fault.Invalid {
		return engine.LeaseOnly(f)
	}
	return f
}

func settleAt(late, now time.Time) time.Time {
	if now.Before(late) {
		return late
	}
	return now.Add(settleRetry)
}

// noteRevocation returns a note on what was unusual about a revocation. If the note is about the
// role's statements, it is stored with the role.
func (s *revoker) noteRevocation(ctx context.Context, l *issuedUser, ro *role, o DropOptions, report Report) string {
	notes := slices.Clone(report.Notes)
	if report.Remains {
		notes = append(notes, "revocation_statements succeeded and left the user "+l.User+" in the database")
	}
	if len(notes) == 0 {
		return ""
	}
	text := strings.Join(notes, "; ")
	level := slog.LevelWarn
	if (report.Insufficient || report.Remains) && ro != nil && slices.Equal(ro.Revocation, o.Statements) {
		forAll := strings.ReplaceAll(text, l.User, "a user") // the same text for all users of the role
		changed, err := s.roles.setNote(ctx, l.Role, ro, forAll)
		if err != nil {
			// Only a warning, because the user is revoked, and the next revocation has the same
			// note.
			s.log.Warn("storing a note on a role failed", "role", l.Role, "error", err)
		}
		if !changed && err == nil {
			level = slog.LevelDebug // readers of the role see the note, and each of a thousand users would log it
		}
	}
	s.log.Log(ctx, level, "revoking a user took more than usual", "user", l.User, "role", l.Role, "what", text)
	return text
}
