package database

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Calls are the running calls of a [Conn], so that Close can cancel them. Its zero value is
// open and has none.
type Calls struct {
	ended sync.WaitGroup // of calls; none is added after Close

	mu      sync.Mutex // guards the rest
	running map[*int]context.CancelCauseFunc
	closed  bool
}

// ErrClosed is the cause of the end of calls that [Calls.Close] has canceled.
var ErrClosed = errors.New("the connection to the database was closed")

// NotSent is an error that occurred before anything was sent that could have an effect.
type NotSent struct{ Err error }

// Error is the error's text.
func (e *NotSent) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *NotSent) Unwrap() error { return e.Err }

// IsNotSent reports whether an error is or wraps [NotSent].
func IsNotSent(err error) bool {
	_, early := errors.AsType[*NotSent](err)
	return early
}

// Uncertain is an error of a repeated call, whose first attempt may have had its effect.
type Uncertain struct{ Err error }

// Error is the error's text.
func (e *Uncertain) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *Uncertain) Unwrap() error { return e.Err }

// WithCause adds the cause of the context's end to an error that it caused.
func WithCause(ctx context.Context, err error) error {
	if reason := context.Cause(ctx); err != nil && reason != nil && !errors.Is(err, reason) {
		return errors.Join(err, reason)
	}
	return err
}

// Begin registers a call and returns its context, which Close cancels. After Close it returns
// [ErrClosed], as [NotSent].
func (s *Calls) Begin(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, &NotSent{ErrClosed}
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

// Close cancels running calls. It waits for them to end, but not longer than a second.
func (s *Calls) Close() {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.running {
		cancel(ErrClosed)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.ended.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Second):
	}
}
