package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A shop fakes what a consumer reads and calls.
type shop struct {
	mu    sync.Mutex
	value reading
	err   error    // the error of a read
	live  []string // accepted keys
	told  []string
	reads []time.Time
}

func (s *shop) consumer() *consumer {
	return &consumer{
		read: func(context.Context) (reading, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reads = append(s.reads, time.Now())
			return s.value, s.err
		},
		use: func(ctx context.Context, key string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Contains(s.live, key) {
				return errors.New("401")
			}
			return ctx.Err()
		},
		tell: func(format string, args ...any) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, fmt.Sprintf(format, args...))
		},
	}
}

func (s *shop) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// with runs a consumer in a bubble during f.
func (s *shop) with(t *testing.T, f func(c *consumer)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		c := s.consumer()
		done := make(chan struct{})
		go func() {
			c.run(ctx)
			close(done)
		}()
		f(c)
		end()
		<-done
	})
}

// TestConsumerFollows checks that a consumer uses a new key after the time to read again. It runs
// in a bubble.
func TestConsumerFollows(t *testing.T) {
	s := &shop{value: reading{"one", "k1", 1, 2 * time.Second}, live: []string{"one", "two"}}
	s.with(t, func(c *consumer) {
		time.Sleep(1 * time.Second)
		s.set(func() { s.value = reading{"two", "k2", 2, 2 * time.Second} })
		time.Sleep(900 * time.Millisecond)
		if got := c.current.Load().Key; got != "one" {
			t.Errorf("before the time that the answer named: uses %q, want one", got)
		}
		time.Sleep(200 * time.Millisecond)
		s.set(func() { s.live = []string{"two"} })
		time.Sleep(time.Second)
		if got := c.current.Load().Key; got != "two" {
			t.Errorf("after the time that the answer named: uses %q, want two", got)
		}
		if c.failed.Load() != 0 || c.calls.Load() < 250 || c.trouble() != nil {
			t.Errorf("got %d calls, %d failed (%v), want at least 250 and none", c.calls.Load(), c.failed.Load(),
				c.trouble())
		}
		if len(s.reads) != 2 {
			t.Errorf("read %d times, want 2", len(s.reads))
		}
		if len(s.told) != 2 || !strings.Contains(s.told[1], "version 2: uses k2") {
			t.Errorf("told %q", s.told)
		}
	})
}

// TestConsumerGoesOn checks that a consumer continues with its key while the server is down. It
// runs in a bubble.
func TestConsumerGoesOn(t *testing.T) {
	s := &shop{value: reading{"one", "k1", 1, time.Second}, live: []string{"one"}}
	s.with(t, func(c *consumer) {
		time.Sleep(100 * time.Millisecond)
		s.set(func() { s.err = errors.New("connection refused") })
		time.Sleep(5 * time.Second)
		if c.failed.Load() != 0 || c.calls.Load() < 450 || c.missed.Load() < 10 {
			t.Errorf("got %d calls, %d failed, %d readings missed", c.calls.Load(), c.failed.Load(), c.missed.Load())
		}
		s.set(func() { s.err, s.value = nil, reading{"one", "k1", 1, time.Second} })
		time.Sleep(time.Second)
		if c.reads.Load() < 2 {
			t.Errorf("read %d times, want it to read again when it can", c.reads.Load())
		}
	})
}

// TestConsumerWaits checks a consumer before a key is published. It runs in a bubble.
func TestConsumerWaits(t *testing.T) {
	s := &shop{err: errors.New("404"), live: []string{"one"}}
	s.with(t, func(c *consumer) {
		time.Sleep(time.Second)
		if c.calls.Load() != 0 {
			t.Errorf("got %d calls without a key, want 0", c.calls.Load())
		}
	})
}

// TestConsumerCountsFailures checks that failures are counted and the first one is kept. It runs
// in a bubble.
func TestConsumerCountsFailures(t *testing.T) {
	s := &shop{value: reading{"one", "k1", 1, time.Second}, live: []string{"one"}}
	s.with(t, func(c *consumer) {
		time.Sleep(500 * time.Millisecond)
		s.set(func() { s.live = nil })
		time.Sleep(55 * time.Millisecond)
		if got := c.failed.Load(); got < 5 || got > 6 {
			t.Errorf("got %d failed calls, want 5 or 6", got)
		}
		if err := c.trouble(); err == nil || err.Error() != "401" {
			t.Errorf("got %v, want the first failure", err)
		}
	})
	if n := strings.Count(strings.Join(s.told, "\n"), "FAILED"); n != 1 {
		t.Errorf("told of %d failures, want 1: %q", n, s.told)
	}
}

// TestConsumerEnds checks that a call that the end interrupts is no failure.
func TestConsumerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		s := &shop{value: reading{"one", "k1", 1, time.Second}}
		c := s.consumer()
		c.use = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		go func() {
			time.Sleep(time.Second)
			end()
		}()
		c.run(ctx)
		if c.calls.Load() != 0 || c.failed.Load() != 0 {
			t.Errorf("got %d calls, %d failed, want none", c.calls.Load(), c.failed.Load())
		}
	})
}
