package policies_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

func open(t *testing.T) (*policies.Manager, *faulty.Store) {
	t.Helper()
	st := faulty.New(memory.Open(), 1)
	return another(t, st), st
}

// another returns the policies of another server of a store.
func another(t *testing.T, st storage.Store) *policies.Manager {
	t.Helper()
	return policies.New(barriertest.Open(t, st))
}

// following is open with a running feed, so that the cache is used. It runs in a bubble.
func following(t *testing.T) (*policies.Manager, *faulty.Store) {
	t.Helper()
	m, st := open(t)
	follow(t, m)
	return m, st
}

func follow(t *testing.T, m *policies.Manager) (stop func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Follow(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	synctest.Wait()
	return stop
}

func allows(path string) string {
	return fmt.Sprintf("path %q { capabilities = [\"read\", \"update\"]\n denied_parameters = { \"x\" = [] } }", path)
}

func write(t *testing.T, m *policies.Manager, name, text string) {
	t.Helper()
	if err := m.Write(t.Context(), name, text); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// may reports whether the named policies allow to read a path.
func may(t *testing.T, m *policies.Manager, path string, names ...string) bool {
	t.Helper()
	d, err := m.Decide(t.Context(), names, policies.Query{Path: path, Op: route.Read})
	if err != nil {
		t.Fatal(err)
	}
	return d.Allowed
}

func TestPolicies(t *testing.T) {
	m, _ := open(t)
	if err := m.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, m, "default", allows("mine"))
	if err := m.Ensure(t.Context()); err != nil { // changes nothing
		t.Fatal(err)
	}
	if !may(t, m, "mine", "default") {
		t.Error("Ensure has overwritten the default policy")
	}
	write(t, m, "team/pa", allows("a"))
	write(t, m, "team/pa", allows("b"))
	rec, err := m.Read(t.Context(), "team/pa")
	if err != nil || rec.Name != "team/pa" || rec.Text != allows("b") || rec.Version != 2 ||
		time.Since(rec.Modified) > time.Hour {
		t.Errorf("%+v, %v", rec, err)
	}
	if may(t, m, "a", "team/pa") || !may(t, m, "b", "team/pa") {
		t.Error("the previous text is still used")
	}
	names, err := m.List(t.Context())
	if d := cmp.Diff([]string{"default", "root", "team/pa"}, names); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	for range 2 { // deleting is repeatable
		if err := m.Delete(t.Context(), "team/pa"); err != nil {
			t.Error(err)
		}
	}
	if rec, err := m.Read(t.Context(), "team/pa"); rec != nil || err != nil || may(t, m, "b", "team/pa") {
		t.Errorf("after deleting: %+v, %v", rec, err)
	}
	if rec, err := m.Read(t.Context(), "root"); err != nil || rec.Text != "" {
		t.Errorf("root: %+v, %v", rec, err)
	}
	if !may(t, m, "anything/at/all", "root") {
		t.Error("root may not")
	}
}

func TestRefused(t *testing.T) {
	m, _ := open(t)
	for name, do := range map[string]func() error{
		"root is written":               func() error { return m.Write(t.Context(), "root", allows("a")) },
		"root is deleted":               func() error { return m.Delete(t.Context(), "root") },
		"default is deleted":            func() error { return m.Delete(t.Context(), "default") },
		"a text that is none":           func() error { return m.Write(t.Context(), "a", "path") },
		"another spelling":              func() error { return m.Write(t.Context(), "PROD", allows("a")) },
		"another spelling, deleted":     func() error { return m.Delete(t.Context(), " prod") },
		"two names":                     func() error { return policies.Check([]string{"a", "b,c"}) },
		"a password policy that is odd": func() error { return m.WritePassword(t.Context(), "a", "length = 1") },
		"one that is spelled oddly":     func() error { return m.WritePassword(t.Context(), "A", generator) },
		"the same, deleted":             func() error { return m.DeletePassword(t.Context(), "A") },
		"the same, used":                func() error { _, err := m.Password(t.Context(), "A"); return err },
	} {
		if err := do(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rec, err := m.Read(t.Context(), "PROD"); rec != nil || err != nil {
		t.Errorf("another spelling reads as %+v, %v", rec, err)
	}
	if err := policies.Check([]string{"a", "team/pa"}); err != nil {
		t.Error(err)
	}
	if got, err := policies.Name("Team/PA "); err != nil || got != "team/pa" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCacheKeys: no two sets of names share a compiled set, whatever characters the names contain.
func TestCacheKeys(t *testing.T) { synctest.Test(t, testCacheKeys) }

func testCacheKeys(t *testing.T) {
	m, _ := following(t)
	for _, name := range []string{"a", "b", "ab", "aadmin", "xdummy"} {
		write(t, m, name, allows("secret/"+name))
	}
	sets := [][]string{{"aadmin", "xdummy"}, {"aadmin,xdummy"}, {"a", "b"}, {"ab"}, {"a,b"}, {}, {""}, {"a"}, {"a",
		""}, {"\x01a"}, {"b", "a"}}
	for range 2 { // the second time from memory
		for _, set := range sets {
			for _, name := range []string{"a", "b", "ab", "aadmin", "xdummy"} {
				want := false
				for _, policy := range set {
					want = want || policy == name
				}
				if got := may(t, m, "secret/"+name, set...); got != want {
					t.Errorf("the policies %q read secret/%s: %v", set, name, got)
				}
			}
		}
	}
}

func TestDecide(t *testing.T) {
	m, _ := open(t)
	write(t, m, "a", allows("x"))
	for _, tt := range []struct {
		q    policies.Query
		want bool
	}{
		{policies.Query{Path: "x", Op: route.Read}, true},
		{policies.Query{Path: "x", Op: route.Write, Body: []byte(`{"y":1}`)}, true},
		{policies.Query{Path: "x", Op: route.Write, Body: []byte(`{"x":1}`)}, false},
		{policies.Query{Path: "x", Op: route.Read, Sudo: true}, false},
		{policies.Query{Path: "x", Op: route.Delete}, false},
		{policies.Query{Path: "y", Op: route.Read}, false},
	} {
		d, err := m.Decide(t.Context(), []string{"a"}, tt.q)
		if err != nil || d.Allowed != tt.want {
			t.Errorf("%+v: %+v, %v", tt.q, d, err)
		}
	}
	absent, err := m.Absent(t.Context(), []string{"a", "b", "root", "B"})
	if d := cmp.Diff([]string{"b", "B"}, absent); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestManySets: the cache does not grow without limit.
func TestManySets(t *testing.T) { synctest.Test(t, testManySets) }

func testManySets(t *testing.T) {
	m, _ := following(t)
	write(t, m, "a", allows("x"))
	for i := range 5000 {
		if !may(t, m, "x", "a", fmt.Sprintf("none-%d", i)) {
			t.Fatal(i)
		}
	}
}

// TestChangedWhileCompiled: a set is not cached if a policy changes while it is compiled.
func TestChangedWhileCompiled(t *testing.T) {
	m, _ := open(t)
	write(t, m, "a", allows("x"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				may(t, m, "x", "a")
			}
		})
	}
	for i := range 50 {
		write(t, m, "a", allows([]string{"x", "y"}[i%2]))
	}
	write(t, m, "a", allows("y"))
	if may(t, m, "x", "a") || !may(t, m, "y", "a") {
		t.Error("a policy decides that was written over")
	}
	wg.Wait()
	if may(t, m, "x", "a") {
		t.Error("a policy decides that was written over")
	}
}

// TestOtherServers: a change of a policy by another server of the store has an effect here at
// once, with or without a feed, and also on sets that were cached before the feed began.
func TestOtherServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, st := open(t)
		two := another(t, st)
		write(t, two, "a", allows("x"))
		if !may(t, one, "x", "a") {
			t.Fatal("the policy of the other server is missing")
		}
		write(t, two, "a", allows("y")) // without a feed
		if may(t, one, "x", "a") || !may(t, one, "y", "a") {
			t.Error("without a feed, what was compiled before decides")
		}
		write(t, two, "a", allows("z"))
		stop := follow(t, one)
		if may(t, one, "y", "a") || !may(t, one, "z", "a") {
			t.Error("what was compiled before the feed began decides")
		}
		if err := two.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if may(t, one, "z", "a") {
			t.Error("a policy decides that another server has deleted")
		}
		stop()
		synctest.Wait()
		write(t, two, "a", allows("w"))
		if !may(t, one, "w", "a") {
			t.Error("without a feed, what was not there before is still not there")
		}
	})
}

