package token_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/token"
)

func TestUsable(t *testing.T) {
	now := time.Now()
	bound := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	here, there := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.168.0.1")
	for name, tt := range map[string]struct {
		e    token.Entry
		from netip.Addr
		says string
	}{
		"for ever":              {token.Entry{}, there, ""},
		"until later":           {token.Entry{Expires: now.Add(time.Second)}, there, ""},
		"until now":             {token.Entry{Expires: now}, there, "expired"},
		"revoked":               {token.Entry{State: token.State{Revoking: true}}, there, "revoked"},
		"used up":               {token.Entry{Uses: -1}, there, "used up"},
		"one use left":          {token.Entry{Uses: 1}, there, ""},
		"bound to here":         {token.Entry{BoundCIDRs: bound}, here, ""},
		"bound, written as IP6": {token.Entry{BoundCIDRs: bound}, netip.MustParseAddr("::ffff:10.1.2.3"), ""},
		"bound to elsewhere":    {token.Entry{BoundCIDRs: bound}, there, "address"},
		"bound, from nowhere":   {token.Entry{BoundCIDRs: bound}, netip.Addr{}, "address"},
	} {
		if got := tt.e.Usable(now, tt.from); (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%s: %q, want %q", name, got, tt.says)
		}
	}
}

func TestFind(t *testing.T) {
	s, _ := open(t)
	e := &token.Entry{Created: time.Now(), Expires: time.Now().Add(time.Hour)}
	tok, made, err := s.Create(t.Context(), e, anyGrant(t), nil)
	if err != nil || !strings.HasPrefix(tok.RevealString(), token.ServicePrefix) {
		t.Fatalf("%v", err)
	}
	for name, find := range map[string]func() (*token.Entry, error){
		"the token":    func() (*token.Entry, error) { return s.Lookup(t.Context(), tok) },
		"its id":       func() (*token.Entry, error) { return s.ByID(t.Context(), s.ID(tok)) },
		"its accessor": func() (*token.Entry, error) { return s.ByAccessor(t.Context(), made.Accessor) },
	} {
		if got, err := find(); err != nil || got.ID != made.ID || got.Policies()[0] != "p" || got.Root() {
			t.Errorf("by %s: %+v, %v", name, got, err)
		}
	}
	for _, nobody := range []string{"", "hvs.nobody", strings.Repeat("x", 513), "hvb.", "hvb.!", "hvb.AAAA"} {
		if got, err := s.Lookup(t.Context(), secret.Text(nobody)); !fault.Is(err, fault.Denied) {
			t.Errorf("%.20q is %+v, %v", nobody, got, err)
		}
	}
	for _, nobody := range []string{"", "nobody", "a/b", strings.Repeat("x", 65)} {
		if got, err := s.ByAccessor(t.Context(), nobody); !fault.Is(err, fault.Invalid) {
			t.Errorf("the accessor %.20q is %+v's, %v", nobody, got, err)
		}
	}
	if err := s.Revoke(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ByAccessor(t.Context(), made.Accessor); !fault.Is(err, fault.Invalid) {
		t.Errorf("the accessor of one that is gone: %v", err)
	}
}

func TestAccessors(t *testing.T) {
	s, _ := open(t)
	all := map[string]bool{}
	for range 5 {
		all[create(t, s, nil).Accessor] = true
	}
	after, seen := "", 0
	for {
		page, err := s.Accessors(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page {
			if !all[a] || a <= after {
				t.Errorf("%q behind %q", a, after)
			}
			after = a
		}
		if seen += len(page); len(page) < 2 {
			break
		}
	}
	if whole, err := s.Accessors(t.Context(), "", 0); err != nil || seen != 5 || len(whole) != 5 {
		t.Errorf("%d in pages, %d at once, %v", seen, len(whole), err)
	}
}

// TestUse: each request counts as one use, and the last one revokes the token.
func TestUse(t *testing.T) {
	s, _ := open(t)
	e := &token.Entry{Created: time.Now(), Uses: 2}
	_, made, err := s.Create(t.Context(), e, anyGrant(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{1, -1} {
		got, err := s.Use(t.Context(), made)
		if err != nil || got.Uses != left || got.UsedUp.IsZero() != (left == 1) {
			t.Fatalf("%+v, %v, want %d left", got, err, left)
		}
	}
	if got, err := s.Use(t.Context(), made); !fault.Is(err, fault.Denied) {
		t.Errorf("a third use of two: %+v, %v", got, err)
	}
	if got, err := s.Use(t.Context(), create(t, s, nil)); err != nil || got.Uses != 0 {
		t.Errorf("of a token without a limit: %+v, %v", got, err)
	}
}

// TestUsedUp: after its last use, a token is due ten minutes later, or when it expires, so that
// the due loop revokes it after a crash.
func TestUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for ttl, want := range map[time.Duration]time.Duration{
			0: 10 * time.Minute, time.Hour: 10 * time.Minute, time.Minute: time.Minute,
		} {
			s, v := open(t)
			e := &token.Entry{Created: now, Uses: 1}
			if ttl != 0 {
				e.Expires = now.Add(ttl)
			}
			_, made, err := s.Create(t.Context(), e, anyGrant(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Use(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			var items []string
			for _, key := range keysLeft(t, v) {
				if strings.HasPrefix(key, "due/") {
					items = append(items, key)
				}
			}
			if len(items) != 1 || items[0] != item(made.ID, now.Add(want)) {
				t.Errorf("ttl %s: the items are %q, want one %s later", ttl, items, want)
			}
		}
	})
}

// TestBatch: a batch token is not stored, is valid no longer than its parent, and cannot create
// tokens.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, v := open(t)
		parent := create(t, s, nil)
		before := len(keysLeft(t, v))
		make := func(parent *token.Entry, ttl time.Duration) secret.Value {
			e := &token.Entry{Batch: true, Created: time.Now(), Expires: time.Now().Add(ttl)}
			if parent != nil {
				e.Parent = parent.ID
			}
			tok, made, err := s.Create(t.Context(), e, anyGrant(t), parent)
			if err != nil || made.Version != 0 || !strings.HasPrefix(tok.RevealString(), token.BatchPrefix) {
				t.Fatalf("%+v, %v", made, err)
			}
			return tok
		}
		child, orphan := make(parent, time.Hour), make(nil, 10*time.Second)
		if got := len(keysLeft(t, v)); got != before {
			t.Errorf("%d rows, and %d before", got, before)
		}
		c, err := s.Lookup(t.Context(), child)
		if err != nil || c.Owner() != parent.ID || c.Policies()[0] != "p" || len(c.Expect()) != 0 ||
			c.ID == parent.ID {
			t.Errorf("%+v, %v", c, err)
		}
		o, err := s.Lookup(t.Context(), orphan)
		if err != nil || o.Owner() != o.ID {
			t.Errorf("%+v, %v", o, err)
		}
		if ops, err := s.Guard(t.Context(), c); err != nil || len(ops) != 1 {
			t.Errorf("a child's guard: %v, %v", ops, err)
		}
		if ops, err := s.Guard(t.Context(), o); err != nil || len(ops) != 0 {
			t.Errorf("an orphan's guard: %v, %v", ops, err)
		}
		for _, batch := range []bool{true, false} {
			_, _, err := s.Create(t.Context(), &token.Entry{Batch: batch, Parent: c.ID}, anyGrant(t), c)
			if err == nil && batch {
				t.Error("a batch token made another")
			}
		}
		time.Sleep(10 * time.Second)
		if _, err := s.Guard(t.Context(), o); !fault.Is(err, fault.Denied) {
			t.Errorf("what is made with an orphan that has ended: %v", err)
		}
		if err := s.Revoke(t.Context(), parent.ID); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Lookup(t.Context(), child); !fault.Is(err, fault.Denied) {
			t.Errorf("a child of a revoked token: %+v, %v", got, err)
		}
		if _, err := s.Guard(t.Context(), c); !fault.Is(err, fault.Denied) {
			t.Errorf("what is made with it: %v", err)
		}
		if _, _, err := s.Create(t.Context(), &token.Entry{Batch: true}, anyGrant(t), parent); !fault.Is(err,
			fault.Denied) {
			t.Errorf("a batch token of an ended one: %v", err)
		}
	})
}

// TestChosenToken: a chosen token is refused if it already exists.
func TestChosenToken(t *testing.T) {
	s, _ := open(t)
	chosen := func() *token.Entry { return &token.Entry{Created: time.Now(), Chosen: secret.Text("mine")} }
	if _, _, err := s.Create(t.Context(), chosen(), anyGrant(t), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), chosen(), anyGrant(t), nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("the second: %v", err)
	}
}

