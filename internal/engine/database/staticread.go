package database

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// staticCreds is the route static-creds/.
type staticCreds struct {
	roles    *staticRoles
	users    *staticUsers
	roots    *rootRotation
	refusals *refusals
}

// staticCredsOut is the answer to a read of static credentials.
type staticCredsOut struct {
	loginOut
	Username string        `json:"username"`
	Last     string        `json:"last_vault_rotation"`
	TTL      time.Duration `json:"ttl"`

	timing
}

// read returns the published credentials. While it is unknown whether a rotation took effect, read
// finds that out first, so that the returned password works.
func (s *staticCreds) read(ctx context.Context, r *route.Request, in nameIn) (*staticCredsOut, error) {
	role, err := s.roles.view(ctx, in.Name)
	if err == nil && role == nil {
		err = fault.New("database.static", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if role.unresolved() {
		if role, err = s.resolve(ctx, r, in.Name); err != nil {
			return nil, err
		}
	}
	current := role.currentSecret()
	if current.Empty() {
		return nil, fault.New("database.static", fault.Invalid,
			"the password of %q is not known yet; start the first rotation with rotate-role/%s", role.currentUser(),
			in.Name)
	}
	if err := s.checkUserExists(ctx, r, role); err != nil {
		return nil, err
	}
	out := &staticCredsOut{Username: role.currentUser(), timing: timingOf(role.When)}
	if out.loginOut, err = role.login(current).out(); err != nil {
		return nil, err
	}
	if end := role.Rec.Current.Expires; !end.IsZero() && time.Now().Add(time.Minute).After(end) {
		r.Warn("the certificate has ended or ends within a minute, and %d tries to replace it have failed: %s",
			role.failedAttempts(), role.Rec.LastError)
	}
	if len(role.Rec.Unproven) > 0 {
		r.Warn("a login with these credentials could not be tested: %s", strings.Join(role.Rec.Unproven, "; "))
	}
	if !role.Rec.LastRotated.IsZero() {
		out.Last = role.Rec.LastRotated.Format(time.RFC3339Nano)
	}
	if !role.Rec.Next.IsZero() {
		out.setTTL(role, time.Now())
	}
	return out, nil
}

// checkUserExists warns that the last rotation has failed, and refuses a user that the database
// does not have any more. Only then does a read ask the database.
func (s *staticCreds) checkUserExists(ctx context.Context, r *route.Request, role *staticRole) error {
	if role.Rec.Turn != nil || role.Rec.LastError == "" {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	user := role.currentUser()
	if c, err := s.users.conns.byName(soon, role.DB); err == nil && c != nil && s.users.absent(soon, c, user) {
		return invalid("there is no user %q in the database of %q any more: somebody has dropped it; create it "+
			"again and write rotate-role/%s, or delete the static role", user, role.DB, role.Rec.Name)
	}
	r.Warn("the last change of the password of %q failed, and this is the one from before: %s", user,
		role.Rec.LastError)
	return nil
}

// setTTL sets when to read again. Clients sleep for ttl if it is not zero and rotation_period
// comes with it, so ttl of an overdue rotation is the time to its next attempt.
func (out *staticCredsOut) setTTL(role *staticRole, now time.Time) {
	left := role.Rec.Next.Sub(now)
	if left <= 0 || role.unresolved() {
		left = min(role.Rec.Due.Sub(now), time.Minute)
	}
	out.TTL = max(left.Truncate(time.Second), time.Second)
	if role.When.Schedule != "" {
		out.Period = max(role.Rec.Next.Sub(role.Rec.LastRotated).Round(time.Second), time.Second)
		if role.Rec.LastRotated.IsZero() {
			out.Period = out.TTL
		}
	}
}

// readWithin bounds how long a read waits for the outcome of a rotation. After that, it returns
// the previous password.
const readWithin = 2 * time.Second

// resolve waits for a rotation in flight. If its outcome is unknown, resolve finds out which
// password works, provided that the database answers soon.
func (s *staticCreds) resolve(ctx context.Context, r *route.Request, name string) (*staticRole, error) {
	soon, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	missing := fault.New("database.static", fault.Invalid, "unknown role: %s; it was deleted meanwhile", name)
	busy := true
	why := s.roles.change(soon, name, missing, func(role *staticRole) error {
		busy = false
		first, row, n := role.Rec.Current == nil, staticPrefix+name, rotationNumber(role.Rec)
		t := role.Rec.Turn // one read makes one more attempt; later reads wait for the back-off
		waits := t != nil && t.Tries > 1 && role.Rec.Due.After(role.Now)
		later := fault.New("database.static", fault.Unavailable, "%s; the next attempt is at %s", role.Rec.LastError,
			role.Rec.Due.Format(time.RFC3339))
		if first && waits && s.refusals.recent(row, n) {
			return later
		}
		err := role.Control().ResolveSecret(soon)
		if o := rotate.OutcomeOf(err); role.Rec.Current != nil || o != rotate.Rejected && o != rotate.Untested {
			return err
		}
		s.refusals.add(row, n)
		if waits {
			return later
		}
		return s.setFirstPassword(ctx, role)
	})
	role, err := s.roles.view(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case role == nil:
		return nil, missing
	case !role.unresolved() || why == nil:
		return role, nil
	case busy && soon.Err() != nil:
		return role, warnUnresolved(r, role, "the database has not answered yet")
	}
	return role, warnUnresolved(r, role, fault.Message(why))
}

// setFirstPassword sets the first password once more, because there is no previous one to return.
func (s *staticCreds) setFirstPassword(ctx context.Context, role *staticRole) error {
	c, err := s.users.conns.byName(ctx, role.DB)
	if err != nil {
		return err
	}
	if c != nil {
		if n, err := s.roots.inFlight(ctx, c); err != nil {
			return err
		} else if n != 0 {
			return fault.New("database.static", fault.Unavailable,
				"a change of the administrator's password is under way and must finish first")
		}
	}
	return role.rotate(ctx, "request")
}

// warnUnresolved warns that the outcome of a rotation is unknown. If there is no previous
// password, it returns an error instead.
func warnUnresolved(r *route.Request, role *staticRole, why string) error {
	user := role.currentUser()
	if role.currentSecret().Empty() {
		return fault.New("database.static", fault.Unavailable, "the result of the first password change of %q is "+
			"not known yet; try again: %s", user, why)
	}
	r.Warn("the result of the password change of %q is not known yet; this is the previous password: %s", user, why)
	return nil
}
