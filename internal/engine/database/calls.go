package database

import (
	"context"
	"sync"
	"time"
)

// Calls are the running calls of a [Conn], so that Close can cancel them. Its zero value is
// open and has none.
type Calls struct {
	ended sync.WaitGroup // of calls; none is added after Close

	mu      sync.Mutex // guards the rest
	running map[*int]context.CancelCauseFunc
	closed  error
}

// Begin registers a call and returns its context, which Close cancels. After Close it returns
// the error that Close was given.
func (s *Calls) Begin(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return nil, nil, s.closed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if s.running == nil {
		s.running = map[*int]context.CancelCauseFunc{}
	}
	id := new(int)
	s.running[id] = cancel
	s.ended.Add(1)
	return ctx, func() {
		s.mu.Lock()
		delete(s.running, id)
		s.mu.Unlock()
		cancel(nil)
		s.ended.Done()
	}, nil
}

// Close cancels running calls, and makes Begin return why. It waits for running calls to end, but
// not longer than a second.
func (s *Calls) Close(why error) {
	s.mu.Lock()
	s.closed = why
	for _, cancel := range s.running {
		cancel(why)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.ended.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Second):
	}
}
