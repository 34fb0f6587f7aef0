package rotate

import (
	"context"
	"fmt"

	"github.com/keyturn/keyturn/internal/storage"
)

// trim removes the oldest turns and journal rows.
func trim(ctx context.Context, e *Edit) (ops []storage.Op, err error) {
	for prefix, keep := range map[string]int{e.kind.History: MaxHistory, e.kind.Journal: maxJournal} {
		prefix += e.Rec.Name + "/"
		var keys []string
		for row, err := range e.m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if row.Key == "" && err != nil {
				return nil, err
			}
			keys = append(keys, row.Key)
		}
		keys = keys[:max(len(keys)-keep+1, 0)]
		for len(keys) > trimmed {
			n := min(len(keys)-trimmed, storage.MaxOps)
			if _, err := e.m.cfg.Store.Commit(ctx, removals(keys[:n])...); err != nil {
				return nil, err
			}
			keys = keys[n:]
		}
		ops = append(ops, removals(keys)...)
	}
	return ops, nil
}

func removals(keys []string) (ops []storage.Op) {
	for _, key := range keys {
		ops = append(ops, storage.Remove(key))
	}
	return ops
}

// trimmed is how many rows of a prefix are removed by the commit that ends a rotation; a rotation may have left more.
const trimmed = 40

// past is the row of a rotation that has ended.
func (k *Kind) past(name string, n uint32) string {
	return fmt.Sprintf("%s%s/%010d", k.History, name, n)
}

// How much history is kept of a key.
const (
	MaxHistory = 100 // rotations
	maxJournal = 2000
)
