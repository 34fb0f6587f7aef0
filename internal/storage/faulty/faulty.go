// Package faulty is a store for tests that fails on command. A commit can fail in two ways – not
// stored, or stored nevertheless – because callers must handle both. Its behaviour depends only on
// its seed and the order of the calls.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/storage"
)

// The errors of faults without their own.
var (
	ErrInjected = errors.New("faulty: injected failure")
	// ErrCrashed simulates a dead process; see [Store.CrashAfter].
	ErrCrashed = errors.New("faulty: crashed")
)

// Calls are methods of a store.
type Calls uint8

// The calls that a fault can concern. Zero in a [Fault] means Commits.
const (
	Commits Calls = 1 << iota
	Gets
	Scans
	Watches
	All = Commits | Gets | Scans | Watches
)

// A Mode says how a call fails.
type Mode uint8

// The modes. Only commits can be stored; for other calls, both modes of a pair are the same.
const (
	NotStored      Mode = iota // fails, nothing was stored
	Stored                     // fails, but all was stored
	Hang                       // nothing is stored, and it hangs until its context ends
	StoredThenHang             // all was stored, and it hangs until its context ends
)

// A Fault fails some of the calls.
type Fault struct {
	Calls Calls
	// Prefix: only calls with a key below it. For a Scan, that is its start, for a Watch, its
	// prefix.
	Prefix string
	// After is how many matching calls pass first.
	After int
	// Times is how many calls then fail; 0 is one, -1 all.
	Times int
	// Rate is the fraction of the following calls that fail, chosen by the seed; 0: all.
	Rate float64
	Mode Mode
	// Err is the error of the call; nil: ErrInjected. Combine storage.ErrConflict only with
	// NotStored, or the store violates its contract.
	Err error
}

// A Store passes calls to another store, except those that fail.
type Store struct {
	below storage.Store

	mu      sync.Mutex
	rng     *rand.Rand
	faults  []*armed
	commits int  // that reached the store
	crash   *int // commits left before the crash; nil: no crash planned
	atCrash Mode
	crashed chan struct{} // closed by the crash
}

type armed struct {
	Fault
	passed, failed int
}

var _ storage.Store = (*Store)(nil)

// New wraps a store, which the caller still owns.
func New(below storage.Store, seed uint64) *Store {
	return &Store{below: below, rng: rand.New(rand.NewPCG(seed, seed)), crashed: make(chan struct{})}
}

// Inject adds a fault. If several match a call, the first one is used.
func (s *Store) Inject(f Fault) {
	if f.Calls == 0 {
		f.Calls = Commits
	}
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Err == nil {
		f.Err = ErrInjected
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &armed{Fault: f})
}

// Clear removes all faults, but not a crash.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// CrashAfter lets n more commits pass; the next fails as mode says, and from
// then on every call fails with ErrCrashed and every Watch ends, as if the
// process had died there. Calls that hang in a fault end, too.
func (s *Store) CrashAfter(n int, mode Mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crash, s.atCrash = &n, mode
}

// Crash simulates a crash now, in the middle of other calls.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.deadLocked() {
		close(s.crashed)
	}
}

// Crashed is closed when the crash happens.
func (s *Store) Crashed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

// Revive simulates a restart of the process: it ends a crash, or cancels a planned one. Faults
// stay.
func (s *Store) Revive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crash = nil
	if s.deadLocked() {
		s.crashed = make(chan struct{})
	}
}

// Commits returns how many commits were passed on. After a run without faults, it is the number of
// points at which a crash can be tested.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

func (s *Store) deadLocked() bool {
	select {
	case <-s.crashed:
		return true
	default:
		return false
	}
}

// A verdict says how one call fails.
type verdict struct {
	mode    Mode
	err     error // nil: it passes
	crashed <-chan struct{}
}

func (s *Store) judge(call Calls, keys ...string) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := verdict{crashed: s.crashed}
	if s.deadLocked() {
		v.err = ErrCrashed
		return v
	}
	if call == Commits && s.crash != nil {
		if *s.crash == 0 {
			close(s.crashed)
			v.mode, v.err = s.atCrash, ErrCrashed
			s.countLocked(call, v)
			return v
		}
		*s.crash--
	}
	for _, f := range s.faults {
		if f.Calls&call != 0 && slices.ContainsFunc(keys,
			func(k string) bool { return strings.HasPrefix(k, f.Prefix) }) && s.strikesLocked(f) {
			v.mode, v.err = f.Mode, f.Err
			break
		}
	}
	s.countLocked(call, v)
	return v
}

func (s *Store) countLocked(call Calls, v verdict) {
	if call == Commits && (v.err == nil || v.stores()) {
		s.commits++
	}
}

func (s *Store) strikesLocked(f *armed) bool {
	if f.passed < f.After {
		f.passed++
		return false
	}
	if f.Times >= 0 && f.failed >= f.Times || f.Rate > 0 && s.rng.Float64() >= f.Rate {
		return false
	}
	f.failed++
	return true
}

func (v verdict) stores() bool { return v.mode == Stored || v.mode == StoredThenHang }

// fail returns the error, at once or when the context or the process ends.
func (v verdict) fail(ctx context.Context) error {
	if v.mode != Hang && v.mode != StoredThenHang || v.err == ErrCrashed {
		return v.err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.crashed:
		return ErrCrashed
	}
}

// Get implements [storage.Store].
func (s *Store) Get(ctx context.Context, key string) (storage.Entry, error) {
	if v := s.judge(Gets, key); v.err != nil {
		return storage.Entry{}, v.fail(ctx)
	}
	return s.below.Get(ctx, key)
}

// Scan implements [storage.Store].
func (s *Store) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if v := s.judge(Scans, from); v.err != nil {
			yield(storage.Entry{}, v.fail(ctx))
			return
		}
		crashed := s.Crashed()
		for e, err := range s.below.Scan(ctx, from, to) {
			select {
			case <-crashed:
				yield(storage.Entry{}, ErrCrashed)
				return
			default:
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Commit implements [storage.Store].
func (s *Store) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	keys := make([]string, len(b.Ops))
	for i, op := range b.Ops {
		keys[i] = op.Key
	}
	v := s.judge(Commits, keys...)
	if v.err == nil {
		return s.below.Commit(ctx, b)
	}
	if v.stores() {
		// Store it even if the caller no longer waits. A conflict is returned as such.
		if _, err := s.below.Commit(context.WithoutCancel(ctx), b); err != nil {
			return 0, fmt.Errorf("%w (and below: %w)", v.err, err)
		}
	}
	return 0, v.fail(ctx)
}

// Watch implements [storage.Store].
func (s *Store) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	return func(yield func(storage.Change, error) bool) {
		v := s.judge(Watches, prefix)
		if v.err != nil {
			yield(storage.Change{}, v.fail(ctx))
			return
		}
		inner, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			select {
			case <-v.crashed:
				cancel(ErrCrashed)
			case <-ended:
			}
		}()
		for c, err := range s.below.Watch(inner, prefix, after) {
			if context.Cause(inner) == ErrCrashed {
				yield(storage.Change{}, ErrCrashed)
				return
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// Close closes the store below, crashed or not.
func (s *Store) Close() error { return s.below.Close() }
