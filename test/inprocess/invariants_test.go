package inprocess_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// opened returns the barrier of a store. The caller closes it.
func opened(t testing.TB, st storage.Store) *barrier.Barrier {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	e, err := st.Get(ctx, seal.RecordKey)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := seal.Decode(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	root, _, err := seal.Unseal(ctx, outsidetest.Seal{}, rec)
	if err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(ctx, st, root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rows returns everything that a store contains, decrypted, by key.
func rows(t testing.TB, st storage.Store) map[string]storage.Entry {
	t.Helper()
	ctx, b := context.WithoutCancel(t.Context()), opened(t, st)
	defer b.Close()
	out := map[string]storage.Entry{}
	for e, err := range b.View("").Scan(ctx, "", "") {
		if err != nil {
			t.Fatalf("reading %q: %v", e.Key, err)
		}
		out[e.Key] = e
	}
	return out
}

// stored is the content of a store, with its inconsistencies.
type stored struct {
	rows   map[string]storage.Entry
	tokens map[string]*token.Entry
	leases map[string]*lease.Lease
	mounts map[string]*mount.Entry
	wrong  []string
}

func (s *stored) complain(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *stored) has(key string) bool { _, ok := s.rows[key]; return ok }

// inspect checks the rows of a store against each other, and against the target.
func inspect(t testing.TB, st storage.Store, out *outside) *stored {
	t.Helper()
	s := &stored{rows: rows(t, st), tokens: map[string]*token.Entry{}, leases: map[string]*lease.Lease{},
		mounts: map[string]*mount.Entry{}}
	for key, e := range s.rows {
		if id, ok := strings.CutPrefix(key, token.Prefix); ok {
			s.tokens[id] = &token.Entry{ID: id, Version: e.Version}
			if err := json.Unmarshal(e.Value, s.tokens[id]); err != nil {
				t.Fatal(err)
			}
		}
		if id, ok := strings.CutPrefix(key, lease.Prefix); ok {
			l, err := lease.Decode(e)
			if err != nil {
				t.Fatal(err)
			}
			s.leases[id] = l
		}
		if id, ok := strings.CutPrefix(key, mount.Prefix); ok {
			m, err := mount.Decode(e)
			if err != nil {
				t.Fatal(err)
			}
			s.mounts[id] = m
		}
	}
	s.checkTokens()
	s.checkLeases(out)
	s.checkIndexes()
	s.checkMounts()
	return s
}

func (s *stored) checkTokens() {
	for id, e := range s.tokens {
		if a, ok := s.rows[token.AccessorPrefix+e.Accessor]; !ok || string(a.Value) != id {
			s.complain("token %.8s has no accessor", id)
		}
		if e.Parent != "" {
			if p := s.tokens[e.Parent]; p == nil && !e.Revoking {
				s.complain("token %.8s has survived its parent", id)
			}
			if !s.has(token.ChildPrefix + e.Parent + "/" + id) {
				s.complain("token %.8s is missing from its parent's index", id)
			}
		}
		if n := s.dueOf(token.DueKind, id); n > 1 || n == 0 && (e.Revoking || e.Uses < 0 || !e.Expires.IsZero()) {
			s.complain("token %.8s has %d due items (revoking %v, uses %d, expires %v)", id, n, e.Revoking, e.Uses,
				e.Expires)
		}
	}
}

func (s *stored) checkLeases(out *outside) {
	attempts := map[string]bool{}
	for id, l := range s.leases {
		attempts[l.Attempt] = true
		if !s.has(lease.OfPrefix + l.Owner + "/" + id) {
			s.complain("lease %s is missing from its owner's index", id)
		}
		at := due.Item{Lane: l.Lane(), At: l.Due, Kind: lease.DueKind, ID: id}
		if n := s.dueOf(lease.DueKind, id); n != 1 || !s.has(at.Key()) {
			s.complain("lease %s has %d due items", id, n)
		}
		if s.has(lease.FailingPrefix+id) == l.Failing.IsZero() {
			s.complain("lease %s is failing since %v, and stands otherwise in that index", id, l.Failing)
		}
		if s.mounts[l.Mount] == nil {
			s.complain("lease %s is of a mount that is not there", id)
		}
		if l.State == lease.Granted && s.tokens[l.Owner] == nil && !s.batchOwned(l) {
			s.complain("lease %s has survived its token", id)
		}
	}
	for attempt, id := range out.Attempts() {
		if !attempts[attempt] {
			s.complain("outside, %s of %s lives and no lease knows of it", attempt, id)
		}
	}
}

// batchOwned reports whether a lease belongs to an orphan batch token, which has no record.
func (s *stored) batchOwned(l *lease.Lease) bool { return strings.Contains(l.ID, "/batch/") }

func (s *stored) dueOf(kind, id string) int {
	n := 0
	for key := range s.rows {
		if it, ok := due.Parse(key); ok && it.Kind == kind && it.ID == id {
			n++
		}
	}
	return n
}

func (s *stored) checkIndexes() {
	for key, e := range s.rows {
		if it, ok := due.Parse(key); ok {
			if record := map[string]string{"token": token.Prefix, "lease": lease.Prefix,
				"job": "job/"}[it.Kind]; record != "" && !s.has(record+it.ID) {
				s.complain("the due item %q has no record", key)
			}
		}
		if _, ok := strings.CutPrefix(key, token.AccessorPrefix); ok && s.tokens[string(e.Value)] == nil {
			s.complain("%q is of no token", key)
		}
		if edge, ok := strings.CutPrefix(key, token.ChildPrefix); ok {
			parent, child, _ := strings.Cut(edge, "/")
			if c := s.tokens[child]; c == nil || c.Parent != parent {
				s.complain("%q is of no child", key)
			}
		}
		if id, ok := strings.CutPrefix(key, lease.FailingPrefix); ok && s.leases[id] == nil {
			s.complain("%q is of no lease", key)
		}
		if of, ok := strings.CutPrefix(key, lease.OfPrefix); ok {
			if _, id, _ := strings.Cut(of, "/"); s.leases[id] == nil {
				s.complain("%q is of no lease", key)
			}
		}
		if id, ok := strings.CutPrefix(key, "wrapped/"); ok && s.tokens[id] == nil {
			s.complain("%q is of no token", key)
		}
		if id, ok := strings.CutPrefix(key, "job/"); ok && s.dueOf("job", id) != 1 {
			s.complain("job %s is not due", id)
		}
		if _, own, ok := strings.Cut(key, "/c/"); ok && strings.HasPrefix(key, "mount/") {
			if id, _, _ := strings.Cut(own, "/"); s.tokens[id] == nil {
				s.complain("%q is of no token", key)
			}
		}
		if rest, ok := strings.CutPrefix(key, "mount/"); ok {
			if uuid, _, _ := strings.Cut(rest, "/"); s.mounts[uuid] == nil {
				s.complain("%q is of no mount", key)
			}
		}
	}
}

func (s *stored) checkMounts() {
	at := map[string]string{}
	for id, m := range s.mounts {
		if !m.Gone.IsZero() {
			found := false
			for key, e := range s.rows {
				found = found || strings.HasPrefix(key, "job/") && strings.Contains(string(e.Value), id)
			}
			if !found {
				s.complain("the mount that was at %s is disabled and no job ends its leases", m.Path)
			}
			continue
		}
		if at[m.Path] != "" {
			s.complain("two mounts are at %s", m.Path)
		}
		at[m.Path] = id
	}
}

// demand fails the test with all inconsistencies.
func (s *stored) demand(t testing.TB, when string) {
	t.Helper()
	for _, w := range s.wrong {
		t.Errorf("%s: %s", when, w)
	}
}

// countsAreTrue compares the counts of the metrics with a scan.
func (s *stored) countsAreTrue(t testing.TB, when string, got core.Stats) {
	t.Helper()
	failing := 0
	for _, l := range s.leases {
		if !l.Failing.IsZero() {
			failing++
		}
	}
	if got.Leases != int64(len(s.leases)) || got.UndoWaiting != int64(failing) {
		t.Errorf("%s: %d leases counted of %d, %d waiting of %d", when, got.Leases, len(s.leases), got.UndoWaiting,
			failing)
	}
}
