package token

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// finishWithin bounds how long who revokes waits for the leases of a tree to
// be ended, once nothing of it can be used any more. The due loop does the rest.
const finishWithin = 20 * time.Second

// Revoke ends a token, its children and its leases. When it returns, none of
// the tree can be used, and leases are due or soon will be. Unknown tokens are
// success.
func (s *Store) Revoke(ctx context.Context, id string) error {
	if err := s.markTree(ctx, id); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, finishWithin)
	defer cancel()
	err := s.Finish(within, id)
	if within.Err() != nil && ctx.Err() == nil {
		return nil // each marked token has a due item of its own
	}
	return err
}

// RevokeOrphan ends a token and its leases; its children live on as orphans,
// also after a crash in the middle of it.
func (s *Store) RevokeOrphan(ctx context.Context, id string) error {
	e, err := s.mark(ctx, id, func(e *Entry) error { e.Spare = true; return nil })
	if err != nil || e == nil {
		return err
	}
	if !e.Spare { // it is being revoked already, and its children with it
		return s.Revoke(ctx, id)
	}
	return s.Finish(ctx, id)
}

// Expire is what the due loop does with a token's item, which stands at at: it
// ends the token if it is to be ended, and resumes what was begun. item drops
// the item itself, for one that stands where its token does not.
func (s *Store) Expire(ctx context.Context, id string, now, at time.Time, item []storage.Op) error {
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil {
		return err
	}
	if row.Version == 0 {
		return s.dropStray(ctx, row.Version, id, item)
	}
	e, err := decode(id, row.Version, row.Value)
	if err != nil {
		return err
	}
	want := dueAt(e).Truncate(time.Millisecond) // as the index keeps it
	switch {
	case want.IsZero() || !want.Equal(at):
		return s.dropStray(ctx, row.Version, id, item)
	case now.Before(want):
		return nil
	}
	if err := s.markTree(ctx, id); err != nil {
		return err
	}
	return s.Finish(ctx, id)
}

func (s *Store) dropStray(ctx context.Context, v storage.Version, id string, item []storage.Op) error {
	_, err := s.view.Commit(ctx, append(item, storage.Expect(Prefix+id, v))...)
	if fault.Is(err, fault.Conflict) {
		return nil // it comes or changes at this moment; the item is looked at again
	}
	return err
}

// markTree commits a token and all below it as revoking. Below one whose
// children are spared nothing is marked.
func (s *Store) markTree(ctx context.Context, id string) error {
	e, err := s.mark(ctx, id, nil)
	if err != nil || e == nil || e.Spare {
		return err
	}
	return s.below(ctx, id, func(parent, child string) (bool, error) {
		e, err := s.mark(ctx, child, func(e *Entry) error {
			if e.Parent != parent { // it was made an orphan
				return errNotBelow
			}
			return nil
		})
		if err == errNotBelow {
			return false, nil
		}
		return err == nil && (e == nil || !e.Spare), err
	})
}

// What ends a mark that changes nothing.
var (
	errMarked   = errors.New("token: it is marked already")
	errNotBelow = errors.New("token: it is not below")
)

// mark commits a token as revoking, with what more is said, unless it is
// already. It returns nil where there is no such token.
func (s *Store) mark(ctx context.Context, id string, more func(e *Entry) error) (*Entry, error) {
	var was *Entry
	e, err := s.Update(ctx, id, func(e *Entry) error {
		if more != nil && !e.Revoking {
			if err := more(e); err != nil {
				return err
			}
		}
		if was = e; e.Revoking {
			return errMarked
		}
		e.Revoking = true
		return nil
	})
	switch {
	case err == errMarked:
		return was, nil
	case fault.Is(err, fault.Denied):
		return nil, nil
	}
	return e, err
}