// TestStoreFails: a failed commit may or may not have been stored.
func TestStoreFails(t *testing.T) {
	for name, mode := range map[string]faulty.Mode{"not stored": faulty.NotStored, "stored": faulty.Stored} {
		m, st := open(t)
		write(t, m, "a", allows("x"))
		if !may(t, m, "x", "a") {
			t.Fatal("the policy allows nothing")
		}
		st.Inject(faulty.Fault{Prefix: "core/policy/", Mode: mode})
		if err := m.Write(t.Context(), "a", allows("y")); err == nil {
			t.Errorf("%s: the write succeeded", name)
		}
		if got := may(t, m, "y", "a"); got != (mode == faulty.Stored) {
			t.Errorf("%s: the new text decides: %v", name, got)
		}
	}
	m, st := open(t)
	st.Inject(faulty.Fault{Prefix: "core/policy/", Times: -1, Mode: faulty.NotStored, Err: storage.ErrConflict})
	if err := m.Write(t.Context(), "a", allows("y")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a write that always loses: %v", err)
	}
	m, st = open(t)
	st.Inject(faulty.Fault{Calls: faulty.Gets, Prefix: "core/policy/", Times: -1})
	for name, err := range map[string]error{
		"set":    second(m.Set(t.Context(), []string{"a"})),
		"absent": second(m.Absent(t.Context(), []string{"a"})),
		"decide": second(m.Decide(t.Context(), []string{"a"}, policies.Query{Path: "a", Op: route.Read})),
		"write":  m.Write(t.Context(), "a", allows("x")),
		"ensure": m.Ensure(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s succeeds although the store cannot be read", name)
		}
	}
	st.Inject(faulty.Fault{Calls: faulty.Scans, Prefix: "core/policy/", Times: -1})
	if _, err := m.List(t.Context()); err == nil {
		t.Error("a list of a store that cannot be read")
	}
}

