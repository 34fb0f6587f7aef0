package keyserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"sync"
	"time"
)

// A Config is the behaviour of a [Server] without faults.
type Config struct {
	AdminToken  string        // required
	MaxKeys     int           // maximum of live keys; 0 is no limit
	ActiveAfter time.Duration // how long a new key is refused
	DeadAfter   time.Duration // how long a disabled or deleted key still works
}

// A Key is an issued key. The server keeps it after its deletion.
type Key struct {
	ID       string
	Secret   string
	Label    string
	Created  time.Time
	LastUsed time.Time // zero if never
	Disabled time.Time // zero if enabled
	Deleted  time.Time // zero if it exists
}

// A Server is the provider.
type Server struct {
	config Config

	mu      sync.Mutex // guards the rest
	keys    []Key      // in order of creation
	faults  []Fault
	pending int // effects that are still to come
	calls   map[Call]int
	refused int // calls whose key was not live
}

// live reports whether k is accepted at now, with the configured delays.
func (s *Server) live(k Key, now time.Time) bool {
	ended := func(t time.Time) bool { return !t.IsZero() && !now.Before(t.Add(s.config.DeadAfter)) }
	return !now.Before(k.Created.Add(s.config.ActiveAfter)) && !ended(k.Disabled) && !ended(k.Deleted)
}

// find returns the existing key with the ID, or nil. The lock is held.
func (s *Server) find(id string) *Key {
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.ID == id && k.Deleted.IsZero() })
	if i < 0 {
		return nil
	}
	return &s.keys[i]
}

// count returns the number of existing keys. The lock is held.
func (s *Server) count() (n int) {
	for _, k := range s.keys {
		if k.Deleted.IsZero() {
			n++
		}
	}
	return n
}

// same compares in constant time.
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
	Err   error // for Before and After; ErrCut by default
	Delay time.Duration
	Times int // number of calls that fail; 1 by default; negative means until Heal
}

// A Mode is a way to fail.
type Mode string

// Errors of a call. The handler maps them to statuses.
var (
	ErrUnauthorized = errors.New("keyserver: the credential is refused")        // 401
	ErrNotFound     = errors.New("keyserver: there is no such key")             // 404
	ErrFull         = errors.New("keyserver: the limit on keys is reached")     // 409
	ErrCut          = errors.New("keyserver: the connection was cut")           // no reply
	ErrBroken       = errors.New("keyserver: internal error (asked for)")       // 500
	ErrBusy         = errors.New("keyserver: too many requests (asked for)")    // 429
	ErrBadRequest   = errors.New("keyserver: the request cannot be understood") // 400
)
