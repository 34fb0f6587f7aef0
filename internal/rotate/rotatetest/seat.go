package rotatetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// errDied is the error of a call during which the server died.
var errDied = errors.New("rotatetest: the server has died")

// A seat is one server: its view of the store, and when it dies or is suspended. Its store is
// slightly slow, so that simultaneous actions of two servers have an order, which the seed
// decides.
type seat struct {
	*faulty.Store
	h    *Harness
	n    int
	died chan struct{} // told when it dies

	users sync.WaitGroup // requests and readers in progress

	mu     sync.Mutex // guards the rest
	rng    *rand.Rand
	opened bool
	calls  int           // the call at which it dies, counted down; 0: at none
	after  bool          // once the call was made
	held   int           // the read or commit before which it is suspended, counted down; 0: none
	hold   time.Duration // for so long
}

// shared is the store that all servers share. A server that stops does not close it.
type shared struct{ storage.Store }

// Close does nothing.
func (shared) Close() error { return nil }

func newSeat(h *Harness, n int) *seat {
	return &seat{
		Store: faulty.New(h.store, h.seed+uint64(n)), h: h, n: n, died: make(chan struct{}, 1), rng: rand.New(rand.NewPCG(h.seed, 100+uint64(n))),
	}
}

func (s *seat) start() {
	s.Revive()
	s.Clear()
	select {
	case <-s.died:
	default:
	}
	s.h.Tell("server %d starts", s.n)
	s.h.subject.Open(s.n, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened, s.calls, s.held = true, 0, 0
}

// stop stops the server in the middle of whatever it does.
func (s *seat) stop() {
	s.mu.Lock()
	was := s.opened
	s.opened = false
	s.mu.Unlock()
	if !was {
		return
	}
	s.Crash()
	s.h.subject.Stop(s.n)
	s.users.Wait()
}

func (s *seat) up() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.opened }

// dead reports whether the server has died and was not stopped yet.
func (s *seat) dead() bool {
	select {
	case <-s.Crashed():
		return s.up()
	default:
		return false
	}
}

// kill makes the server die now. A dead server does nothing any more.
func (s *seat) kill(when string) {
	s.h.Tell("server %d dies %s", s.n, when)
	s.Crash()
	s.tell()
}

// tell signals to the goroutine that plays that the server has died.
func (s *seat) tell() {
	select {
	case s.died <- struct{}{}:
	default:
	}
}

// use runs a request, unless the server is down.
func (s *seat) use(request func()) {
	s.mu.Lock()
	if !s.opened {
		s.mu.Unlock()
		return
	}
	s.users.Add(1)
	s.mu.Unlock()
	defer s.users.Done()
	request()
}

// arm chooses the server's next failure.
func (s *seat) arm() {
	h := s.h
	mode := One(h, faulty.NotStored, faulty.Stored)
	switch n := h.Rand.IntN(12); h.Rand.IntN(10) {
	case 0, 1:
		h.Tell("server %d will die at commit %d, mode %d", s.n, n, mode)
		s.CrashAfter(n, mode)
	case 2, 3:
		s.mu.Lock()
		s.calls, s.after = n/2+1, h.Rand.IntN(2) == 0
		s.mu.Unlock()
	case 4:
		crashed := s.Crashed()
		time.AfterFunc(h.UpTo(h.plan.Round), func() {
			select {
			case <-crashed:
			default:
				if h.Wild() && s.up() {
					s.kill("at some moment")
				}
			}
		})
	case 5:
		h.Tell("a commit of server %d fails, mode %d", s.n, mode)
		s.Inject(faulty.Fault{Calls: faulty.Commits, After: n, Mode: mode})
	case 6:
		s.Inject(faulty.Fault{Calls: faulty.Gets, After: n * 2})
	case 7, 8:
		s.mu.Lock()
		s.held, s.hold = n*2+1, h.UpTo(10*time.Minute)
		s.mu.Unlock()
	}
}

// delay waits for as long as the store takes.
func (s *seat) delay(ctx context.Context, what string) {
	s.mu.Lock()
	d := time.Duration(s.rng.Int64N(int64(2 * time.Millisecond)))
	if s.held--; s.held == 0 && s.h.Wild() {
		d = s.hold
		s.h.stalls.Add(1)
		s.h.Tell("server %d is suspended %s for %s", s.n, what, d.Round(time.Second))
	}
	s.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.Crashed():
	}
}

// Get reads. The server may be suspended after the read.
func (s *seat) Get(ctx context.Context, key string) (storage.Entry, error) {
	e, err := s.Store.Get(ctx, key)
	s.delay(ctx, "after a read")
	return e, err
}

// Commit commits. The server may be suspended before the commit.
func (s *seat) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	s.delay(ctx, "before a commit")
	v, err := s.Store.Commit(ctx, b)
	select {
	case <-s.Crashed():
		s.tell()
	default:
	}
	return v, err
}

// A Call is a call that a server makes to the outside.
type Call struct {
	What  string // "create", "retire", "disable", "set"; any other one changes no credential
	ID    string // of the credential, or the marker of one that is created
	Value string // that is set
}

// Call makes a server's call to the outside. The call is judged before it is made, and the server
// may die before or after it.
func (h *Harness) Call(server int, c Call, make func()) error {
	s := h.seats[server]
	dies := s.count()
	if dies && !s.after {
		s.kill("before " + c.What + " " + c.ID)
	}
	select {
	case <-s.Crashed():
		return errDied // the dead do nothing
	default:
	}
	h.asserted(server, c)
	life := s.Crashed()
	make()
	if !dies {
		return nil
	}
	select {
	case <-life: // the server was stopped during the call, and the one that was started since does not die of it
	default:
		s.kill("after " + c.What + " " + c.ID)
	}
	return errDied
}

// count counts a call, and reports whether the server dies at it.
func (s *seat) count() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	return s.calls == 0 && s.h.Wild()
}

// Between returns a function to call between two steps of a request. The server may die there.
func (h *Harness) Between(server int) func(step string) error {
	return func(step string) error { return h.Call(server, Call{What: step}, func() {}) }
}

// Refuse returns nil, or sometimes the error of a dependency other than the provider, such as the
// audit log.
func (h *Harness) Refuse(server int, what string) error {
	s := h.seats[server]
	s.mu.Lock()
	strikes := s.rng.IntN(50) == 0 && h.Wild()
	s.mu.Unlock()
	if !strikes {
		return nil
	}
	h.Tell("server %d: %s is refused", server, what)
	return fault.New("rotatetest", fault.Unavailable, "%s: asked for", what)
}
