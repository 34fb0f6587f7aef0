package keyserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"sync"
	"time"
)

// A Config says how a [Server] behaves when nothing is broken.
type Config struct {
	AdminToken  string        // required
	MaxKeys     int           // keys that can live at once; 0: no limit
	ActiveAfter time.Duration // a new key is refused for so long
	DeadAfter   time.Duration // a disabled or deleted key works on for so long
}

// A Key is one that was issued. It stays known after it is deleted.
type Key struct {
	ID       string
	Secret   string
	Label    string
	Created  time.Time
	LastUsed time.Time // zero: never
	Disabled time.Time // zero: enabled
	Deleted  time.Time // zero: there
}

// A Server is the provider.
type Server struct {
	config Config

	mu      sync.Mutex // guards all below
	keys    []Key      // in order of creation
	faults  []Fault
	pending int // effects that are still to land
	calls   map[Call]int
	refused int // calls with a key that was not live
}

// live reports whether k is accepted at now, with the delays of the configuration.
func (s *Server) live(k Key, now time.Time) bool {
	ended := func(t time.Time) bool { return !t.IsZero() && !now.Before(t.Add(s.config.DeadAfter)) }
	return !now.Before(k.Created.Add(s.config.ActiveAfter)) && !ended(k.Disabled) && !ended(k.Deleted)
}

// find returns the key that is there under id, or nil. The lock is held.
func (s *Server) find(id string) *Key {
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.ID == id && k.Deleted.IsZero() })
	if i < 0 {
		return nil
	}
	return &s.keys[i]
}

// count is the number of keys that are there. The lock is held.
func (s *Server) count() (n int) {
	for _, k := range s.keys {
		if k.Deleted.IsZero() {
			n++
		}
	}
	return n
}

// same compares in time that does not depend on the contents.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// A Call is a kind of request.
type Call string

// A Fault is an order to fail.
type Fault struct {
	Call  Call
	Mode  Mode
	Err   error // of Before and After; nil: ErrCut
	Delay time.Duration
	Times int // how many calls fail so; 0: one; negative: until Heal
}

// A Mode is a way to fail.
type Mode string

// Errors of a call. The handler turns them into statuses.
var (
	ErrUnauthorized = errors.New("keyserver: the credential is refused")        // 401
	ErrNotFound     = errors.New("keyserver: there is no such key")             // 404
	ErrFull         = errors.New("keyserver: the limit on keys is reached")     // 409
	ErrCut          = errors.New("keyserver: the connection was cut")           // no reply
	ErrBroken       = errors.New("keyserver: internal error (asked for)")       // 500
	ErrBusy         = errors.New("keyserver: too many requests (asked for)")    // 429
	ErrBadRequest   = errors.New("keyserver: the request cannot be understood") // 400
)
