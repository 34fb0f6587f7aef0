package pebble

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyturn/keyturn/internal/storage"
)

// A told is what clients were told up to one moment, and the disk as a loss of
// power would leave it a moment later.
type told struct {
	acked storage.Version // the newest commit that was answered
	begun uint64          // the newest number given out
	// seen are entries that reads returned; of an absent one, after is the
	// newest put of the key that had been answered before the read.
	seen []sight
	disk *vfs.MemFS
}

type sight struct {
	key     string
	version storage.Version
	after   storage.Version
}

// A witness drives a store and takes pictures.
type witness struct {
	store *Store
	fs    *vfs.MemFS

	mu      sync.Mutex
	acked   storage.Version
	puts    map[string]storage.Version // answered
	seen    []sight
	history []storage.Change // with what was put
	values  map[storage.Version]string
	taken   []told
	rng     *rand.Rand
}

// picture is called before each sync.
func (w *witness) picture() {
	w.mu.Lock()
	t := told{acked: w.acked, seen: w.seen[:len(w.seen):len(w.seen)]}
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(3) * 50, RNG: rand.New(rand.NewPCG(w.rng.Uint64(), 0))}
	w.mu.Unlock()
	t.disk = w.fs.CrashClone(cfg)
	if w.store != nil {
		t.begun = w.store.begun.Load()
	}
	w.mu.Lock()
	w.taken = append(w.taken, t)
	w.mu.Unlock()
}

// client commits to keys of its own and reads everyone's.
func (w *witness) client(t *testing.T, id int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(id)))
	for n := range 60 {
		value := fmt.Sprintf("%d-%d-%s", id, n, strings.Repeat("x", r.IntN(6000)))
		var b storage.Batch
		for k := range 1 + r.IntN(3) {
			key := fmt.Sprintf("c%d/%d", id, k)
			if r.IntN(3) == 0 {
				b.Ops = append(b.Ops, storage.Remove(key))
			} else {
				b.Ops = append(b.Ops, storage.Set(key, []byte(value)))
			}
		}
		v, err := w.store.Commit(t.Context(), b)
		if err != nil {
			t.Errorf("Commit = %v", err)
			return
		}
		w.committed(v, b, value)
		key := fmt.Sprintf("c%d/%d", r.IntN(4), r.IntN(3))
		w.mu.Lock()
		look := sight{key: key, after: w.puts[key]}
		w.mu.Unlock()
		e, err := w.store.Get(t.Context(), key)
		if err != nil {
			t.Errorf("Get = %v", err)
			return
		}
		look.version = e.Version
		w.mu.Lock()
		w.seen = append(w.seen, look)
		w.mu.Unlock()
	}
}

func (w *witness) committed(v storage.Version, b storage.Batch, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = max(w.acked, v)
	w.values[v] = value
	for _, op := range b.Ops {
		w.history = append(w.history, storage.Change{Version: v, Key: op.Key, Deleted: op.Kind == storage.Delete})
		if op.Kind == storage.Put {
			w.puts[op.Key] = v
		}
	}
}

// TestPowerLoss loses power before every sync of a random history of several clients. Afterwards,
// the store has the state after some commit, which is not older than any commit that was answered
// or seen by a read.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &witness{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed,
				7)), puts: map[string]storage.Version{}, values: map[storage.Version]string{}}
			fs := errorfs.Wrap(w.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				switch op.Kind {
				case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
					if w.store != nil {
						w.picture()
					}
				}
				return nil
			}))
			s := open(t, Options{Path: "/store", FS: fs})
			w.store = s
			var wg sync.WaitGroup
			for id := range 4 {
				wg.Go(func() { w.client(t, id, seed) })
			}
			wg.Wait()
			w.picture()
			slices.SortStableFunc(w.history,
				func(a, b storage.Change) int { return cmp.Compare(a.Version, b.Version) })
			if len(w.taken) < 15 {
				t.Errorf("only %d syncs; the history is too short to tell", len(w.taken))
			}
			for i, picture := range w.taken {
				if err := w.check(t, picture); err != nil {
					t.Fatalf("seed %d, power lost before sync %d of %d: %v", seed, i, len(w.taken), err)
				}
			}
		})
	}
}

