package cron

import (
	"context"
	"time"
)

// WithDeadline is [context.WithDeadline] for a deadline that other servers rely on, too. It also
// ends, within a second, when the wall clock reaches the deadline, because the clock of a context
// stops while the machine is suspended. If the deadline has passed, the context has already ended.
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

// Passed reports whether a time has passed by either clock of the process: the monotonic clock,
// which stops while the machine is suspended, or the wall clock, which can be set.
func Passed(at, now time.Time) bool {
	return !now.Before(at) || !now.Round(0).Before(at.Round(0))
}
