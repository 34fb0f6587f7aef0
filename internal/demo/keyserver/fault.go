package keyserver

import (
	"context"
	"slices"
	"time"
)

// The calls.
const (
	Create  Call = "create"
	List    Call = "list"
	Get     Call = "get"
	Disable Call = "disable"
	Delete  Call = "delete"
	Use     Call = "use"
)

// The modes. They come in pairs, because what a caller may do next depends on whether the failed
// call had an effect, which the caller cannot see.
const (
	Before Mode = "before" // no effect; answers Err
	After  Mode = "after"  // takes effect; answers Err
	Hang   Mode = "hang"   // no effect; no answer as long as the caller waits
	// no answer as long as the caller waits; takes effect Delay after the call arrives, or after
	// the caller leaves if that is later
	Late Mode = "late"
	Lie  Mode = "lie" // no effect, but reports success
	Lag  Mode = "lag" // List only: shows the state as it was Delay ago
)

// Inject adds a fault. Faults of one call are queued.
func (s *Server) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Err == nil {
		f.Err = ErrCut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// Heal removes all faults that have not applied yet. Late effects still happen.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// take returns the fault that applies to this call, if any. Only lag takes faults of mode Lag.
func (s *Server) take(c Call, lag bool) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults, func(f Fault) bool { return f.Call == c && (f.Mode == Lag) == lag })
	if i < 0 {
		return Fault{}, false
	}
	f := s.faults[i]
	if s.faults[i].Times--; s.faults[i].Times == 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return f, true
}

func (s *Server) lag() time.Duration {
	f, _ := s.take(List, true)
	return f.Delay
}

// call runs effect with the lock, as the next fault allows.
func call[T any](ctx context.Context, s *Server, c Call, effect func(now time.Time) (T, error)) (T, error) {
	s.mu.Lock()
	s.calls[c]++
	s.mu.Unlock()
	locked := func() (T, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return effect(time.Now())
	}
	var none T
	if ctx.Err() != nil {
		return none, ErrCut // the request was not sent
	}
	f, ok := s.take(c, false)
	if !ok {
		return locked()
	}
	switch f.Mode {
	case Before:
		return none, f.Err
	case Lie:
		return none, nil
	case After:
		if _, err := locked(); err != nil {
			return none, err
		}
		return none, f.Err
	case Late:
		s.late(ctx, f.Delay, func() { _, _ = locked() }) // nobody waits for the result
	}
	<-ctx.Done()
	return none, ErrCut
}

// late runs effect after delay, but not while the caller still waits.
func (s *Server) late(ctx context.Context, delay time.Duration, effect func()) {
	s.mu.Lock()
	s.pending++
	s.mu.Unlock()
	timer := time.NewTimer(delay)
	go func() {
		<-timer.C
		<-ctx.Done()
		effect()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending--
	}()
}
