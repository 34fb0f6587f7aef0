// Package rotatetest tests rotation end to end, for any engine. [Play] runs seeded histories of a
// mount, [Targets] is the suite for every target, and [Lessons] is the suite for what users rely
// on.
//
// In a history, two servers have the mount open over one store. Each server dies before, between
// and after its commits and its calls, and starts again. Each server is suspended between reading
// a record and committing it. Commits fail, stored or not. The provider fails in the ways that
// the [Subject] implements. Users make requests to both servers. Readers use what they read. One
// file checks the invariants: before each call, after each round, and at the end (judge.go).
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

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// servers is how many servers have the mount open.
const servers = 2

// A Subject is a mount of an engine with its provider. Its methods run in a bubble. Methods that
// a request or a reader calls are safe for concurrent use. The goroutine that plays the history
// calls the rest.
type Subject interface {
	// Open opens the mount, as a starting server does. A server is opened again after it was
	// stopped.
	Open(server int, store storage.Store)
	Stop(server int)

	// Begin configures the mount through server 0.
	Begin()
	// Act chooses an action of a user. Actions may run concurrently.
	Act(server int) (what string, do func() error)
	// Break plans some failures of the provider; Heal cancels those that have not happened yet.
	Break()
	Heal()
	// Readers returns the readers of the credentials that rotate.
	Readers() []Reader
	// Check checks what must always hold. Check is also called after the first server has
	// restarted.
	Check(server int)
	// Mend does through server 0 what a person does after reading the alerts, once the failures
	// have ended.
	Mend()

	// Live returns the credentials at the provider, except those that users of the mount made
	// themselves.
	Live() []Live
	// Shown returns everything that users, logs and events show, and the secrets that must not be
	// in it.
	Shown() (text string, secrets []string)
}

// A Live is a credential at the provider that works.
type Live struct {
	ID    string
	Label string // the marker, where there are labels
	Value string // in place of an ID, where the account stays and its secret changes
}

// A Reader reads a credential, and uses it until it reads again.
type Reader struct {
	Name string
	// Read returns a value and when to read again. ok is false if nothing says that the value
	// works.
	Read func(server int) (value string, again time.Duration, ok bool)
	// Works uses a value that was read, and reports whether it works.
	Works func(value string) bool
	// Lasts means that the value works until the next read is due. Otherwise it need only work
	// when it is read.
	Lasts bool
}

// A Plan sets the length of the histories and their parts.
type Plan struct {
	Subject func(h *Harness) Subject
	Rows    []Rows        // of the kinds that the mount has
	Length  time.Duration // of the part in which things fail
	Round   time.Duration // between two orders of failures, at most
	Calm    time.Duration // after which all has come to an end that had begun
	Uses    int           // that readers make at least
}

// Rows are the prefixes of a kind's rows, on absolute keys.
type Rows struct{ Records, Secrets, History, Journal string }

var (
	histories = flag.Uint64("crashes", 0, "how many seeds TestCrashes plays; 0: as many as its package plays by itself")
	first     = flag.Uint64("first", 0, "the first seed that TestCrashes plays")
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
			t.Errorf("servers died %d times and were suspended %d times in %d histories", deaths.Load(), stalls.Load(), n)
		}
		t.Logf("%d histories from seed %d: %d deaths, %d suspensions, %d uses", runs, *first, deaths.Load(), stalls.Load(), uses.Load())
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
					stalls.Add(h.stalls.Load())
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

// A Harness plays one history.
type Harness struct {
	*testing.T
	// Rand is used only by the goroutine that plays.
	Rand *rand.Rand

	seed    uint64
	plan    Plan
	subject Subject
	store   storage.Store // what both servers have
	seats   [servers]*seat
	wild    atomic.Bool // things fail
	stalls  atomic.Int64
	deaths  int
	readers sync.WaitGroup
	rest    chan struct{} // closed when readers end

	mu            sync.Mutex // guards the rest
	barrier       *barrier.Barrier
	story         []string
	uses, refused int
}

func newHarness(t *testing.T, seed uint64, p Plan) *Harness {
	h := &Harness{T: t, Rand: rand.New(rand.NewPCG(seed, 1)), seed: seed, plan: p, store: shared{faulty.Quiet(memory.Open())}, rest: make(chan struct{})}
	for i := range h.seats {
		h.seats[i] = newSeat(h, i)
	}
	h.subject = p.Subject(h)
	return h
}

// Tell adds a line to the story, which is printed if the history fails.
func (h *Harness) Tell(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.story = append(h.story, time.Now().Format(clock)+" "+fmt.Sprintf(format, args...))
}

