package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
)

// exclusively runs write while it holds the lock of a key, and again while a
// write of another node comes in between.
func (b *backend) exclusively(ctx context.Context, key string, write func() error) error {
	release, err := b.locks.Take(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	for range 8 {
		if err = write(); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("database.write", fault.Unavailable, "%q is being written by many requests at once; try again", key)
}
