package core

import (
	"context"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/storage"
)

// removeBelow removes all rows with a prefix that sort before end, in batches.
func removeBelow(ctx context.Context, view *barrier.View, prefix, end string) error {
	for {
		var ops []storage.Op
		for row, err := range view.Scan(ctx, prefix, end) {
			if err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(row.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}
