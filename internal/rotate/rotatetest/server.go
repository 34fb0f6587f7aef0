package rotatetest

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

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

// count counts a call, and reports whether the server dies at it.
func (s *seat) count() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	return s.calls == 0 && s.h.Wild()
}
