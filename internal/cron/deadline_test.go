package cron

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlineAfterSuspend: a machine that was suspended has no time left that the others think is
// over.
func TestDeadlineAfterSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(2 * time.Minute)
		// until then the machine is suspended for an hour, which only the wall clock tells
		resumed := time.Now().Add(10 * time.Second)
		wall := func() time.Time {
			now := time.Now()
			if now.Before(resumed) {
				return now
			}
			return now.Round(0).Add(time.Hour)
		}
		ctx, cancel := withDeadline(t.Context(), at, wall)
		defer cancel()
		<-ctx.Done()
		if late := time.Since(resumed); late < 0 || late > time.Second {
			t.Errorf("it ended %v after the machine was resumed, want at most a second", late)
		}
		ctx, cancel = withDeadline(t.Context(), at, wall) // the call begins only then
		defer cancel()
		if ctx.Err() != context.DeadlineExceeded {
			t.Errorf("a call may begin: %v", ctx.Err())
		}
	})
	synctest.Test(t, func(t *testing.T) { // a clock that is set back gives no time
		at := time.Now().Add(2 * time.Minute)
		ctx, cancel := withDeadline(t.Context(), at, func() time.Time { return time.Now().Round(0).Add(-time.Hour) })
		defer cancel()
		<-ctx.Done()
		if late := time.Since(at); late != 0 {
			t.Errorf("it ended %v after its time", late)
		}
	})
}
