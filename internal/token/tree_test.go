package token_test

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/token"
)

// open returns a store of tokens, and a view of its rows.
func open(t testing.TB) (*token.Store, *barrier.View) {
	t.Helper()
	b := barriertest.Open(t, newStore(t))
	return onBarrier(b), b.View("")
}

// openTwo returns the token stores of two servers over one storage.
func openTwo(t testing.TB) (one, two *token.Store) {
	t.Helper()
	st := newStore(t)
	return onBarrier(barriertest.Open(t, st)), onBarrier(barriertest.Open(t, st))
}

// newStore returns an initialized store.
func newStore(t testing.TB) storage.Store {
	st := memory.Open()
	barriertest.Open(t, st)
	return st
}

func onBarrier(b *barrier.Barrier) *token.Store { return token.NewStore(config(b)) }

func config(b *barrier.Barrier) token.Config {
	return token.Config{
		Barrier: b,
		Due: func(id string, from, to time.Time) []storage.Op {
			var ops []storage.Op
			if !from.IsZero() {
				ops = append(ops, storage.Remove(item(id, from)))
			}
			if !to.IsZero() {
				ops = append(ops, storage.Set(item(id, to), nil))
			}
			return ops
		},
		EndLeases: func(context.Context, string) error { return nil },
		Forget:    func(context.Context, string) error { return nil },
	}
}

// item is the key of a token's due item, to the millisecond.
func item(id string, at time.Time) string { return fmt.Sprintf("due/%d/%s", at.UnixMilli(), id) }

// anyGrant is a grant of some policy.
func anyGrant(t testing.TB) token.Grant {
	t.Helper()
	g, err := token.Assign(token.Creator{Policies: []string{"p"}}, token.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func create(t testing.TB, s *token.Store, parent *token.Entry) *token.Entry {
	t.Helper()
	e := &token.Entry{Created: time.Now(), Expires: time.Now().Add(time.Hour)}
	if parent != nil {
		e.Parent = parent.ID
	}
	_, made, err := s.Create(t.Context(), e, anyGrant(t), parent)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func keysLeft(t testing.TB, v *barrier.View) (keys []string) {
	t.Helper()
	for e, err := range v.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.ToValidUTF8(e.Key, "?"))
	}
	return keys
}

// TestNoChildOfRevokedToken: a token that is marked as revoking creates nothing, even if its
// record has not changed since it was read.
func TestNoChildOfRevokedToken(t *testing.T) {
	s, v := open(t)
	parent := create(t, s, nil)
	if _, err := s.Update(t.Context(), parent.ID,
		func(e *token.Entry) error { e.Revoking = true; return nil }); err != nil {
		t.Fatal(err)
	}
	marked, err := s.ByID(t.Context(), parent.ID)
	if err != nil || !marked.Revoking {
		t.Fatalf("%+v, %v", marked, err)
	}
	ended := *parent
	ended.Expires = time.Now().Add(-time.Second)
	for _, p := range []*token.Entry{marked, parent, &ended} {
		for _, e := range []token.Entry{{Parent: p.ID}, {}, {Parent: p.ID, Batch: true}, {Batch: true}} {
			if _, _, err := s.Create(t.Context(), &e, anyGrant(t), p); !fault.Is(err, fault.Denied) {
				t.Errorf("%+v was made by %+v: %v", e, p, err)
			}
		}
	}
	// A batch token ends with its parent, which alone has a record.
	batch := &token.Entry{ID: "batch", Batch: true, Parent: parent.ID}
	if _, _, err := s.Create(t.Context(), &token.Entry{Wrapping: true}, anyGrant(t), batch); !fault.Is(err,
		fault.Denied) {
		t.Errorf("an answer was wrapped for a batch token of a revoked one: %v", err)
	}
	if err := s.Revoke(t.Context(), parent.ID); err != nil {
		t.Error(err)
	}
	if keys := keysLeft(t, v); len(keys) > 3 { // of the barrier
		t.Errorf("rows are left: %q", keys)
	}
}

// TestRevokeDeepTree: revoking a chain of tokens does not recurse.
func TestRevokeDeepTree(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(1 << 20))
	s, v := open(t)
	first := create(t, s, nil)
	last := first
	for range 5_000 {
		last = create(t, s, last)
	}
	if err := s.Revoke(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if keys := keysLeft(t, v); len(keys) != 0 {
		t.Errorf("%d rows are left, for example %q", len(keys), keys[0])
	}
}

// revocations are the ways to revoke a token.
var revocations = map[string]func(s *token.Store, ctx context.Context, id string) error{
	"with its children": (*token.Store).Revoke, "alone": (*token.Store).RevokeOrphan,
}

// TestRevokeWideTree: a wide tree is walked in pages, to its last child.
func TestRevokeWideTree(t *testing.T) {
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			s, v := open(t)
			first := create(t, s, nil)
			var children []*token.Entry
			for range 1025 {
				children = append(children, create(t, s, first))
			}
			grandchild := create(t, s, children[600])
			if err := revoke(s, t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
			if name == "with its children" {
				if keys := keysLeft(t, v); len(keys) != 0 {
					t.Errorf("%d rows are left, for example %q", len(keys), keys[0])
				}
				return
			}
			for i, c := range children {
				if e, err := s.ByID(t.Context(), c.ID); err != nil || !e.Orphan() || e.Revoking {
					t.Fatalf("child %d: %+v, %v; want an orphan", i, e, err)
				}
			}
			if e, err := s.ByID(t.Context(), grandchild.ID); err != nil || e.Parent != children[600].ID {
				t.Errorf("the grandchild: %+v, %v", e, err)
			}
			for _, key := range keysLeft(t, v) {
				if strings.HasPrefix(key, token.ChildPrefix+first.ID) {
					t.Errorf("%q is left", key)
				}
			}
		})
	}
}

