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

func newTestServer(h *Harness, n int) *testServer {
	return &testServer{
		Store: faulty.New(h.store, h.seed+uint64(n)), h: h, n: n, died: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(h.seed, 100+uint64(n))),
	}
}

func (s *testServer) start() {
	s.Revive()
	s.Clear()
	select {
	case <-s.died:
	default:
	}
	s.h.Note("server %d starts", s.n)
	s.h.subject.Open(s.n, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened, s.dieAt, s.suspendAt = true, 0, 0
}

// stop stops the server in the middle of whatever it does.
func (s *testServer) stop() {
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

func (s *testServer) up() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.opened }

// dead reports whether the server has died and was not stopped yet.
func (s *testServer) dead() bool {
	select {
	case <-s.Crashed():
		return s.up()
	default:
		return false
	}
}

// kill makes the server die now. A dead server does nothing any more.
func (s *testServer) kill(when string) {
	s.h.Note("server %d dies %s", s.n, when)
	s.Crash()
	s.signalDeath()
}

// signalDeath signals to the goroutine that plays that the server has died.
func (s *testServer) signalDeath() {
	select {
	case s.died <- struct{}{}:
	default:
	}
}

// serve runs a request, unless the server is down.
func (s *testServer) serve(request func()) {
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

// planFailure chooses the server's next failure.
func (s *testServer) planFailure() {
	h := s.h
	mode := Pick(h, faulty.NotStored, faulty.Stored)
	switch n := h.Rand.IntN(12); h.Rand.IntN(10) {
	case 0, 1:
		h.Note("server %d will die at commit %d, mode %d", s.n, n, mode)
		s.CrashAfter(n, mode)
	case 2, 3:
		s.mu.Lock()
		s.dieAt, s.dieAfter = n/2+1, h.Rand.IntN(2) == 0
		s.mu.Unlock()
	case 4:
		crashed := s.Crashed()
		time.AfterFunc(h.UpTo(h.plan.Round), func() {
			select {
			case <-crashed:
			default:
				if h.Failing() && s.up() {
					s.kill("at some moment")
				}
			}
		})
	case 5:
		h.Note("a commit of server %d fails, mode %d", s.n, mode)
		s.Inject(faulty.Fault{Calls: faulty.Commits, After: n, Mode: mode})
	case 6:
		s.Inject(faulty.Fault{Calls: faulty.Gets, After: n * 2})
	case 7, 8:
		s.mu.Lock()
		s.suspendAt, s.suspendFor = n*2+1, h.UpTo(10*time.Minute)
		s.mu.Unlock()
	}
}

// delay waits for as long as the store takes.
func (s *testServer) delay(ctx context.Context, what string) {
	s.mu.Lock()
	d := time.Duration(s.rng.Int64N(int64(2 * time.Millisecond)))
	if s.suspendAt--; s.suspendAt == 0 && s.h.Failing() {
		d = s.suspendFor
		s.h.suspensions.Add(1)
		s.h.Note("server %d is suspended %s for %s", s.n, what, d.Round(time.Second))
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
func (s *testServer) Get(ctx context.Context, key string) (storage.Entry, error) {
	e, err := s.Store.Get(ctx, key)
	s.delay(ctx, "after a read")
	return e, err
}

// Commit commits. The server may be suspended before the commit.
func (s *testServer) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	s.delay(ctx, "before a commit")
	v, err := s.Store.Commit(ctx, b)
	select {
	case <-s.Crashed():
		s.signalDeath()
	default:
	}
	return v, err
}

// count counts a call, and reports whether the server dies at it.
func (s *testServer) count() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dieAt--
	return s.dieAt == 0 && s.h.Failing()
}
