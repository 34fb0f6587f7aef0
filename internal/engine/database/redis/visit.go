package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// partly is an error of a call that had its effect at other servers.
type partly struct{ err error }

func (e *partly) Error() string { return e.err.Error() }
func (e *partly) Unwrap() error { return e.err }

// A visit is one call to all servers, with a session at each.
type visit struct {
	pool     *conn
	servers  []server
	sessions []*session
}

// visit runs f.
func (c *conn) visit(ctx context.Context, f func(ctx context.Context, v *visit) error) error {
	ctx, end, err := c.calls.Begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return &database.NotSent{Err: database.WithCause(ctx, ctx.Err())}
		}
	}
	v := &visit{pool: c}
	if v.servers, err = c.members(ctx); err != nil {
		return &database.NotSent{Err: database.WithCause(ctx, err)}
	}
	v.sessions = make([]*session, len(v.servers))
	err = f(ctx, v)
	for _, s := range v.sessions {
		c.give(s, ctx.Err() == nil)
	}
	return err
}

// downWithin is how long a server is waited for that the others count as down.
const downWithin = time.Second

// all runs f for all servers at once, and returns the errors in their order.
func (v *visit) all(ctx context.Context, f func(ctx context.Context, i int, to server) error) []error {
	errs := make([]error, len(v.servers))
	var running sync.WaitGroup
	for i, to := range v.servers {
		running.Go(func() {
			ctx := ctx
			if to.down {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, downWithin)
				defer cancel()
			}
			errs[i] = database.WithCause(ctx, f(ctx, i, to))
		})
	}
	running.Wait()
	return errs
}

// each runs f with a session at each server.
func (v *visit) each(ctx context.Context, f func(ctx context.Context, s *session) error) []error {
	return v.all(ctx, func(ctx context.Context, i int, to server) (err error) {
		if v.sessions[i] == nil {
			if v.sessions[i], err = v.pool.session(ctx, to); err != nil {
				return &database.NotSent{Err: err}
			}
		}
		err = f(ctx, v.sessions[i])
		if ctx.Err() != nil || readOnly(err) {
			v.sessions[i].broken = true
		}
		return err
	})
}

// look runs f, which changes nothing, at all servers.
func (v *visit) look(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	return v.worst(v.each(ctx, f))
}

// change runs f, which changes something, at all servers: what it did at some stays where it fails
// at others.
func (v *visit) change(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	errs := v.each(ctx, f)
	err := v.worst(errs)
	if err != nil && slices.Contains(errs, nil) {
		return &partly{err}
	}
	return err
}

// worst is one of the errors: if there is such, one after which the server may have changed.
func (v *visit) worst(errs []error) error {
	at, failed := -1, 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		failed++
		early := database.IsNotSent(err)
		if at < 0 || !early {
			at = i
		}
	}
	switch {
	case at < 0:
		return nil
	case len(errs) == 1:
		return errs[0]
	}
	return &atServer{fmt.Sprintf("server %s (%d of %d failed)", v.servers[at].address, failed, len(errs)), errs[at]}
}

// readOnly reports whether the session's server changes nothing: it became a replica after a
// fail-over. A new session may reach another server.
func readOnly(err error) bool {
	said, ok := errors.AsType[*answer](err)
	return ok && said.at == 0 && said.word() == "READONLY"
}