// TestExpiryBetweenMilliseconds: a token whose time of expiry is not a whole millisecond is
// revoked at the time in the index.
func TestExpiryBetweenMilliseconds(t *testing.T) {
	s, v := open(t)
	now := time.Now().Truncate(time.Second)
	_, made, err := s.Create(t.Context(),
		&token.Entry{Created: now, Expires: now.Add(time.Minute + 700*time.Microsecond)}, anyGrant(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Minute)
	if err := s.Expire(t.Context(), made.ID, at, at, nil); err != nil {
		t.Fatal(err)
	}
	if keys := keysLeft(t, v); len(keys) != 0 {
		t.Errorf("left: %q", keys)
	}
}

// TestStrayItem: a due item at a time when its token is not due is removed.
func TestStrayItem(t *testing.T) {
	s, v := open(t)
	made := create(t, s, nil)
	at := time.Now().Truncate(time.Second)
	stray := item(made.ID, at)
	if _, err := v.Commit(t.Context(), storage.Set(stray, nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Expire(t.Context(), made.ID, at, at, []storage.Op{storage.Remove(stray)}); err != nil {
		t.Fatal(err)
	}
	if row, err := v.Get(t.Context(), stray); err != nil || row.Version != 0 {
		t.Errorf("the stray item: %+v, %v", row, err)
	}
	if e, err := s.ByID(t.Context(), made.ID); err != nil || e.Revoking {
		t.Errorf("its token: %+v, %v", e, err)
	}
}

// TestAccessorsInPages: each accessor is on exactly one page.
func TestAccessorsInPages(t *testing.T) {
	s, _ := open(t)
	want := map[string]bool{}
	for range 25 {
		want[create(t, s, nil).Accessor] = true
	}
	after, seen := "", map[string]bool{}
	for {
		page, err := s.Accessors(t.Context(), after, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page {
			if seen[a] || !want[a] {
				t.Errorf("%q is on two pages, or unknown", a)
			}
			seen[a], after = true, a
		}
		if len(page) < 10 {
			break
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d of %d accessors were listed", len(seen), len(want))
	}
}

// TestOrphanBelowAStaleEdge: a token that becomes an orphan during a walk over its parent's
// children stays valid, like its own children. A stale edge to it, or to a removed token, is
// removed.
func TestOrphanBelowAStaleEdge(t *testing.T) {
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			s, v := open(t)
			first := create(t, s, nil)
			orphan := create(t, s, nil)
			child := create(t, s, orphan)
			edges := token.ChildPrefix + first.ID + "/"
			if _, err := v.Commit(t.Context(), storage.Set(edges+orphan.ID, nil),
				storage.Set(edges+"gone", nil)); err != nil {
				t.Fatal(err)
			}
			if err := revoke(s, t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{orphan.ID, child.ID} {
				e, err := s.ByID(t.Context(), id)
				if err != nil || e.Revoking || e.Parent != map[string]string{child.ID: orphan.ID}[id] {
					t.Fatalf("the orphan, or its child: %+v, %v", e, err)
				}
			}
			for _, key := range keysLeft(t, v) {
				if strings.Contains(key, first.ID) {
					t.Errorf("%q is left", key)
				}
			}
			if err := s.Revoke(t.Context(), orphan.ID); err != nil {
				t.Fatal(err)
			}
			if keys := keysLeft(t, v); len(keys) != 0 {
				t.Errorf("left: %q", keys)
			}
		})
	}
}

// TestAccessorsAreBounded: a page has at most MaxAccessors accessors, even if the caller wants
// more.
func TestAccessorsAreBounded(t *testing.T) {
	s, v := open(t)
	var ops []storage.Op
	for n := range token.MaxAccessors + 1 {
		ops = append(ops, storage.Set(fmt.Sprintf("%s%06d", token.AccessorPrefix, n), nil))
		if len(ops) == storage.MaxOps || n == token.MaxAccessors {
			if _, err := v.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	for _, limit := range []int{0, token.MaxAccessors + 1} {
		if page, err := s.Accessors(t.Context(), "", limit); len(page) != token.MaxAccessors || err != nil {
			t.Errorf("limit %d: %d accessors, %v; want %d", limit, len(page), err, token.MaxAccessors)
		}
	}
}

// TestCreateConflict: if an extra assertion fails, although the parent has not changed, the error
// says that retrying is useless.
func TestCreateConflict(t *testing.T) {
	s, _ := open(t)
	parent := create(t, s, nil)
	for name, p := range map[string]*token.Entry{"by a parent": parent, "by a login": nil} {
		e := &token.Entry{Created: time.Now(), Expires: time.Now().Add(time.Hour)}
		_, _, err := s.Create(t.Context(), e, anyGrant(t), p, storage.Expect("role/r", 7))
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
