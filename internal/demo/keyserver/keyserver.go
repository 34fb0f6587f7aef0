// Package keyserver is a small provider of keys for demonstrations and tests: an HTTP API that
// issues keys with labels, lists, disables and deletes them, and accepts calls with live keys
// only. It fails on command.
//
//	POST   /v1/keys               {"label": …} → 201 {"id", "secret", "label", …}  admin
//	GET    /v1/keys?after=&limit= → {"keys": [{"id", "label", "created_at", …}], "next"}
//	GET    /v1/keys/{id}          → one of these
//	POST   /v1/keys/{id}/disable  → 204
//	POST   /v1/keys/{id}/enable   → 204
//	DELETE /v1/keys/{id}          → 204, or 404
//	GET    /v1/whoami             → {"id", "label"}  a key
//
// Authorization is "Bearer" and the admin token or the key; a wrong one gets 401. A [Server] keeps
// everything in memory behind one lock. Its methods and its handler are safe for concurrent use.
package keyserver

import (
	"context"
	"crypto/rand"
	"slices"
	"time"
)

// New returns a server without keys.
func New(c Config) *Server {
	if c.AdminToken == "" {
		panic("keyserver: an admin token is required")
	}
	return &Server{config: c, calls: map[Call]int{}}
}

// Create issues a key.
func (s *Server) Create(ctx context.Context, admin, label string) (Key, error) {
	if err := s.admin(admin); err != nil {
		return Key{}, err
	}
	return call(ctx, s, Create, func(now time.Time) (Key, error) {
		if s.config.MaxKeys > 0 && s.count() >= s.config.MaxKeys {
			return Key{}, ErrFull
		}
		made := Key{ID: "key_" + rand.Text()[:12], Secret: "ks_live_" + rand.Text(), Label: label, Created: now}
		s.keys = append(s.keys, made)
		return made, nil
	})
}

// List returns the existing keys, oldest first. With a Lag fault it returns an earlier state.
func (s *Server) List(ctx context.Context, admin string) ([]Key, error) {
	if err := s.admin(admin); err != nil {
		return nil, err
	}
	lag := s.lag()
	return call(ctx, s, List, func(now time.Time) (out []Key, err error) {
		at := now.Add(-lag)
		for _, k := range s.keys {
			if !k.Created.After(at) && (k.Deleted.IsZero() || k.Deleted.After(at)) {
				out = append(out, k)
			}
		}
		return out, nil
	})
}

// Get returns one key.
func (s *Server) Get(ctx context.Context, admin, id string) (Key, error) {
	if err := s.admin(admin); err != nil {
		return Key{}, err
	}
	return call(ctx, s, Get, func(time.Time) (Key, error) {
		k := s.find(id)
		if k == nil {
			return Key{}, ErrNotFound
		}
		return *k, nil
	})
}

// Disable disables or enables a key.
func (s *Server) Disable(ctx context.Context, admin, id string, disabled bool) error {
	if err := s.admin(admin); err != nil {
		return err
	}
	_, err := call(ctx, s, Disable, func(now time.Time) (none struct{}, err error) {
		k := s.find(id)
		switch {
		case k == nil:
			return none, ErrNotFound
		case !disabled:
			k.Disabled = time.Time{}
		case k.Disabled.IsZero():
			k.Disabled = now
		}
		return none, nil
	})
	return err
}

// Delete removes a key.
func (s *Server) Delete(ctx context.Context, admin, id string) error {
	if err := s.admin(admin); err != nil {
		return err
	}
	_, err := call(ctx, s, Delete, func(now time.Time) (none struct{}, err error) {
		k := s.find(id)
		if k == nil {
			return none, ErrNotFound
		}
		k.Deleted = now
		return none, nil
	})
	return err
}

// Use is a call of a key's user. It succeeds only with a live key.
func (s *Server) Use(ctx context.Context, secret string) (Key, error) {
	return call(ctx, s, Use, func(now time.Time) (Key, error) {
		i := slices.IndexFunc(s.keys, func(k Key) bool { return same(k.Secret, secret) })
		if i < 0 || !s.live(s.keys[i], now) {
			s.refused++
			return Key{}, ErrUnauthorized
		}
		s.keys[i].LastUsed = now
		return s.keys[i], nil
	})
}

// Live returns the keys that are neither disabled nor deleted, oldest first.
func (s *Server) Live() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Key
	for _, k := range s.keys {
		if k.Disabled.IsZero() && k.Deleted.IsZero() {
			out = append(out, k)
		}
	}
	return out
}

// Issued returns every key ever issued, oldest first.
func (s *Server) Issued() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys)
}

// Stats counts the calls of a server.
type Stats struct {
	Calls   map[Call]int
	Refused int // Use calls whose key was not live
	Pending int // effects of Late faults that are still to come
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := map[Call]int{}
	for c, n := range s.calls {
		calls[c] = n
	}
	return Stats{calls, s.refused, s.pending}
}

func (s *Server) admin(token string) error {
	if !same(token, s.config.AdminToken) {
		return ErrUnauthorized
	}
	return nil
}
