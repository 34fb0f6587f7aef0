package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/locks"
)

// writeLocks serializes this server's writes of a connection or a role.
type writeLocks struct{ byKey locks.Named }

// do runs write while it holds the lock of a key. It repeats write if another server wrote at the
// same time.
func (l *writeLocks) do(ctx context.Context, key string, write func() error) error {
	release, err := l.byKey.Take(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	for range 8 {
		if err = write(); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("database.write", fault.Unavailable, "%q is being written by many requests at once; try again",
		key)
}
