package barrier

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A View is the decrypted part of the store below a prefix. Its keys are relative to the prefix;
// operations with absolute keys can join its commits. Its errors have kinds of fault, and still
// match the sentinels of storage. Safe for concurrent use.
type View struct {
	b      *Barrier
	prefix string
	guards []storage.Op
}

// View returns the view below prefix, which ends in a slash, or is empty for absolute keys.
func (b *Barrier) View(prefix string) *View { return &View{b: b, prefix: prefix} }

// With returns a view whose commits include these assertions, on absolute keys.
func (v *View) With(asserts ...storage.Op) *View {
	w := *v
	w.guards = append(slices.Clone(v.guards), asserts...)
	return &w
}

// Prefix returns the prefix of the view.
func (v *View) Prefix() string { return v.prefix }

// Abs returns an operation of this view with its absolute key, for a commit of another view.
func (v *View) Abs(op storage.Op) storage.Op {
	op.Key = v.prefix + op.Key
	return op
}

// Get returns the entry at key. An absent one has Version 0 and no error.
func (v *View) Get(ctx context.Context, key string) (storage.Entry, error) {
	const op = "barrier.Get"
	r := v.b.ring.Load()
	if r == nil {
		return storage.Entry{}, errSealed(op)
	}
	abs := v.prefix + key
	if raw(abs) {
		return storage.Entry{}, fault.Wrap(op, fault.Internal, fmt.Errorf("%q is not read through the barrier", abs))
	}
	e, err := v.b.store.Get(ctx, abs)
	if err != nil {
		return storage.Entry{}, storeError(op, err)
	}
	if e.Version == 0 {
		return storage.Entry{Key: key}, nil
	}
	e.Key = abs
	if err := v.b.decrypt(ctx, op, r, &e); err != nil {
		return storage.Entry{}, err
	}
	e.Key = key
	return e, nil
}

// Scan yields the entries with from ≤ key < to in byte order, like [storage.Store]; to "" means
// the end of the view. An entry that cannot be decrypted is yielded with its key and an error,
// after which the scan can continue; any other error ends it.
func (v *View) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	const op = "barrier.Scan"
	return func(yield func(storage.Entry, error) bool) {
		end := v.prefix + to
		if to == "" {
			end = storage.PrefixEnd(v.prefix)
		}
		if v.b.ring.Load() == nil {
			yield(storage.Entry{}, errSealed(op))
			return
		}
		for e, err := range v.b.store.Scan(ctx, v.prefix+from, end) {
			if err != nil {
				yield(storage.Entry{}, storeError(op, err))
				return
			}
			if raw(e.Key) {
				continue
			}
			r := v.b.ring.Load()
			if r == nil {
				yield(storage.Entry{}, errSealed(op))
				return
			}
			if err = v.b.decrypt(ctx, op, r, &e); err != nil {
				e.Value = nil
			}
			e.Key = e.Key[len(v.prefix):]
			if !yield(e, err) || err != nil && !fault.Is(err, fault.Internal) {
				return
			}
		}
	}
}

// Commit stores all operations, with relative keys, or none, and returns the commit's number. If
// an assertion fails, the error is fault.Conflict. With fault.Unavailable, it is unknown whether
// they were stored, unless the error is [storage.ErrFull].
func (v *View) Commit(ctx context.Context, ops ...storage.Op) (storage.Version, error) {
	return v.CommitWith(ctx, ops, nil)
}

// CommitWith is Commit with operations on absolute keys in the same batch, such as due items,
// events and leases.
func (v *View) CommitWith(ctx context.Context, ops, absolute []storage.Op) (storage.Version, error) {
	const op = "barrier.Commit"
	all := make([]storage.Op, 0, len(ops)+len(absolute)+len(v.guards))
	for _, o := range ops {
		if o.Key == "" {
			return 0, fault.Wrap(op, fault.Internal, fmt.Errorf("an empty key below %q", v.prefix))
		}
		all = append(all, v.Abs(o))
	}
	all = append(all, absolute...)
	for _, g := range v.guards {
		i := slices.IndexFunc(all, func(o storage.Op) bool { return o.Key == g.Key && !o.Stamp })
		switch {
		case i < 0:
			all = append(all, g)
		case !all[i].Check:
			all[i] = all[i].If(g.Want)
		case all[i].Want != g.Want:
			return 0, storeError(op, fmt.Errorf("%w: %q cannot have two versions", storage.ErrConflict, g.Key))
		}
	}
	return v.b.commit(ctx, all)
}

// Watch yields the changes of keys below prefix, like [storage.Store].
func (v *View) Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error] {
	const op = "barrier.Watch"
	return func(yield func(storage.Change, error) bool) {
		if v.b.ring.Load() == nil {
			yield(storage.Change{}, errSealed(op))
			return
		}
		for c, err := range v.b.store.Watch(ctx, v.prefix+prefix, after) {
			if v.b.ring.Load() == nil {
				yield(storage.Change{}, errSealed(op))
				return
			}
			if err != nil {
				yield(storage.Change{}, storeError(op, err))
				return
			}
			if c.Key != "" {
				if c.Key = strings.TrimPrefix(c.Key, v.prefix); c.Key == "" {
					continue // the prefix itself is not a key of the view, and an empty key would be a mark
				}
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}
