package database_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls database.Calls
		first, end, err := calls.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		end()
		if first.Err() == nil {
			t.Error("a call that has ended leaves its context open")
		}
		ctx, end, err := calls.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { <-ctx.Done(); <-time.After(300 * time.Millisecond); end() }()
		began := time.Now()
		calls.Close()
		if took := time.Since(began); took != 300*time.Millisecond ||
			!errors.Is(context.Cause(ctx), database.ErrClosed) {
			t.Errorf("closing took %v, the cause is %v", took, context.Cause(ctx))
		}
		if n := database.Running(&calls); n != 0 {
			t.Errorf("%d calls are kept that have ended", n)
		}
		if _, _, err := calls.Begin(t.Context()); !errors.Is(err, database.ErrClosed) {
			t.Errorf("beginning after the end: %v", err)
		}
	})
}

// A call that does not heed its context is not waited for.
func TestCallsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls database.Calls
		_, end, err := calls.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		calls.Close()
		if took := time.Since(began); took != time.Second {
			t.Errorf("closing took %v", took)
		}
		end()
	})
}
