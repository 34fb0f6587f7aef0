package rotatetest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

var (
	histories = flag.Uint64("crashes", 0,
		"how many seeds TestCrashes plays; 0: as many as its package plays by itself")
	first = flag.Uint64("first", 0, "the first seed that TestCrashes plays")
)

// Play plays a history for each seed, and prints the seeds that fail.
func Play(t *testing.T, usual uint64, p Plan) {
	runs := *histories
	if runs == 0 {
		runs = usual
	}
	if testing.Short() || raceDetector {
		runs = min(runs, max(usual/4, 1))
	}
	var deaths, uses, stalls atomic.Int64
	var mu sync.Mutex
	var failed []uint64
	t.Cleanup(func() { // after all seeds
		if len(failed) > 0 {
			slices.Sort(failed)
			t.Logf("%d of %d histories failed: seeds %d", len(failed), runs, failed)
		}
		if n := int64(runs); n >= 10 && (deaths.Load() < n || stalls.Load() < n) {
			t.Errorf("servers died %d times and were suspended %d times in %d histories", deaths.Load(), stalls.Load(),
				n)
		}
		t.Logf("%d histories from seed %d: %d deaths, %d suspensions, %d uses", runs, *first, deaths.Load(),
			stalls.Load(), uses.Load())
	})
	for seed := *first; seed < *first+runs; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, seed, p)
				defer func() {
					h.end()
					deaths.Add(int64(h.deaths))
					uses.Add(int64(h.uses))
					stalls.Add(h.suspensions.Load())
					if t.Failed() {
						h.print()
						mu.Lock()
						failed = append(failed, seed)
						mu.Unlock()
					}
				}()
				h.play()
			})
		})
	}
}

func newHarness(t *testing.T, seed uint64, p Plan) *Harness {
	h := &Harness{T: t, Rand: rand.New(rand.NewPCG(seed, 1)), seed: seed, plan: p,
		store: shared{faulty.Quiet(memory.Open())}, readersDone: make(chan struct{})}
	for i := range h.servers {
		h.servers[i] = newTestServer(h, i)
	}
	h.subject = p.Subject(h)
	return h
}

func (h *Harness) print() {
	const most = 200
	journals := h.journals()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.notes[max(0, len(h.notes)-most):] {
		h.Log(line)
	}
	for _, line := range journals[max(0, len(journals)-2*most):] {
		h.Log(line)
	}
	h.Logf("run again: go test -run 'TestCrashes/^%d$' -first %d -crashes 1", h.seed, h.seed)
}

// play plays the history. It runs in a bubble.
func (h *Harness) play() {
	h.servers[0].start()
	h.subject.Begin()
	for _, r := range h.subject.Readers() {
		h.readers.Go(func() { h.read(r) })
	}
	h.failing.Store(true)
	for end := time.Now().Add(h.plan.Length); time.Now().Before(end) && !h.Failed(); {
		h.round()
	}
	h.recoverAll()
	h.checkEnd()
}

// round plans failures, lets users act, and lets time pass. It runs in a bubble.
func (h *Harness) round() {
	h.subject.Break()
	if s := h.servers[1]; !s.up() && h.Rand.IntN(2) == 0 {
		s.start()
	} else if s.up() && h.Rand.IntN(4) == 0 {
		h.Note("server 1 is stopped")
		s.stop()
	}
	for _, s := range h.servers {
		s.planFailure()
	}
	var acts sync.WaitGroup
	for range h.Rand.IntN(4) {
		s := h.servers[h.Rand.IntN(servers)]
		what, do := h.subject.Act(s.n)
		acts.Go(func() { s.serve(func() { h.Note("user of server %d: %s: %v", s.n, what, do()) }) })
		if h.Rand.IntN(2) == 0 { // one after the other, or at once
			h.pass(h.UpTo(time.Minute))
		}
	}
	h.pass(h.UpTo(h.plan.Round))
	acts.Wait()
	h.restartDead()
	if h.servers[0].up() {
		h.subject.Check(0)
		h.checkKnown()
	}
}

// pass lets time pass, and restarts servers that die meanwhile. It runs in a bubble.
func (h *Harness) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		timer := time.NewTimer(time.Until(end))
		select {
		case <-timer.C:
		case <-h.servers[0].died:
		case <-h.servers[1].died:
		}
		timer.Stop()
		h.restartDead()
	}
}

// restartDead restarts the servers that have died. It runs in a bubble.
func (h *Harness) restartDead() {
	for _, s := range h.servers {
		if !s.dead() {
			continue
		}
		s.stop()
		h.deaths++
		time.Sleep(h.UpTo(2 * time.Minute))
		if s.n == 0 || h.Rand.IntN(2) == 0 {
			s.start()
			h.subject.Check(s.n)
		}
	}
}

// recoverAll lets everything recover and finish, with one server. It runs in a bubble.
func (h *Harness) recoverAll() {
	h.failing.Store(false)
	h.subject.Heal()
	for _, s := range h.servers {
		s.stop()
	}
	h.Note("failures end")
	h.servers[0].start()
	h.subject.Check(0)
	h.checkKnown()
	time.Sleep(h.plan.Recovery)
	h.subject.Repair()
	synctest.Wait()
	close(h.readersDone)
	h.readers.Wait()
}

// read reads a credential and uses it, through whichever server is up. It runs in a bubble.
func (h *Harness) read(r Reader) {
	value := ""
	for n := 0; ; n++ {
		again, there := 10*time.Second, true
		h.servers[n%servers].serve(func() {
			for range 3 { // it may change between reading and using it
				var got string
				var at time.Duration
				began := time.Now()
				got, at, there = r.Read(n % servers)
				// nobody waits longer for a server that is suspended
				if there = there && time.Since(began) < 30*time.Second; !there {
					return
				}
				if value, again = got, at; r.Lasts || r.Works(value) {
					return
				}
			}
		})
		if !there {
			value = ""
		}
		if value != "" {
			h.checkUse(r, value, "when it was read")
		}
		if !r.Lasts {
			value = ""
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-h.readersDone:
			timer.Stop()
			return
		}
		if value != "" {
			h.checkUse(r, value, "before it was read again")
		}
	}
}

func (h *Harness) checkUse(r Reader, value, when string) {
	works := r.Works(value)
	h.mu.Lock()
	h.uses++
	h.mu.Unlock()
	if !works && !h.Failed() {
		h.Note("%s was refused with %s, %s", r.Name, value, when)
		h.Errorf("%s was refused with %s, %s", r.Name, value, when)
	}
}

// end stops everything that still runs.
func (h *Harness) end() {
	select {
	case <-h.readersDone:
	default:
		close(h.readersDone)
		h.readers.Wait()
	}
	for _, s := range h.servers {
		s.stop()
	}
}
