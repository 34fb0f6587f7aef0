package locks

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Named
		release, err := l.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.Take(t.Context(), "b") // another name does not wait
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Take(ctx, "a"); !fault.Is(err, fault.Timeout) {
			t.Errorf("waiting past the deadline: %v", err)
		}
		var got sync.WaitGroup
		holders, most := 0, 0
		for range 20 {
			got.Go(func() {
				release, err := l.Take(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				holders++
				most = max(most, holders)
				time.Sleep(time.Second)
				holders--
				release()
			})
		}
		synctest.Wait()
		release()
		got.Wait()
		if most != 1 || len(l.m) != 0 {
			t.Errorf("%d held it at once, and %d names are left", most, len(l.m))
		}
	})
}