func second[T any](_ T, err error) error { return err }

const generator = `length = 12
rule "charset" { charset = "abc" }`

func TestPasswords(t *testing.T) {
	m, st := open(t)
	v, err := m.Password(t.Context(), "")
	if err != nil || len(v.RevealString()) != 20 {
		t.Errorf("the default: %d characters, %v", len(v.RevealString()), err)
	}
	if err := m.WritePassword(t.Context(), "abc", generator); err != nil {
		t.Fatal(err)
	}
	v, err = m.Password(t.Context(), "abc")
	if err != nil || len(v.RevealString()) != 12 || strings.Trim(v.RevealString(), "abc") != "" {
		t.Errorf("%v", err)
	}
	text, err := m.ReadPassword(t.Context(), "abc")
	if err != nil || text != generator {
		t.Errorf("%q, %v", text, err)
	}
	names, err := m.ListPassword(t.Context())
	if d := cmp.Diff([]string{"abc"}, names); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	for range 2 {
		if err := m.DeletePassword(t.Context(), "abc"); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Password(t.Context(), "abc"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after deleting: %v", err)
	}
	if text, err := m.ReadPassword(t.Context(), "A"); text != "" || err != nil {
		t.Errorf("another spelling reads as %q, %v", text, err)
	}
	st.Inject(faulty.Fault{Calls: faulty.Gets, Prefix: "core/password-policy/", Times: -1})
	if _, err := m.Password(t.Context(), "abc"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a store that cannot be read: %v", err)
	}
}

// TestSetsAreBounded: compiling the policies of one token has limited cost, and ends with the
// request.
func TestSetsAreBounded(t *testing.T) {
	m, _ := open(t)
	var names []string
	text := strings.Repeat("#", 1<<20-4000) + "\n" + allows("a")
	for i := range 5 {
		names = append(names, fmt.Sprintf("big%d", i))
		write(t, m, names[i], text)
	}
	if _, err := m.Set(t.Context(), names); !fault.Is(err, fault.TooLarge) {
		t.Errorf("five policies of a mebibyte: %v, want them refused", err)
	}
	if !may(t, m, "a", names[:3]...) {
		t.Error("three do not allow what they name")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Set(ctx, names[1:3]); !fault.Is(err, fault.Timeout) {
		t.Errorf("compiling with a cancelled context: %v", err)
	}
}

// TestTooLargeSetsAreNotParsed: policies that are too large together are refused before any of
// them is parsed, and the refusal is cached until a policy changes.
func TestTooLargeSetsAreNotParsed(t *testing.T) { synctest.Test(t, testTooLargeSetsAreNotParsed) }

func testTooLargeSetsAreNotParsed(t *testing.T) {
	m, st := following(t)
	if _, err := barriertest.Open(t, st).View("").
		Commit(t.Context(), storage.Set("core/policy/damaged", []byte(`{"text":"path"}`))); err != nil {
		t.Fatal(err)
	}
	names := []string{"damaged"}
	for i := range 5 {
		names = append(names, fmt.Sprintf("big%d", i))
		write(t, m, names[i+1], strings.Repeat("#", 1<<20-4000)+"\n"+allows("a"))
	}
	synctest.Wait()
	if _, err := m.Set(t.Context(), names[:2]); !fault.Is(err, fault.Internal) {
		t.Fatalf("a damaged policy: %v", err)
	}
	if _, err := m.Set(t.Context(), names); !fault.Is(err, fault.TooLarge) {
		t.Fatalf("%v, want it refused by its size, before it is parsed", err)
	}
	st.Inject(faulty.Fault{Calls: faulty.Gets, Prefix: "core/policy/", Times: -1})
	if _, err := m.Set(t.Context(), names); !fault.Is(err, fault.TooLarge) {
		t.Errorf("%v, want the cached refusal, without reading the policies", err)
	}
	st.Clear()
	for _, name := range names[3:] {
		write(t, m, name, allows("a"))
	}
	synctest.Wait()
	if !may(t, m, "a", names[1:]...) {
		t.Error("the refusal outlives a change of the policies")
	}
}