// TestRevokeOrphan: the children of the revoked token stay valid.
func TestRevokeOrphan(t *testing.T) {
	s, _ := open(t)
	parent := create(t, s, nil)
	child := create(t, s, parent)
	below := create(t, s, child)
	if err := s.RevokeOrphan(t.Context(), parent.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ByID(t.Context(), parent.ID); !fault.Is(err, fault.Denied) {
		t.Errorf("it lives: %v", err)
	}
	if got, err := s.ByID(t.Context(), child.ID); err != nil || !got.Orphan() || got.Revoking {
		t.Errorf("its child: %+v, %v", got, err)
	}
	if err := s.RevokeOrphan(t.Context(), "nobody"); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
	if err := s.Revoke(t.Context(), child.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ByID(t.Context(), below.ID); !fault.Is(err, fault.Denied) {
		t.Errorf("the child's child: %v", err)
	}
}

// TestExpire: Expire revokes a token that is due, and removes items that belong to no token.
func TestExpire(t *testing.T) {
	s, v := open(t)
	e := create(t, s, nil)
	at := e.Expires.Truncate(time.Millisecond)
	if err := s.Expire(t.Context(), e.ID, at.Add(-time.Second), at, nil); err != nil {
		t.Fatal(err)
	}
	// an item that stands elsewhere
	if err := s.Expire(t.Context(), e.ID, at.Add(time.Second), at.Add(-time.Minute), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ByID(t.Context(), e.ID); err != nil {
		t.Errorf("it ended too soon: %v", err)
	}
	if err := s.Expire(t.Context(), e.ID, at, at, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Expire(t.Context(), e.ID, at, at, nil); err != nil { // repeated
		t.Fatal(err)
	}
	if keys := keysLeft(t, v); len(keys) != 0 {
		t.Errorf("rows are left: %q", keys)
	}
}

// TestFollowFromStart: if a token was read, and then revoked by another server, before the feed
// began, it is not used from the cache afterwards.
func TestFollowFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := openTwo(t)
		e := create(t, one, nil)
		if _, err := one.ByID(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		if err := two.Revoke(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = one.Follow(ctx) }()
		synctest.Wait()
		if got, err := one.ByID(t.Context(), e.ID); !fault.Is(err, fault.Denied) {
			t.Errorf("revoked before the feed began: %+v, %v", got, err)
		}
	})
}

// TestFollow: a change by another server removes a token from the cache.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := openTwo(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() { done <- one.Follow(ctx) }()
		synctest.Wait()
		e := create(t, one, nil)
		synctest.Wait()
		for range 2 { // read, then cached
			if _, err := one.ByID(ctx, e.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := two.Revoke(ctx, e.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, err := one.ByID(ctx, e.ID); !fault.Is(err, fault.Denied) {
			t.Errorf("revoked by another server: %+v, %v", got, err)
		}
		stop()
		if err := <-done; err == nil {
			t.Error("following ended without a reason")
		}
	})
}

// TestRandom: all letters and digits are equally likely, and the length is right.
func TestRandom(t *testing.T) {
	for n := range 200 {
		if got := token.Random(n); len(got) != n {
			t.Errorf("%d were asked for: %q", n, got)
		}
	}
	const each = 10_000 // the standard deviation is 100
	counts := map[rune]int{}
	for _, r := range token.Random(62 * each) {
		counts[r]++
	}
	for r, n := range counts {
		if n < each*9/10 || n > each*11/10 {
			t.Errorf("%q was drawn %d times, want about %d", r, n, each)
		}
	}
	if len(counts) != 62 {
		t.Errorf("%d different letters and digits, want 62", len(counts))
	}
}
