package database

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Undo removes a user. Where it is not known that the create has ended, what runs of it is
// ended and what exists is removed, and that again until nothing can come any more.
//
// It goes by the role's revocation statements of now, so that correcting them helps the
// users that were issued before. Where the role is another one now, or its connection
// was deleted, it goes by those that the lease was issued with.
func (b *backend) Undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	l, c, err := b.lentBy(ctx, u)
	if err != nil {
		return engine.Undone{}, err
	}
	var done engine.Undone
	names := repeating{b}
	if u.Granted || !b.never.Has(u.Attempt) {
		var another bool
		if another, done, err = names.others(ctx, u, &l); err == nil && !another {
			done, err = b.revoke(ctx, u, &l, c)
		}
		if err != nil {
			return engine.Undone{}, err
		}
	}
	if done.Again.IsZero() {
		if err := names.leaves(ctx, &l, u.Attempt); err != nil {
			return engine.Undone{}, err
		}
		issuing{b}.forget(ctx, u.LeaseID, l.Again)
	}
	if done.Again.IsZero() && !c.DeletedAt.IsZero() {
		b.hasten(ctx, c)
	}
	return done, nil
}

// settleRetry is the wait before asking again whether a create can still come, once its
// time should be over: the server's clock is behind, or a session hangs.
const settleRetry = 2 * time.Second

func (b *backend) revoke(ctx context.Context, u engine.Undo, l *issuedUser, c *connection) (engine.Undone, error) {
	const op = "database.Undo"
	conn, release, err := b.conn(ctx, c)
	if err != nil {
		return engine.Undone{}, upstreamError(op, err, c.redactor())
	}
	defer release()
	settled := u.Granted
	if !settled {
		if settled, err = conn.SettleAttempt(ctx, attempt(u.Attempt, u.Late.Add(-lateMargin))); err != nil {
			return engine.Undone{}, revocationError(op, err, c)
		}
	}
	open, err := disableUser(ctx, conn, l.User)
	if err != nil {
		return engine.Undone{}, revocationError(op, err, c)
	}
	done, err := b.drop(ctx, conn, l, c)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		told := *f
		told.Msg += "; " + loginStatus(open, c)
		if alone := engine.IsLeaseOnly(err); alone {
			err = engine.LeaseOnly(&told)
		} else {
			err = &told
		}
	}
	if err == nil && !settled {
		done.Again = settleAt(u.Late, time.Now())
	}
	return done, err
}

// disableWithin bounds taking a login away. It is one short statement.
const disableWithin = 10 * time.Second

// disableUser ends a user's access before anything that may fail or hang, for that may be so for long. Where the database answers and
// does not do it, the user is dropped all the same, and open says why.
func disableUser(ctx context.Context, conn Conn, user string) (open, err error) {
	short, cancel := context.WithTimeout(ctx, disableWithin)
	defer cancel()
	err = conn.Disable(short, user)
	if Refused(err) || fault.Is(err, fault.Timeout) && serverAnswers(ctx, conn) {
		return err, nil
	}
	return nil, err
}

// loginStatus says whether a user whose revocation fails can log in meanwhile.
func loginStatus(open error, c *connection) string {
	if open == nil {
		return "the user cannot log in any more"
	}
	return "until then the user can log in: " + fault.Message(upstreamError("database.Undo", open, c.redactor()))
}

// drop removes a user who was disabled.
func (b *backend) drop(ctx context.Context, conn Conn, l *issuedUser, c *connection) (engine.Undone, error) {
	const op = "database.Undo"
	o := DropOptions{Statements: l.Revocation, TerminateSessions: l.Terminate || c.Terminate}
	ro, err := b.current(ctx, l)
	if err != nil {
		return engine.Undone{}, err
	}
	if ro != nil && c.DeletedAt.IsZero() && ro.DB == c.Name {
		o.Statements, o.TerminateSessions = ro.Revocation, ro.Terminate || c.Terminate
	}
	leave, ok := b.hanging.begin(l.RoleID, time.Now())
	if !ok {
		return engine.Undone{}, engine.LeaseOnly(fault.New(op, fault.Timeout, "revoking users of role %q hangs, and one revocation is still running; check what its revocation_statements wait for", l.Role))
	}
	defer leave()
	report, err := conn.Drop(ctx, l.User, o)
	if fault.Is(err, fault.Timeout) && serverAnswers(ctx, conn) {
		b.hanging.markSlow(l.RoleID, time.Now())
		return engine.Undone{}, engine.LeaseOnly(upstreamError(op, err, c.redactor()))
	}
	if err != nil {
		return engine.Undone{}, revocationError(op, err, c)
	}
	b.hanging.clear(l.RoleID)
	done := engine.Undone{Note: b.tell(ctx, l, ro, o, report)}
	if report.Remains {
		// The statements may mean to keep the user, but then it is not revoked: that is
		// for a person to see, and to correct.
		return done, engine.LeaseOnly(fault.New(op, fault.Upstream, "the user %s is still in the database after revocation_statements of role %q have succeeded; make them drop it, or leave them out", l.User, l.Role))
	}
	return done, nil
}