// below calls f for each token below id, parents before children; f says
// whether to go below that one, too, and may remove its edge. It keeps little in memory,
// however deep or wide the tree is: a chain of a million tokens must not be
// the end of the server.
func (s *Store) below(ctx context.Context, id string, f func(parent, child string) (descend bool, err error)) error {
	type level struct {
		id, from string
		page     []string // of children that are still to be seen
		last     bool     // nothing comes after page
	}
	for stack := []level{{id: id}}; len(stack) > 0; {
		top := &stack[len(stack)-1]
		if len(top.page) == 0 && !top.last {
			var err error
			if top.page, err = s.children(ctx, top.id, top.from); err != nil {
				return err
			}
			if top.last = len(top.page) < pageSize; !top.last {
				top.from = top.page[pageSize-1] + "\x00"
			}
		}
		parent, child := top.id, ""
		if len(top.page) > 0 {
			child, top.page = top.page[0], top.page[1:]
		}
		if len(top.page) == 0 && top.last {
			stack = stack[:len(stack)-1]
		}
		if child == "" {
			continue
		}
		descend, err := f(parent, child)
		if err != nil {
			return err
		}
		if descend {
			stack = append(stack, level{id: child})
		}
	}
	return nil
}

const pageSize = 512

// children returns up to a page of the ids right below a token, at or after from.
func (s *Store) children(ctx context.Context, id, from string) ([]string, error) {
	prefix := ChildPrefix + id + "/"
	var page []string
	for row, err := range s.view.Scan(ctx, prefix+from, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		if page = append(page, strings.TrimPrefix(row.Key, prefix)); len(page) == pageSize {
			break
		}
	}
	return page, nil
}

// Finish takes a token that is marked, with all that hangs on it, out of the
// store; markTree has marked that before. Each of its tree has a due item of its own, so
// that a crash anywhere leaves what resumes it.
func (s *Store) Finish(ctx context.Context, id string) error {
	if _, err := s.finish(ctx, id); err != nil {
		return err
	}
	return s.below(ctx, id, func(parent, child string) (bool, error) {
		e, err := s.finish(ctx, child)
		if err != nil {
			return false, err
		}
		if e != nil && e.Parent == parent {
			return e.Revoking && !e.Spare, nil // it has taken its edge along, or is not ours to end
		}
		// The edge of one that has gone before, or was made an orphan: below that one nothing is ours.
		edge := ChildPrefix + parent + "/" + child
		row, err := s.view.Get(ctx, edge)
		if err == nil && row.Version != 0 {
			_, err = s.view.Commit(ctx, storage.Remove(edge))
		}
		return e == nil, err
	})
}

// finish ends the leases of one marked token, then drops its cubbyhole, and the
// record last. It leaves one that is not marked as it is. It returns the token
// as it was, nil where there is none.
func (s *Store) finish(ctx context.Context, id string) (*Entry, error) {
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil || row.Version == 0 {
		return nil, err
	}
	e, err := decode(id, row.Version, row.Value)
	if err != nil || !e.Revoking {
		return e, err
	}
	if e.Spare {
		if err := s.spareChildren(ctx, id); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.EndLeases(ctx, id); err != nil {
		return nil, err
	}
	if err := s.cfg.Forget(ctx, id); err != nil {
		return nil, err
	}
	ops := []storage.Op{
		storage.Remove(Prefix + id).If(row.Version),
		storage.Remove(AccessorPrefix + e.Accessor),
	}
	if e.Parent != "" {
		ops = append(ops, storage.Remove(ChildPrefix+e.Parent+"/"+id))
	}
	ops = append(ops, s.cfg.Due(id, dueAt(e), time.Time{})...)
	_, err = s.view.Commit(ctx, ops...)
	s.cache.drop(id)
	if fault.Is(err, fault.Conflict) {
		err = nil // somebody else finished it, or its due item will
	}
	return e, err
}

// spareChildren makes orphans of the children of a token that goes.
func (s *Store) spareChildren(ctx context.Context, id string) error {
	return s.below(ctx, id, func(_, child string) (bool, error) {
		edge := storage.Remove(ChildPrefix + id + "/" + child)
		_, err := s.update(ctx, child, func(e *Entry) error {
			if e.Parent != id {
				return errNotBelow
			}
			e.Parent = ""
			return nil
		}, edge)
		if err == errNotBelow || fault.Is(err, fault.Denied) {
			_, err = s.view.Commit(ctx, edge)
		}
		return false, err
	})
}
