package token

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// treeTimeout limits how long a revocation waits until the leases of a tree are ended, after its
// tokens are unusable. The due loop does the rest.
const treeTimeout = 20 * time.Second

// Revoke revokes a token, its children and their leases. When it returns, no token of the tree can
// be used, and their leases are due, or soon will be. An unknown token is success.
func (s *Store) Revoke(ctx context.Context, id string) error {
	if err := s.markTree(ctx, id); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, treeTimeout)
	defer cancel()
	err := s.Finish(within, id)
	if within.Err() != nil && ctx.Err() == nil {
		return nil // each marked token has a due item of its own
	}
	return err
}

// RevokeOrphan revokes a token and its leases. Its children become orphans, also if the server
// crashes meanwhile.
func (s *Store) RevokeOrphan(ctx context.Context, id string) error {
	e, err := s.mark(ctx, id, func(e *Entry) error { e.SpareChildren = true; return nil })
	if err != nil || e == nil {
		return err
	}
	if !e.SpareChildren { // it is already being revoked, together with its children
		return s.Revoke(ctx, id)
	}
	return s.Finish(ctx, id)
}

// Expire handles a token's due item at the time at: it revokes an expired token, or resumes a
// revocation. If the token is not due then, it commits item, which removes the item.
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
		return nil // the token has just been changed; the item is handled again later
	}
	return err
}

// markTree marks a token and all tokens below it as revoking, except those below a token whose
// children are spared.
func (s *Store) markTree(ctx context.Context, id string) error {
	e, err := s.mark(ctx, id, nil)
	if err != nil || e == nil || e.SpareChildren {
		return err
	}
	return s.below(ctx, id, func(parent, child string) (bool, error) {
		e, err := s.mark(ctx, child, func(e *Entry) error {
			if e.Parent != parent { // it has become an orphan
				return errNotBelow
			}
			return nil
		})
		if err == errNotBelow {
			return false, nil
		}
		return err == nil && (e == nil || !e.SpareChildren), err
	})
}

// Errors that end a mark without a change.
var (
	errMarked   = errors.New("token: it is marked already")
	errNotBelow = errors.New("token: it is not below")
)

// mark marks a token as revoking, and calls edit for it, unless it is already marked. It returns
// nil if there is no such token.
func (s *Store) mark(ctx context.Context, id string, edit func(e *Entry) error) (*Entry, error) {
	var before *Entry
	e, err := s.Update(ctx, id, func(e *Entry) error {
		if edit != nil && !e.Revoking {
			if err := edit(e); err != nil {
				return err
			}
		}
		if before = e; e.Revoking {
			return errMarked
		}
		e.Revoking = true
		return nil
	})
	switch {
	case err == errMarked:
		return before, nil
	case fault.Is(err, fault.Denied):
		return nil, nil
	}
	return e, err
}

// below calls f for each token below id, parents before children. f returns whether to descend,
// and may remove the edge. The memory does not grow with the tree, because a chain of a million
// tokens must not crash the server.
func (s *Store) below(ctx context.Context, id string, f func(parent, child string) (descend bool, err error)) error {
	type level struct {
		id, from string
		page     []string // the next children
		last     bool     // page is the last one
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

// children returns up to a page of the IDs directly below a token, at or after from.
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

// Finish removes a marked token and its marked tree from the store. Each token of the tree has a
// due item, so the due loop resumes after a crash.
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
			return e.Revoking && !e.SpareChildren, nil // finished with its edge, or not marked
		}
		// The token was already removed, or has become an orphan: only its edge is left.
		edge := ChildPrefix + parent + "/" + child
		row, err := s.view.Get(ctx, edge)
		if err == nil && row.Version != 0 {
			_, err = s.view.Commit(ctx, storage.Remove(edge))
		}
		return e == nil, err
	})
}

// finish ends the leases of one marked token, then removes its cubbyhole, and finally its record.
// It does nothing to a token that is not marked. It returns the token as it was, or nil if there
// is none.
func (s *Store) finish(ctx context.Context, id string) (*Entry, error) {
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil || row.Version == 0 {
		return nil, err
	}
	e, err := decode(id, row.Version, row.Value)
	if err != nil || !e.Revoking {
		return e, err
	}
	if e.SpareChildren {
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
		err = nil // another server has finished it, or the due loop will
	}
	return e, err
}

// spareChildren makes the children of a token orphans.
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
