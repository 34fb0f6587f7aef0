package database

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// readers is the route static-creds/.
type readers struct{ statics }

// staticCredsOut is what the readers of a static role are given.
type staticCredsOut struct {
	loginOut
	Username string        `json:"username"`
	Last     string        `json:"last_vault_rotation"`
	TTL      time.Duration `json:"ttl"`

	timing
}

// readCreds gives out a role's user. While it is not known whether a rotation took place,
// it finds out first: what it gives out works.
func (b readers) readCreds(ctx context.Context, r *route.Request, in nameIn) (*staticCredsOut, error) {
	s, err := b.view(ctx, in.Name)
	if err == nil && s == nil {
		err = fault.New("database.static", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if s.unresolved() {
		if s, err = b.resolve(ctx, r, in.Name); err != nil {
			return nil, err
		}
	}
	password := s.currentSecret()
	if password.Empty() {
		return nil, fault.New("database.static", fault.Invalid, "the password of %q is not known yet: it is so after the first rotation; begin it by rotate-role/%s", s.currentUser(), in.Name)
	}
	if err := b.checkUserExists(ctx, r, s); err != nil {
		return nil, err
	}
	out := &staticCredsOut{Username: s.currentUser(), timing: timingOf(s.When)}
	if out.loginOut, err = s.login(password).out(); err != nil {
		return nil, err
	}
	if end := s.Rec.Current.Expires; !end.IsZero() && time.Now().Add(time.Minute).After(end) {
		r.Warn("the certificate has ended or ends within a minute, and %d tries to replace it have failed: %s", s.failedAttempts(), s.Rec.LastError)
	}
	if len(s.Rec.Unproven) > 0 {
		r.Warn("a login with these credentials could not be tested: %s", strings.Join(s.Rec.Unproven, "; "))
	}
	if !s.Rec.LastRotated.IsZero() {
		out.Last = s.Rec.LastRotated.Format(time.RFC3339Nano)
	}
	if !s.Rec.Next.IsZero() {
		s.setTTL(out, time.Now())
	}
	return out, nil
}

// checkUserExists warns that the last rotation has failed, and refuses to give out a user that the
// database does not have any more. The database is asked only then, so that a read costs nothing
// otherwise.
func (b readers) checkUserExists(ctx context.Context, r *route.Request, s *staticRole) error {
	if s.Rec.Turn != nil || s.Rec.LastError == "" {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	if c, err := b.byName(soon, s.DB); err == nil && c != nil && b.absent(soon, c, s.currentUser()) {
		return invalid("there is no user %q in the database of %q any more: somebody has dropped it; create it again and write rotate-role/%s, or delete the static role", s.currentUser(), s.DB, s.Rec.Name)
	}
	r.Warn("the last change of the password of %q failed, and this is the one from before: %s", s.currentUser(), s.Rec.LastError)
	return nil
}

// setTTL says when to read again. Clients that know how sleep for ttl, if rotation_period comes with it and ttl
// is not zero; so one that is overdue tells when it is tried again.
func (s *staticRole) setTTL(out *staticCredsOut, now time.Time) {
	left := s.Rec.Next.Sub(now)
	if left <= 0 || s.unresolved() {
		left = min(s.Rec.Due.Sub(now), time.Minute)
	}
	out.TTL = max(left.Truncate(time.Second), time.Second)
	if s.When.Schedule != "" {
		out.Period = max(s.Rec.Next.Sub(s.Rec.LastRotated).Round(time.Second), time.Second)
		if s.Rec.LastRotated.IsZero() {
			out.Period = out.TTL
		}
	}
}

// readWithin bounds how long a reader waits for what cannot be known yet. It is given the password from before then.
const readWithin = 2 * time.Second

// resolve waits for a rotation that is under way. Of one whose outcome is unknown it
// finds out which password works, if the database answers soon.
func (b readers) resolve(ctx context.Context, r *route.Request, name string) (*staticRole, error) {
	soon, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	missing := fault.New("database.static", fault.Invalid, "unknown role: %s; it was deleted meanwhile", name)
	busy := true
	why := b.change(soon, name, missing, func(s *staticRole) error {
		busy = false
		first, row, turn := s.Rec.Current == nil, staticPrefix+name, rotationNumber(s.Rec)
		t := s.Rec.Turn // a read tries once more; from then on it is tried with back-off, however often it is read
		waits := t != nil && t.Tries > 1 && s.Rec.Due.After(s.Now)
		again := fault.New("database.static", fault.Unavailable, "%s; the next attempt is at %s", s.Rec.LastError, s.Rec.Due.Format(time.RFC3339))
		if first && waits && b.pools.settled(row, turn) {
			return again
		}
		err := s.Control().FindOut(soon)
		if o := rotate.OutcomeOf(err); s.Rec.Current != nil || o != rotate.Rejected && o != rotate.Untested {
			return err
		}
		b.pools.settle(row, turn) // what was set last is not in force
		if waits {
			return again
		}
		return b.setFirstPassword(ctx, s)
	})
	s, err := b.view(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, missing
	case !s.unresolved() || why == nil:
		return s, nil
	case busy && soon.Err() != nil:
		return s, b.warnUnresolved(r, s, "the database takes its time")
	}
	return s, b.warnUnresolved(r, s, fault.Message(why))
}

// setFirstPassword sets the first password once more, by the administrator: there is none from before to give out.
func (b readers) setFirstPassword(ctx context.Context, s *staticRole) error {
	c, err := b.byName(ctx, s.DB)
	if err != nil {
		return err
	}
	if c != nil {
		if under, err := roots(b.statics).rotating(ctx, c); err != nil {
			return err
		} else if under {
			return fault.New("database.static", fault.Unavailable, "a change of the administrator's password is under way; it is ended first")
		}
	}
	return b.rotate(ctx, s, "request")
}

// warnUnresolved warns that it cannot be known whether a change took place. Where nothing was known before, that is an error.
func (b readers) warnUnresolved(r *route.Request, s *staticRole, why string) error {
	user := s.currentUser()
	if s.currentSecret().Empty() {
		return fault.New("database.static", fault.Unavailable, "the first change of the password of %q is under way, and whether it took place cannot be found out now; try again: %s", user, why)
	}
	r.Warn("a change of the password of %q is under way, and whether it took place cannot be found out now; this is the one from before: %s", user, why)
	return nil
}
