package pebble

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyturn/keyturn/internal/storage"
)

// A snapshot has the answers that clients had got at one moment, and the disk as a loss of power
// would leave it a moment later.
type snapshot struct {
	acked storage.Version // the newest commit that was answered
	begun uint64          // the newest number that was assigned
	reads []read
	disk  *vfs.MemFS
}

type read struct {
	key     string
	version storage.Version // 0: absent
	after   storage.Version // the newest put of the key that had been answered before the read
}

// A recorder drives a store, records its answers and takes snapshots.
type recorder struct {
	store *Store
	fs    *vfs.MemFS

	mu      sync.Mutex
	acked   storage.Version
	puts    map[string]storage.Version // answered
	reads   []read
	history []storage.Change
	values  map[storage.Version]string
	taken   []snapshot
	rng     *rand.Rand
}

// snapshot is called before each sync.
func (w *recorder) snapshot() {
	w.mu.Lock()
	t := snapshot{acked: w.acked, reads: w.reads[:len(w.reads):len(w.reads)]}
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(3) * 50, RNG: rand.New(rand.NewPCG(w.rng.Uint64(), 0))}
	w.mu.Unlock()
	t.disk = w.fs.CrashClone(cfg)
	if w.store != nil {
		t.begun = w.store.supervisor.numbers.begun.Load()
	}
	w.mu.Lock()
	w.taken = append(w.taken, t)
	w.mu.Unlock()
}

// client commits to its own keys, and reads those of all clients.
func (w *recorder) client(t *testing.T, id int, seed uint64) {
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
		got := read{key: key, after: w.puts[key]}
		w.mu.Unlock()
		e, err := w.store.Get(t.Context(), key)
		if err != nil {
			t.Errorf("Get = %v", err)
			return
		}
		got.version = e.Version
		w.mu.Lock()
		w.reads = append(w.reads, got)
		w.mu.Unlock()
	}
}

func (w *recorder) committed(v storage.Version, b storage.Batch, value string) {
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
			w := &recorder{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed,
				7)), puts: map[string]storage.Version{}, values: map[storage.Version]string{}}
			fs := errorfs.Wrap(w.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				switch op.Kind {
				case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
					if w.store != nil {
						w.snapshot()
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
			w.snapshot()
			slices.SortStableFunc(w.history,
				func(a, b storage.Change) int { return cmp.Compare(a.Version, b.Version) })
			if len(w.taken) < 15 {
				t.Errorf("only %d syncs; the history is too short", len(w.taken))
			}
			for i, s := range w.taken {
				if err := w.check(t, s); err != nil {
					t.Fatalf("seed %d, power lost before sync %d of %d: %v", seed, i, len(w.taken), err)
				}
			}
		})
	}
}

// check opens the disk of a snapshot, and compares the store with the history.
func (w *recorder) check(t *testing.T, p snapshot) error {
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
	if !w.isStateAfter(got, p) {
		return fmt.Errorf("the store does not have the state after any commit from %d on; its newest entry is %d",
			w.required(p),
			newest)
	}
	v, err := s.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set("after", nil)}})
	if err != nil {
		return err
	}
	if uint64(v) <= p.begun {
		return fmt.Errorf("the next commit got the number %d, and %d had been assigned", v, p.begun)
	}
	return s.Close()
}

// required is the oldest commit that must not be lost.
func (w *recorder) required(p snapshot) storage.Version {
	need := p.acked
	for _, got := range p.reads {
		need = max(need, got.version)
		if got.version != 0 || got.after == 0 {
			continue
		}
		for _, c := range w.history { // the first delete after the put explains the absence
			if c.Key == got.key && c.Deleted && c.Version > got.after {
				need = max(need, c.Version)
				break
			}
		}
	}
	return need
}

// isStateAfter reports whether got is the state after the required commit or a later one.
func (w *recorder) isStateAfter(got []storage.Entry, p snapshot) bool {
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
			s.supervisor.mu.Lock() // install holds it from the moment at which it wakes until current is set
			serves := s.supervisor.current.Load() != nil
			s.supervisor.numbers.durable.mu.Lock()
			if s.supervisor.numbers.durable.wake == nil {
				s.supervisor.numbers.durable.wake = make(chan struct{})
			}
			wake := s.supervisor.numbers.durable.wake
			s.supervisor.numbers.durable.mu.Unlock()
			s.supervisor.mu.Unlock()
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
				if failures == 0 || s.supervisor.reopened.Load() != 1 {
					t.Errorf("%d commits failed and the store was reopened %d times", failures,
						s.supervisor.reopened.Load())
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
			t.Errorf("the feed has %+v, which failed", c)
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

// TestHandleThatCannotBeClosed: a failed handle is closed, which waits for a batch that hangs. Who
// still has that handle gets an error and does not wait, too.
func TestHandleThatCannotBeClosed(t *testing.T) {
	s := open(t, Options{Path: "/store", FS: vfs.NewMem()})
	h := s.supervisor.current.Load()
	h.applying.Lock() // the batch
	h.poison(errors.New("the disk has failed"))
	for h.use.TryRLock() { // until it is being closed
		h.use.RUnlock()
		runtime.Gosched()
	}
	b := storage.Batch{Ops: []storage.Op{storage.Set("a", nil)}}
	if err := h.check(t.Context(), b); !errors.Is(err, errPoisoned) {
		t.Errorf("a check of the failed handle: %v", err)
	}
	h.applying.Unlock()
	until(t, s, storage.Set("last", nil))
}