// check opens the disk of a picture and holds it against the history.
func (w *witness) check(t *testing.T, p told) error {
	s, err := Open(t.Context(), Options{Path: "/store", FS: p.disk})
	if err != nil {
		return err
	}
	var got []storage.Entry
	newest := storage.Version(0)
	for e, err := range s.Scan(t.Context(), "", "") {
		if err != nil {
			return err
		}
		if want, known := w.values[e.Version]; !known || want != string(e.Value) {
			return fmt.Errorf("%s at version %d has a value that no commit of that number wrote", e.Key, e.Version)
		}
		newest = max(newest, e.Version)
		got = append(got, e)
	}
	if !w.someMoment(got, p) {
		return fmt.Errorf("the store is not as it was after any commit from %d on; newest entry %d", w.required(p),
			newest)
	}
	v, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set("after", nil)}})
	if err != nil {
		return err
	}
	if uint64(v) <= p.begun {
		return fmt.Errorf("the next commit got the number %d, and %d had been given out", v, p.begun)
	}
	return s.Close()
}

// required is the oldest commit that must not be lost.
func (w *witness) required(p told) storage.Version {
	need := p.acked
	for _, look := range p.seen {
		need = max(need, look.version)
		if look.version != 0 || look.after == 0 {
			continue
		}
		for _, c := range w.history { // the first delete after the put explains the absence
			if c.Key == look.key && c.Deleted && c.Version > look.after {
				need = max(need, c.Version)
				break
			}
		}
	}
	return need
}

// someMoment says whether got is the store after one of the commits from the
// required one on.
func (w *witness) someMoment(got []storage.Entry, p told) bool {
	need := w.required(p)
	state := map[string]storage.Version{}
	same := func() bool {
		return len(got) == len(state) &&
			!slices.ContainsFunc(got, func(e storage.Entry) bool { return state[e.Key] != e.Version })
	}
	for i, c := range w.history {
		if c.Deleted {
			delete(state, c.Key)
		} else {
			state[c.Key] = c.Version
		}
		whole := i+1 == len(w.history) || w.history[i+1].Version != c.Version
		if whole && c.Version >= need && same() {
			return true
		}
	}
	return need == 0 && len(got) == 0
}

// A failing file system fails chosen operations.
type failing struct {
	*errorfs.FS
	mu   sync.Mutex
	fail func(op errorfs.Op) error
}

func newFailing(below vfs.FS) *failing {
	f := &failing{}
	f.FS = errorfs.Wrap(below, errorfs.InjectorFunc(func(op errorfs.Op) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fail == nil {
			return nil
		}
		return f.fail(op)
	}))
	return f
}

func (f *failing) set(fail func(op errorfs.Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// nth fails the n-th operation that matches, once.
func (f *failing) nth(n int, match func(op errorfs.Op) bool) {
	f.set(func(op errorfs.Op) error {
		if !match(op) {
			return nil
		}
		n--
		if n == 0 {
			return errors.New("injected: the disk failed")
		}
		return nil
	})
}

func ofLog(kinds ...errorfs.OpKind) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") && slices.Contains(kinds, op.Kind) }
}

// until retries until the store serves.
func until(t *testing.T, s *Store, ops ...storage.Op) storage.Version {
	t.Helper()
	for {
		v, err := s.Commit(t.Context(), storage.Batch{Ops: ops})
		if err == nil {
			return v
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		<-s.serving(t)
	}
}

// serving is closed at the next moment at which a handle serves.
func (s *Store) serving(t *testing.T) <-chan struct{} {
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		for t.Context().Err() == nil {
			s.mu.Lock() // install holds it from the moment at which it wakes until current is set
			serves := s.current.Load() != nil
			s.durable.mu.Lock()
			if s.durable.wake == nil {
				s.durable.wake = make(chan struct{})
			}
			wake := s.durable.wake
			s.durable.mu.Unlock()
			s.mu.Unlock()
			if serves {
				return
			}
			select {
			case <-wake:
			case <-t.Context().Done():
			}
		}
	}()
	return ready
}

// TestFailedSync: one sync or write of the log fails. Nothing that was answered is lost, even if
// power fails too; nothing is answered that is not durable; numbers continue; the store serves
// again.
func TestFailedSync(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileWrite} {
		for _, n := range []int{1, 2, 3, 7, 19} {
			t.Run(fmt.Sprint(kind, n), func(t *testing.T) {
				t.Parallel()
				disk := vfs.NewCrashableMem()
				fs := newFailing(disk)
				s := open(t, Options{Path: "/store", FS: fs})
				var wg sync.WaitGroup
				var mu sync.Mutex
				acked := map[string]storage.Version{}
				failures := 0
				kinds := []errorfs.OpKind{kind}
				if kind == errorfs.OpFileSync {
					kinds = append(kinds, errorfs.OpFileSyncData)
				}
				fs.nth(n, ofLog(kinds...))
				for id := range 4 {
					wg.Go(func() {
						for i := range 40 {
							key := fmt.Sprintf("%d/%d", id, i)
							v, err := s.Commit(t.Context(),
								storage.Batch{Ops: []storage.Op{storage.Set(key, bytes.Repeat([]byte("v"), 100))}})
							mu.Lock()
							if err == nil {
								acked[key] = v
							} else {
								failures++
							}
							mu.Unlock()
							if err != nil {
								<-s.serving(t)
							}
						}
					})
				}
				wg.Wait()
				until(t, s, storage.Set("last", nil))
				if failures == 0 || s.reopened.Load() != 1 {
					t.Errorf("%d commits failed and the store was reopened %d times", failures, s.reopened.Load())
				}
				checkAcked(t, s, acked)
				for e, err := range s.Scan(t.Context(), "", "") { // what a read tells is durable, too
					if err != nil {
						t.Fatal(err)
					}
					acked[e.Key] = e.Version
				}
				checkAcked(t, open(t, Options{Path: "/store", FS: disk.CrashClone(vfs.CrashCloneCfg{})}), acked)
			})
		}
	}
}

