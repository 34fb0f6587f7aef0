// Package rotatetest proves what rotates. [Play] runs seeded histories of a mount, whichever
// engine's, [Targets] is the suite of every target, and [Lessons] that of what users rely on.
//
// In a history two servers have the mount open over one store. Each of them dies before, between
// and after its commits and its calls, is suspended between reading a record and committing it,
// and starts again; commits fail, stored or not; the provider fails as the [Subject] knows to
// make it; users make requests of both servers; readers use what they read. The invariants are
// judged in one place: before each call, after each round, and at the end (judge.go).
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

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// servers is how many have the mount open.
const servers = 2

// A Subject is a mount of an engine with its provider. Its methods run in a bubble. Those that a
// request or a reader calls are safe for concurrent use; the rest are called by the one goroutine
// that plays.
type Subject interface {
	// Open opens the mount, as a server does that starts. A server is opened again after it was
	// stopped.
	Open(server int, store storage.Store)
	Stop(server int)

	// Begin configures the mount by server 0.
	Begin()
	// Act chooses something that a user does, which may be done at the same time as others.
	Act(server int) (what string, do func() error)
	// Break orders some failures of the provider, and Heal takes back what has not happened.
	Break()
	Heal()
	// Readers are who uses what rotates.
	Readers() []Reader
	// Check looks at what is always so, after the first server has started again, too.
	Check(server int)
	// Mend does by server 0 what a person does who reads the alerts, once all is well.
	Mend()

	// Live are the credentials at the provider that users of the mount have not made themselves.
	Live() []Live
	// Shown is all that users, logs and events show, in which there is no secret of these.
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
	// Read returns what works now, and when to read again; not ok, where nobody says that it
	// works.
	Read func(server int) (value string, again time.Duration, ok bool)
	// Works uses a value that was read.
	Works func(value string) bool
	// Lasts: the value works until it is to be read again. Otherwise it works when it is read.
	Lasts bool
}

// A Plan is how long histories are.
type Plan struct {
	Subject func(h *Harness) Subject
	Rows    []Rows        // of the kinds that the mount has
	Length  time.Duration // of the part in which things fail
	Round   time.Duration // between two orders of failures, at most
	Calm    time.Duration // after which all has come to an end that had begun
	Uses    int           // that readers make at least
}

// Rows are the prefixes of a kind, on absolute keys.
type Rows struct{ Records, Secrets, History, Journal string }

var (
	histories = flag.Uint64("crashes", 0, "how many seeds TestCrashes plays; 0: as many as its package plays by itself")
	first     = flag.Uint64("first", 0, "the first seed that TestCrashes plays")
)

// Play plays a history for each seed. Those of seeds that fail are printed.
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

// A Harness is one history.
type Harness struct {
	*testing.T
	// Rand is used by the one goroutine that plays.
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
	h.story = append(h.story, time.Now().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// Complain is Errorf, which is also told.
func (h *Harness) Complain(format string, args ...any) {
	h.Tell(format, args...)
	h.Errorf(format, args...)
}

func (h *Harness) print() {
	h.mu.Lock()
	defer h.mu.Unlock()
	const most = 200
	for _, line := range h.story[max(0, len(h.story)-most):] {
		h.Log(line)
	}
	h.Logf("again: go test -run 'TestCrashes/^%d$' -first %d -crashes 1", h.seed, h.seed)
}

// UpTo is a random time below d.
func (h *Harness) UpTo(d time.Duration) time.Duration { return time.Duration(h.Rand.Int64N(int64(d))) }

// One is a random one of some.
func One[T any](h *Harness, of ...T) T { return of[h.Rand.IntN(len(of))] }

// Wild reports whether things fail yet: at the end they do not.
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

// round orders failures, has users act, and lets time pass. It runs in a bubble.
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

// pass lets time pass, in which servers that die are started again. It runs in a bubble.
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

// revive starts the servers again that have died. It runs in a bubble.
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

// calm lets everything heal and come to its end, with one server. It runs in a bubble.
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

// read reads a credential and uses it, by whichever server answers. It runs in a bubble.
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

// end stops what still runs.
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
