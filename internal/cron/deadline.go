package cron

import (
	"context"
	"time"
)

// WithDeadline is [context.WithDeadline] for what may be done until a time that other servers
// know, too: a call that they count as over then. It also ends once the wall clock says so, within
// a second: the clock of a context stands still while its machine is suspended. Where the time has
// come already, the context is over.
func WithDeadline(ctx context.Context, at time.Time) (context.Context, context.CancelFunc) {
	return withDeadline(ctx, at, time.Now)
}

func withDeadline(ctx context.Context, at time.Time, now func() time.Time) (context.Context, context.CancelFunc) {
	if Passed(at, now()) {
		return context.WithDeadline(ctx, time.Unix(0, 0))
	}
	ctx, cancel := context.WithDeadline(ctx, at)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if Passed(at, now()) {
					cancel()
					return
				}
			}
		}
	}()
	return ctx, cancel
}

// Passed reports whether a time has come by either of the clocks that a process has: the one that
// stands still while the machine is suspended, and the one that somebody may set.
func Passed(at, now time.Time) bool {
	return !now.Before(at) || !now.Round(0).Before(at.Round(0))
}
