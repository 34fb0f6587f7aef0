package database

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// readers is the route static-creds/.
type readers struct{ statics }

// staticCredsOut is what the readers of a static role are given.
type staticCredsOut struct {
	given
	Username string        `json:"username"`
	Last     string        `json:"last_vault_rotation"`
	TTL      time.Duration `json:"ttl"`

	timing
}

// readCreds gives out a role's user. While it is not known whether a turn took place,
// it finds out first: what it gives out works.
func (b readers) readCreds(ctx context.Context, r *route.Request, in nameIn) (*staticCredsOut, error) {
	s, err := b.static(ctx, in.Name)
	if err == nil && s == nil {
		err = fault.New("database.static", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	}
	if err != nil {
		return nil, err
	}
	if s.unsettled() {
		if s, err = b.settled(ctx, r, in.Name); err != nil {
			return nil, err
		}
	}
	password := s.Passwords[s.Current]
	if password.Empty() {
		return nil, fault.New("database.static", fault.Invalid, "the password of %q is not known yet: it is so after the first rotation; begin it by rotate-role/%s", s.Users[s.Current], in.Name)
	}
	out := &staticCredsOut{Username: s.Users[s.Current], timing: show(s.When)}
	if out.given, err = s.as(password).give(); err != nil {
		return nil, err
	}
	if s.as(password).ended(time.Now()) {
		r.Warn("the certificate has ended or ends within a minute, and %d tries to replace it have failed: %s", s.Failed, s.Why)
	}
	if s.Unproven != "" {
		r.Warn("a login with this could not be tried: %s", s.Unproven)
	}
	if !s.Last.IsZero() {
		out.Last = s.Last.Format(time.RFC3339Nano)
	}
	if !s.Next.IsZero() {
		s.hint(out, time.Now())
	}
	return out, nil
}

// unsettled reports whether it is not known which password the user that is given out has.
func (s *static) unsettled() bool { return s.Turn != nil && s.Turn.Sent && s.Turn.User == s.Current }

// hint says when to read again. Clients that know how sleep for ttl, if rotation_period comes with it and ttl
// is not zero; so one that is overdue tells when it is tried again.
func (s *static) hint(out *staticCredsOut, now time.Time) {
	left := s.Next.Sub(now)
	if left <= 0 || s.unsettled() {
		left = min(s.Due.Sub(now), time.Minute)
	}
	out.TTL = max(left.Truncate(time.Second), time.Second)
	if s.When.Schedule != "" {
		out.Period = max(s.Next.Sub(s.Last).Round(time.Second), time.Second)
		if s.Last.IsZero() {
			out.Period = out.TTL
		}
	}
}

// readWithin bounds how long a reader waits for what cannot be known yet. It is given the password from before then.
const readWithin = 2 * time.Second

// settled waits for a turn that is under way. Of one whose outcome is unknown it
// finds out which password works, if the database answers soon.
func (b readers) settled(ctx context.Context, r *route.Request, name string) (*static, error) {
	soon, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	release, busy := b.locks.Take(soon, staticPrefix+name)
	if busy == nil {
		defer release()
	}
	s, err := b.static(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, fault.New("database.static", fault.Invalid, "unknown role: %s; it was deleted meanwhile", name)
	case !s.unsettled():
		return s, nil
	case busy != nil:
		return s, b.unknown(r, s, "the database takes its time")
	}
	c, err := b.serving(ctx, name, s)
	if err == nil && !s.at(c) {
		err = fault.New("database.static", fault.Unavailable, "the connection leads elsewhere since it began; it is made anew there")
	}
	first := s.Passwords[s.Current].Empty()
	var works bool
	if err == nil {
		works, err = b.login(soon, c, s.Users[s.Current], s.as(s.Fresh))
	}
	again := first && (err == nil || fault.Is(err, fault.Unsupported)) // it is to be set once more, by the administrator
	if again && !works && c.Root.Turn && !c.Root.waits() {
		again, err = false, fault.New("database.static", fault.Unavailable, "a change of the administrator's password is under way; it is ended first")
	}
	switch {
	case works, again:
		return s, b.finish(ctx, name, s, false)
	case err != nil:
		return s, b.unknown(r, s, fault.Message(err))
	}
	return s, nil
}

// unknown warns that it cannot be known whether a change took place. Where nothing was known before, that is an error.
func (b readers) unknown(r *route.Request, s *static, why string) error {
	user := s.Users[s.Current]
	if s.Passwords[s.Current].Empty() {
		return fault.New("database.static", fault.Unavailable, "the first change of the password of %q is under way, and whether it took place cannot be found out now; try again: %s", user, why)
	}
	r.Warn("a change of the password of %q is under way, and whether it took place cannot be found out now; this is the one from before: %s", user, why)
	return nil
}
