// Package barriertest opens barriers in tests.
package barriertest

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Open opens the barrier of a store, and initializes a store that is new. The barrier is closed at
// the end of the test. Every store has the same root key.
func Open(t testing.TB, st storage.Store) *barrier.Barrier {
	t.Helper()
	ctx, root := context.WithoutCancel(t.Context()), secret.New(make([]byte, barrier.RootKeySize))
	if err := barrier.Initialize(ctx, st, root); err != nil && !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	b, err := barrier.Open(ctx, st, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
