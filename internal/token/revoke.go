package token

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Revoke ends a token, its children and its leases. When it returns, none of
// the tree can be used; leases are due. Unknown tokens are success.
func (s *Store) Revoke(ctx context.Context, id string) error {
	marked, err := s.mark(ctx, id)
	if err != nil || !marked {
		return err
	}
	if err := s.markBelow(ctx, id); err != nil {
		return err
	}
	return s.Finish(ctx, id)
}

// RevokeOrphan ends a token and its leases; its children live on as orphans.
func (s *Store) RevokeOrphan(ctx context.Context, id string) error {
	marked, err := s.mark(ctx, id)
	if err != nil || !marked {
		return err
	}
	for child, err := range s.children(ctx, id) {
		if err != nil {
			return err
		}
		_, err = s.Update(ctx, child, func(e *Entry) error { e.Parent = ""; return nil })
		if err != nil && !fault.Is(err, fault.Denied) {
			return err
		}
		if _, err := s.view.Commit(ctx, storage.Remove(ChildPrefix+id+"/"+child)); err != nil {
			return err
		}
	}
	return s.Finish(ctx, id)
}

// Expire is what the due loop does with a token's item: it ends the token if
// it is to be ended, and resumes what was begun.
func (s *Store) Expire(ctx context.Context, id string, now time.Time, item []storage.Op) error {
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil {
		return err
	}
	if row.Version == 0 { // a stray item: nothing else knows of it
		_, err := s.view.Commit(ctx, append(item, storage.Expect(Prefix+id, 0))...)
		if fault.Is(err, fault.Conflict) {
			return nil
		}
		return err
	}
	e, err := decode(id, row.Version, row.Value)
	if err != nil {
		return err
	}
	if !e.Revoking && (e.Expires.IsZero() || now.Before(e.Expires)) {
		return nil // renewed meanwhile; its new item will come
	}
	return s.Revoke(ctx, id)
}

// mark commits a token as revoking. It reports false where there is none.
func (s *Store) mark(ctx context.Context, id string) (bool, error) {
	_, err := s.Update(ctx, id, func(e *Entry) error {
		if e.Revoking {
			return errMarked
		}
		e.Revoking = true
		return nil
	})
	switch {
	case err == errMarked:
		return true, nil
	case fault.Is(err, fault.Denied):
		return false, nil
	}
	return err == nil, err
}

var errMarked error = fault.New("token.mark", fault.Conflict, "")

func (s *Store) markBelow(ctx context.Context, id string) error {
	for child, err := range s.children(ctx, id) {
		if err != nil {
			return err
		}
		if _, err := s.mark(ctx, child); err != nil {
			return err
		}
		if err := s.markBelow(ctx, child); err != nil {
			return err
		}
	}
	return nil
}

// children yields the ids below a token, read in pages so that what is done
// with one may remove its row.
func (s *Store) children(ctx context.Context, id string) func(yield func(string, error) bool) {
	prefix := ChildPrefix + id + "/"
	return func(yield func(string, error) bool) {
		from := prefix
		for {
			var page []string
			for row, err := range s.view.Scan(ctx, from, storage.PrefixEnd(prefix)) {
				if err != nil {
					yield("", err)
					return
				}
				page = append(page, row.Key)
				if len(page) == 512 {
					break
				}
			}
			for _, key := range page {
				if !yield(strings.TrimPrefix(key, prefix), nil) {
					return
				}
			}
			if len(page) < 512 {
				return
			}
			from = page[len(page)-1] + "\x00"
		}
	}
}

// Finish takes a token that is marked, with all that hangs on it, out of the
// store: children first, then leases, its cubbyhole, and the record last, so that a
// crash anywhere leaves the due item that resumes it.
func (s *Store) Finish(ctx context.Context, id string) error {
	for child, err := range s.children(ctx, id) {
		if err != nil {
			return err
		}
		if err := s.Finish(ctx, child); err != nil {
			return err
		}
		// An edge whose child never came, or has gone before.
		if _, err := s.view.Commit(ctx, storage.Remove(ChildPrefix+id+"/"+child)); err != nil {
			return err
		}
	}
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil || row.Version == 0 {
		return err
	}
	e, err := decode(id, row.Version, row.Value)
	if err != nil {
		return err
	}
	if !e.Revoking { // a child that was made an orphan meanwhile
		return nil
	}
	if err := s.cfg.EndLeases(ctx, id); err != nil {
		return err
	}
	if err := s.cfg.Forget(ctx, id); err != nil {
		return err
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
		return nil // somebody else finished it
	}
	return err
}