func checkAcked(t *testing.T, s *Store, acked map[string]storage.Version) {
	t.Helper()
	for key, v := range acked {
		e, err := s.Get(t.Context(), key)
		if err != nil || e.Version != v {
			t.Errorf("Get(%q) = version %d, %v; it was answered with %d", key, e.Version, err, v)
		}
	}
}

// TestReopenedFeed: after a failure, a reader of the feed gets ErrGap.
func TestReopenedFeed(t *testing.T) {
	t.Parallel()
	fs := newFailing(vfs.NewMem())
	s := open(t, Options{Path: "/store", FS: fs})
	first := until(t, s, storage.Set("a", nil))
	fs.nth(1, ofLog(errorfs.OpFileSync, errorfs.OpFileSyncData))
	var ended error
	for c, err := range s.Watch(t.Context(), "", 0) {
		if ended = err; err != nil {
			break
		}
		if c.Key != "" {
			t.Errorf("the feed told %+v, which failed", c)
		}
		if fs.stillArmed() {
			if _, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set("b", nil)}}); err == nil {
				t.Error("a commit whose sync failed was answered")
			}
			fs.set(nil)
		}
	}
	if !errors.Is(ended, storage.ErrGap) {
		t.Errorf("the feed ended with %v, want ErrGap", ended)
	}
	next := until(t, s, storage.Set("c", nil))
	if next <= first+1 {
		t.Errorf("number %d after the failure; %d may have been the failed commit's", next, first+1)
	}
}

func (f *failing) stillArmed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail != nil
}

// TestParked: after failures inside Pebble that cannot return an error, the handle is abandoned,
// the store continues, and nothing is lost.
func TestParked(t *testing.T) {
	for name, match := range map[string]func(errorfs.Op) bool{
		// The next log cannot be made while a batch is applied.
		"new log": ofLog(errorfs.OpCreate, errorfs.OpReuseForWrite),
		// Pebble calls Fatalf.
		"manifest": func(op errorfs.Op) bool {
			return strings.Contains(op.Path, "MANIFEST") && op.Kind == errorfs.OpFileSync
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := newFailing(vfs.NewMem())
			s := open(t, Options{Path: "/store", FS: fs})
			acked := map[string]storage.Version{}
			fs.nth(1, match)
			for i := range 60 { // enough to fill a memtable, which is then flushed
				key := fmt.Sprint("k", i)
				v, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(key, random(400_000))}})
				if err == nil {
					acked[key] = v
				}
			}
			until(t, s, storage.Set("last", nil))
			checkAcked(t, s, acked)
			if got := s.Stats(); got.Abandoned != 1 || got.Reopened != 1 || got.Refusing {
				t.Errorf("stats %+v, want one handle abandoned and one reopened", got)
			}
		})
	}
}
