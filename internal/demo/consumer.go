package demo

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A reading is what the consumer reads from the server.
type reading struct {
	Key     string
	KeyID   string
	Version int
	TTL     time.Duration // when to read again
}

const (
	// callEvery is how often the consumer calls the provider.
	callEvery = 10 * time.Millisecond
	// readAgain is the wait after a failed read.
	readAgain = 250 * time.Millisecond
)

// A consumer is an application that calls the provider all the time. It reads a new key only after
// the time that the last answer named. While it cannot read, it continues with its key.
type consumer struct {
	read func(ctx context.Context) (reading, error)
	use  func(ctx context.Context, key string) error
	tell func(format string, args ...any)

	current atomic.Pointer[reading]
	calls   atomic.Int64
	failed  atomic.Int64
	reads   atomic.Int64
	missed  atomic.Int64 // failed reads

	mu    sync.Mutex // guards first
	first error      // the first error of a call
}

// run reads and calls until ctx ends.
func (c *consumer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	again := c.step(ctx)
	for c.current.Load() == nil && wait(ctx, again) == nil {
		again = c.step(ctx)
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			c.call(ctx)
			_ = wait(ctx, callEvery) // the loop checks ctx
		}
	})
	for wait(ctx, again) == nil {
		again = c.step(ctx)
	}
}

// step reads once and returns when to read again.
func (c *consumer) step(ctx context.Context) time.Duration {
	got, err := c.read(ctx)
	if err != nil {
		if ctx.Err() == nil && c.missed.Add(1) == 1 {
			c.tell("cannot read the key, and goes on with the one it has")
		}
		return readAgain
	}
	c.reads.Add(1)
	before := c.current.Swap(&got)
	if before == nil || before.Key != got.Key {
		c.tell("has read version %d: uses %s from now on", got.Version, got.KeyID)
	}
	return max(got.TTL, readAgain)
}

// call uses the key once. A call that the end of ctx interrupts does not count.
func (c *consumer) call(ctx context.Context) {
	err := c.use(ctx, c.current.Load().Key)
	if ctx.Err() != nil {
		return
	}
	c.calls.Add(1)
	if err == nil {
		return
	}
	if c.failed.Add(1) == 1 {
		c.mu.Lock()
		c.first = err
		c.mu.Unlock()
		c.tell("A CALL FAILED: %v", err)
	}
}

// trouble returns the error of the first failed call, or nil.
func (c *consumer) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}
