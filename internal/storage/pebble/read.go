package pebble

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyturn/keyturn/internal/storage"
)

// get reads one entry, its value only if asked for.
func (h *handle) get(key string, withValue bool) (storage.Entry, error) {
	slot, hash := h.rows.at(key)
	if w := slot.get(key); w != nil {
		return w.entry(withValue), nil
	}
	gen := slot.gen.Load() // before the read
	buf := keys.Get().(*[]byte)
	*buf = append(append((*buf)[:0], tagEntry), key...)
	raw, closer, err := h.db.Get(*buf)
	keys.Put(buf)
	if errors.Is(err, pebble.ErrNotFound) {
		e := storage.Entry{Key: key}
		slot.keep(e, hash, gen)
		return e, nil
	}
	if err != nil {
		return storage.Entry{}, fmt.Errorf("reading %q: %w", key, err)
	}
	e, err := decode(key, raw, withValue)
	if err = errors.Join(err, closer.Close()); err == nil && withValue {
		slot.keep(e, hash, gen)
	}
	return e, err
}

// keys are buffers for a key as Pebble stores it.
var keys = sync.Pool{New: func() any { b := make([]byte, 0, 128); return &b }}

// chunkBytes limits a chunk of a scan, so that it does not delay closing, or take much memory.
const chunkBytes = 256 << 10

// scan reads up to limit entries. need is the commit that must be durable before they may be
// returned: the newest of theirs, or the last commit that deleted, because it may have removed an
// entry between them.
func (h *handle) scan(from, to string, limit int) (chunk []storage.Entry, need uint64, more bool, err error) {
	bounds := &pebble.IterOptions{
		LowerBound: append([]byte{tagEntry}, from...),
		UpperBound: []byte{tagEntry + 1},
	}
	if to != "" {
		bounds.UpperBound = append([]byte{tagEntry}, to...)
	}
	it, err := h.db.NewIter(bounds)
	if err != nil {
		return nil, 0, false, fmt.Errorf("opening an iterator: %w", err)
	}
	need = h.numbers.lastDelete.Load()
	size := 0
	for ok := it.First(); ok; ok = it.Next() {
		if len(chunk) == limit || size > chunkBytes {
			more = true
			break
		}
		raw, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, false, errors.Join(fmt.Errorf("reading %q: %w", it.Key()[1:], err), it.Close())
		}
		e, err := decode(string(it.Key()[1:]), raw, true)
		if err != nil {
			return nil, 0, false, errors.Join(err, it.Close())
		}
		need = max(need, uint64(e.Version))
		size += len(e.Key) + len(e.Value)
		chunk = append(chunk, e)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, 0, false, fmt.Errorf("scanning from %q: %w", from, err)
	}
	return chunk, need, more, nil
}

// check compares b's assertions with what is applied. It returns a conflict only when the
// conflicting commit is durable.
func (h *handle) check(ctx context.Context, b storage.Batch) error {
	if !h.acquire() {
		return errPoisoned
	}
	e, op, err := h.firstConflict(b)
	h.use.RUnlock()
	if err != nil || op == nil {
		return err
	}
	if err := h.numbers.settle(ctx, h.dead, e); err != nil {
		return err
	}
	return fmt.Errorf("%w: %q has version %d, not %d", storage.ErrConflict, op.Key, e.Version, op.Want)
}

func (h *handle) firstConflict(b storage.Batch) (storage.Entry, *storage.Op, error) {
	for i := range b.Ops {
		op := &b.Ops[i]
		if !op.Check {
			continue
		}
		e, err := h.get(op.Key, false)
		if err != nil {
			return e, nil, err
		}
		if e.Version != op.Want {
			return e, op, nil
		}
	}
	return storage.Entry{}, nil, nil
}