// revocationError is an error of a revocation. One that this user or its role is to blame for
// delays nobody else's.
func revocationError(op string, err error, c *connection) error {
	f := upstreamError(op, err, c.redactor())
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

// tell makes a note of what was unusual about a revocation, and keeps it with
// the role where it is about the role's statements.
func (b *backend) tell(ctx context.Context, l *issuedUser, ro *role, o DropOptions, report Report) string {
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
		kept := strings.ReplaceAll(text, l.User, "a user") // the same text for all of them
		news, err := b.remember(ctx, l.Role, ro, kept)
		if err != nil {
			// The user is gone, and that is what counts; the next one brings the note again.
			b.m.Log.Warn("keeping a note on a role", "role", l.Role, "error", err)
		}
		if !news && err == nil {
			level = slog.LevelDebug // the role says so to who reads it, and a thousand users would say it a thousand times
		}
	}
	b.m.Log.Log(ctx, level, "revoking a user took more than usual", "user", l.User, "role", l.Role, "what", text)
	return text
}

// buryKind is the due work of forgetting a tombstone.
const buryKind = "bury"

// When a tombstone is looked at. The first time is later than any request lives
// that read the configuration before it was deleted: its reservation is counted.
const (
	buryFirst = 2 * time.Minute
	buryNext  = 10 * time.Minute
	burySoon  = 2 * time.Second // after what seemed to be the last undo, whose lease goes only then
)

// deleteConfig frees the name at once, and leaves the configuration for undo.
func (b configs) deleteConfig(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	err := b.exclusively(ctx, namePrefix+in.Name, func() error {
		c, err := b.byName(ctx, in.Name)
		if err != nil || c == nil {
			return err
		}
		c.DeletedAt = time.Now().UTC()
		return b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
			c.Root.legacyRoot, c.PendingPassword = legacyRoot{}, secret.Value{} // the record has it
			ops, abs, err := b.buried(c, c.DeletedAt.Add(buryFirst), storage.Remove(namePrefix+in.Name))
			switch {
			case err != nil:
				return err
			case e.Rec.Turn != nil:
				r.Warn("a rotation of the password of %q was under way, and it goes on until it is known whether it took place", c.Username)
			case e.New() && e.Rec.Due.IsZero():
				_, err := b.m.Store.CommitWith(ctx, append(ops, roots(b).still(e)...), abs)
				return err
			}
			if err := e.Unlock(ctx); err != nil {
				return err
			}
			e.Ops, e.Abs = ops, abs
			return e.Control().WindUp(ctx)
		})
	})
	if err != nil {
		return route.None{}, err
	}
	left, err := b.staticRolesOf(ctx, in.Name)
	if len(left) > 0 {
		r.Warn("the static roles %q stay, and their passwords are not rotated until config/%s is written again", left, in.Name)
	}
	return route.None{}, err
}

// bury sets when the tombstone is looked at next.
func (b *backend) bury(ctx context.Context, c *connection, at time.Time) error {
	ops, abs, err := configs{b}.buried(c, at)
	if err == nil {
		_, err = b.m.Store.CommitWith(ctx, ops, abs)
	}
	return err
}

// buried are the operations that do.
func (b configs) buried(c *connection, at time.Time, more ...storage.Op) (ops, abs []storage.Op, err error) {
	abs = b.m.Host.Schedule(buryKind, c.ID, c.CleanupAt, at)
	c.CleanupAt = at
	op, err := c.storeOp()
	return append(more, op), abs, err
}

// hasten brings the look at a tombstone forward when its last lease is being
// undone. If that is lost, Work comes by itself.
func (b *backend) hasten(ctx context.Context, c *connection) {
	soon := time.Now().Add(burySoon).UTC()
	if first := c.DeletedAt.Add(buryFirst); soon.Before(first) {
		soon = first
	}
	n, err := b.m.Host.LeaseCount(ctx, c.leaseTarget(), 2)
	if err == nil && n <= 1 && soon.Before(c.CleanupAt) {
		err = b.bury(ctx, c, soon)
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		b.m.Log.Warn("checking whether a deleted connection is still needed failed; it is checked again later", "connection", c.Name, "error", err)
	}
}

// Work does what fell due.
func (b *backend) Work(ctx context.Context, kind, id string) error {
	switch kind {
	case buryKind:
		return b.workTombstone(ctx, id)
	case staticKind:
		return b.rotations.Work(ctx, kind, id)
	case rootKind:
		defer b.pools.retire(id) // its password may be another one
		return b.rotations.Work(ctx, kind, id)
	}
	return fault.New("database.Work", fault.Internal, "there is no work of kind %q", kind)
}

// workTombstone forgets a tombstone that no lease names any more.
func (b *backend) workTombstone(ctx context.Context, id string) error {
	c, err := b.byID(ctx, id)
	if err != nil || c == nil || c.DeletedAt.IsZero() {
		return err
	}
	n, err := b.m.Host.LeaseCount(ctx, c.leaseTarget(), 1)
	if err != nil {
		return err
	}
	if n > 0 {
		err = b.bury(ctx, c, time.Now().UTC().Add(buryNext))
	} else {
		b.pools.retire(c.ID)
		err = b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
			ops, abs := []storage.Op{storage.Remove(connPrefix + c.ID).If(c.stored)}, b.m.Host.Schedule(buryKind, c.ID, c.CleanupAt, time.Time{})
			if e.New() && e.Rec.Due.IsZero() {
				_, err := b.m.Store.CommitWith(ctx, ops, abs)
				return err
			}
			e.Ops, e.Abs = ops, abs
			return e.Delete(ctx)
		})
	}
	if fault.Is(err, fault.Conflict) {
		return nil // an undo has moved the item meanwhile
	}
	return err
}