// Complain is Errorf, and adds the error to the story.
func (h *Harness) Complain(format string, args ...any) {
	h.Tell(format, args...)
	h.Errorf(format, args...)
}

func (h *Harness) print() {
	const most = 200
	journals := h.journals()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.story[max(0, len(h.story)-most):] {
		h.Log(line)
	}
	for _, line := range journals[max(0, len(journals)-2*most):] {
		h.Log(line)
	}
	h.Logf("again: go test -run 'TestCrashes/^%d$' -first %d -crashes 1", h.seed, h.seed)
}

// UpTo returns a random duration below d.
func (h *Harness) UpTo(d time.Duration) time.Duration { return time.Duration(h.Rand.Int64N(int64(d))) }

// One returns a random element of of.
func One[T any](h *Harness, of ...T) T { return of[h.Rand.IntN(len(of))] }

// Wild reports whether things still fail. At the end of the history nothing fails.
func (h *Harness) Wild() bool { return h.wild.Load() }

// play plays the history. It runs in a bubble.
func (h *Harness) play() {
	h.seats[0].start()
	h.subject.Begin()
	for _, r := range h.subject.Readers() {
		h.readers.Go(func() { h.read(r) })
	}
	h.wild.Store(true)
	for end := time.Now().Add(h.plan.Length); time.Now().Before(end) && !h.Failed(); {
		h.round()
	}
	h.calm()
	h.judge()
}

// round plans failures, lets users act, and lets time pass. It runs in a bubble.
func (h *Harness) round() {
	h.subject.Break()
	if s := h.seats[1]; !s.up() && h.Rand.IntN(2) == 0 {
		s.start()
	} else if s.up() && h.Rand.IntN(4) == 0 {
		h.Tell("server 1 is stopped")
		s.stop()
	}
	for _, s := range h.seats {
		s.arm()
	}
	var acts sync.WaitGroup
	for range h.Rand.IntN(4) {
		s := h.seats[h.Rand.IntN(servers)]
		what, do := h.subject.Act(s.n)
		acts.Go(func() { s.use(func() { h.Tell("user of server %d: %s: %v", s.n, what, do()) }) })
		if h.Rand.IntN(2) == 0 { // one after the other, or at once
			h.pass(h.UpTo(time.Minute))
		}
	}
	h.pass(h.UpTo(h.plan.Round))
	acts.Wait()
	h.revive()
	if h.seats[0].up() {
		h.subject.Check(0)
		h.explained()
	}
}

// pass lets time pass, and restarts servers that die meanwhile. It runs in a bubble.
func (h *Harness) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		timer := time.NewTimer(time.Until(end))
		select {
		case <-timer.C:
		case <-h.seats[0].died:
		case <-h.seats[1].died:
		}
		timer.Stop()
		h.revive()
	}
}

// revive restarts the servers that have died. It runs in a bubble.
func (h *Harness) revive() {
	for _, s := range h.seats {
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

// calm lets everything recover and finish, with one server. It runs in a bubble.
func (h *Harness) calm() {
	h.wild.Store(false)
	h.subject.Heal()
	for _, s := range h.seats {
		s.stop()
	}
	h.Tell("calm")
	h.seats[0].start()
	h.subject.Check(0)
	h.explained()
	time.Sleep(h.plan.Calm)
	h.subject.Mend()
	synctest.Wait()
	close(h.rest)
	h.readers.Wait()
}

// read reads a credential and uses it, through whichever server is up. It runs in a bubble.
func (h *Harness) read(r Reader) {
	value := ""
	for n := 0; ; n++ {
		again, there := 10*time.Second, true
		h.seats[n%servers].use(func() {
			for range 3 { // it may change between reading and using it
				var got string
				var at time.Duration
				began := time.Now()
				got, at, there = r.Read(n % servers)
				if there = there && time.Since(began) < 30*time.Second; !there { // nobody waits longer for a server that is suspended
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
			h.used(r, value, "when it was read")
		}
		if !r.Lasts {
			value = ""
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-h.rest:
			timer.Stop()
			return
		}
		if value != "" {
			h.used(r, value, "before it was read again")
		}
	}
}

func (h *Harness) used(r Reader, value, when string) {
	works := r.Works(value)
	h.mu.Lock()
	h.uses++
	h.mu.Unlock()
	if !works && !h.Failed() {
		h.Tell("%s was refused with %s, %s", r.Name, value, when)
		h.Errorf("%s was refused with %s, %s", r.Name, value, when)
	}
}

// end stops everything that still runs.
func (h *Harness) end() {
	select {
	case <-h.rest:
	default:
		close(h.rest)
		h.readers.Wait()
	}
	for _, s := range h.seats {
		s.stop()
	}
}
