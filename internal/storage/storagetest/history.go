package storagetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/storage"
)

// A model is the expected contents of a store.
type model map[string]storage.Entry

// apply does what a successful commit of b with number v does, or says which
// assertion should have failed.
func (m model) apply(b storage.Batch, v storage.Version) error {
	for _, op := range b.Ops {
		if op.Check && m[op.Key].Version != op.Want {
			return fmt.Errorf("commit %d asserts %q at %d, but it is at %d", v, op.Key, op.Want, m[op.Key].Version)
		}
	}
	for _, op := range b.Ops {
		switch op.Kind {
		case storage.Put:
			key := op.Key
			if op.Stamp {
				key = storage.StampedKey(key, v)
			}
			m[key] = storage.Entry{Key: key, Value: op.Value, Version: v}
		case storage.Delete:
			delete(m, op.Key)
		}
	}
	return nil
}

func (m model) conflicts(b storage.Batch) bool {
	return slices.ContainsFunc(b.Ops, func(op storage.Op) bool { return op.Check && m[op.Key].Version != op.Want })
}

func (m model) sorted(from, to string) []storage.Entry {
	var all []storage.Entry
	for key, e := range m {
		if key >= from && (to == "" || key < to) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b storage.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

func changes(b storage.Batch, v storage.Version) []storage.Change {
	var all []storage.Change
	for _, op := range b.Ops {
		key := op.Key
		if op.Stamp {
			key = storage.StampedKey(key, v)
		}
		if op.Kind != storage.Assert {
			all = append(all, storage.Change{Version: v, Key: key, Deleted: op.Kind == storage.Delete})
		}
	}
	return all
}

// A source generates random batches on a few keys. known contains earlier versions of keys, so
// that some assertions hold and others fail.
type source struct {
	*rand.Rand
	known map[string]storage.Version
	id    string
	n     int
}

const keySpace = 24

func (r *source) key() string { return fmt.Sprintf("k/%02d", r.IntN(keySpace)) }

func (r *source) batch() storage.Batch {
	var b storage.Batch
	used := map[string]bool{}
	for range 1 + r.IntN(5) {
		key := r.key()
		if used[key] {
			continue
		}
		used[key] = true
		r.n++
		value := fmt.Appendf(nil, "%s-%d", r.id, r.n)
		switch r.IntN(8) {
		case 0:
			b.Ops = append(b.Ops, storage.Remove(key))
		case 1:
			b.Ops = append(b.Ops, storage.Remove(key).If(r.known[key]))
		case 2:
			b.Ops = append(b.Ops, storage.Expect(key, r.known[key]))
		case 3:
			b.Ops = append(b.Ops, storage.Set(key, value))
		case 4:
			b.Ops = append(b.Ops, storage.Append("log/"+key+"/", value))
		default:
			b.Ops = append(b.Ops, storage.Set(key, value).If(r.known[key]))
		}
	}
	return b
}

func newSource(id string, seed uint64) *source {
	return &source{rand.New(rand.NewPCG(seed, 1)), map[string]storage.Version{}, id, 0}
}

// testHistory: with one client, the store equals the model after every step.
func testHistory(t *testing.T, s storage.Store) {
	for seed := range uint64(3) {
		r := newSource(fmt.Sprint("s", seed), seed)
		m := model{}
		for _, e := range scan(t, s, "", "") {
			m[e.Key], r.known[e.Key] = e, e.Version
		}
		for step := range 300 {
			b := r.batch()
			v, err := s.Commit(t.Context(), b)
			switch {
			case errors.Is(err, storage.ErrConflict):
				if !m.conflicts(b) {
					t.Fatalf("seed %d step %d: a conflict that is none: %+v", seed, step, b.Ops)
				}
			case err != nil:
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			default:
				if err := m.apply(b, v); err != nil {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
			}
			for range 2 {
				key := r.key()
				want := m[key]
				want.Key = key
				if diff := gocmp.Diff(want, get(t, s, key)); diff != "" {
					t.Fatalf("seed %d step %d: (-want +got):\n%s", seed, step, diff)
				}
				r.known[key] = want.Version
			}
			if step%25 == 0 {
				from, to := r.key(), r.key()
				if diff := gocmp.Diff(m.sorted(from, to), scan(t, s, from, to)); diff != "" && from < to {
					t.Fatalf("seed %d step %d: scan (-want +got):\n%s", seed, step, diff)
				}
			}
		}
		if diff := gocmp.Diff(m.sorted("", ""), scan(t, s, "", "")); diff != "" {
			t.Fatalf("seed %d: at the end (-want +got):\n%s", seed, diff)
		}
	}
}

// An attempt is one commit of a concurrent history.
type attempt struct {
	batch      storage.Batch
	id         string          // where the caller may give up: a row of its own tells whether it was stored
	version    storage.Version // 0: conflict, or unknown
	unknown    bool
	begin, end int64 // ticks of a clock that all clients share
}

// A sight is one read of a concurrent history.
type sight struct {
	entry      storage.Entry
	begin, end int64
}

// A log is what many clients did and saw.
type log struct {
	clock atomic.Int64

	mu       sync.Mutex
	attempts []attempt
	sights   []sight
}

// testConcurrent: with many clients, the commits in the order of their numbers must be a history
// of the model that explains everything that clients saw: no read is older than a commit that
// ended before it began, every conflict is real, and the feed reports exactly the commits.
func testConcurrent(t *testing.T, s storage.Store) {
	f := watch(t, s, "", 0)
	l := &log{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { l.client(t, s, newSource(fmt.Sprint("c", i), uint64(i)), i%4 == 3) })
	}
	wg.Wait()
	last := commit(t, s, storage.Expect("none", 0))
	l.resolve(t, s)
	h := l.replay(t)
	if diff := gocmp.Diff(h.now.sorted("", ""), scan(t, s, "", "")); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
	var told []storage.Change
	for _, a := range h.commits {
		told = append(told, changes(a.batch, a.version)...)
	}
	if diff := gocmp.Diff(told, f.until(t, last)); diff != "" {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}
	h.checkReads(t, l.sights)
	h.checkConflicts(t, l.attempts)
}

func (l *log) client(t *testing.T, s storage.Store, r *source, impatient bool) {
	for range 120 {
		ctx, cancel := context.WithCancel(t.Context())
		a := attempt{batch: r.batch()}
		if impatient && r.IntN(4) == 0 {
			a.id = fmt.Sprintf("id/%s-%d/", r.id, r.n)
			a.batch.Ops = append(a.batch.Ops, storage.Append(a.id, []byte("stored")))
			go cancel()
		}
		a.begin = l.clock.Add(1)
		v, err := s.Commit(ctx, a.batch)
		a.version, a.end = v, l.clock.Add(1)
		cancel()
		switch {
		case errors.Is(err, context.Canceled):
			a.unknown = true
		case err != nil && !errors.Is(err, storage.ErrConflict):
			t.Errorf("Commit = %v", err)
			return
		}
		look := sight{begin: l.clock.Add(1)}
		look.entry, err = s.Get(t.Context(), r.key())
		look.end = l.clock.Add(1)
		if err != nil {
			t.Errorf("Get = %v", err)
			return
		}
		r.known[look.entry.Key] = look.entry.Version
		l.mu.Lock()
		l.attempts = append(l.attempts, a)
		l.sights = append(l.sights, look)
		l.mu.Unlock()
	}
}

// resolve finds out which of the unknown attempts were stored, by their rows.
func (l *log) resolve(t *testing.T, s storage.Store) {
	stored := map[string]storage.Version{}
	for _, e := range scan(t, s, "id/", "id0") {
		stored[e.Key[:strings.LastIndex(e.Key, "/")+1]] = e.Version
	}
	for i := range l.attempts {
		a := &l.attempts[i]
		if v, ok := stored[a.id]; a.unknown && ok {
			// It may have been stored long after its caller stopped waiting.
			a.version, a.unknown, a.end = v, false, math.MaxInt64
		}
	}
}

// A history is the commits in order, and each key's life in it.
type history struct {
	commits []attempt
	now     model
	lives   map[string][]life
}

// A life is what a key was from one commit on; version 0: absent.
type life struct {
	commit  int
	version storage.Version
	value   string
}

func (l *log) replay(t *testing.T) *history {
	h := &history{now: model{}, lives: map[string][]life{}}
	for _, a := range l.attempts {
		if a.version != 0 {
			h.commits = append(h.commits, a)
		}
	}
	slices.SortFunc(h.commits, func(a, b attempt) int { return cmp.Compare(a.version, b.version) })
	for i, a := range h.commits {
		if i > 0 && a.version == h.commits[i-1].version {
			t.Fatalf("two commits have the number %d", a.version)
		}
	}
	for i, a := range h.commits {
		if err := h.now.apply(a.batch, a.version); err != nil {
			t.Error(err)
		}
		for _, c := range changes(a.batch, a.version) {
			e := life{commit: i, version: a.version, value: string(h.now[c.Key].Value)}
			if c.Deleted {
				e.version = 0
			}
			h.lives[c.Key] = append(h.lives[c.Key], e)
		}
	}
	h.checkOrder(t)
	return h
}

// checkOrder: a commit that began after another had ended has a larger number.
func (h *history) checkOrder(t *testing.T) {
	latest := int64(0) // the latest begin of those with smaller numbers
	for i := range h.commits {
		if latest > h.commits[i].end {
			t.Errorf("commit %d ended before one with a smaller number began", h.commits[i].version)
		}
		latest = max(latest, h.commits[i].begin)
	}
}

func (h *history) checkReads(t *testing.T, sights []sight) {
	for _, look := range sights {
		if !h.explains(look) {
			t.Errorf("read %+v between ticks %d and %d, which no order of the commits explains", look.entry,
				look.begin, look.end)
		}
	}
}

// explains: there is a moment within the read at which the key was so.
func (h *history) explains(look sight) bool {
	lives := append([]life{{commit: -1}}, h.lives[look.entry.Key]...)
	for i, e := range lives {
		begun := e.commit < 0 || h.commits[e.commit].begin < look.end
		over := i+1 < len(lives) && h.commits[lives[i+1].commit].end < look.begin
		if begun && !over && e.version == look.entry.Version &&
			(e.version == 0 || e.value == string(look.entry.Value)) {
			return true
		}
	}
	return false
}

// checkConflicts: each conflict's batch would have failed at some moment while
// it was tried.
func (h *history) checkConflicts(t *testing.T, attempts []attempt) {
	for _, a := range attempts {
		if a.version != 0 || a.unknown {
			continue
		}
		justified := slices.ContainsFunc(a.batch.Ops,
			func(op storage.Op) bool { return op.Check && h.differed(op, a) })
		if !justified {
			t.Errorf("a conflict that is none, between ticks %d and %d: %+v", a.begin, a.end, a.batch.Ops)
		}
	}
}

// differed: at some moment within a, op's key did not have the version wanted.
func (h *history) differed(op storage.Op, a attempt) bool {
	lives := append([]life{{commit: -1}}, h.lives[op.Key]...)
	for i, e := range lives {
		begun := e.commit < 0 || h.commits[e.commit].begin < a.end
		over := i+1 < len(lives) && h.commits[lives[i+1].commit].end < a.begin
		if begun && !over && e.version != op.Want {
			return true
		}
	}
	return false
}
