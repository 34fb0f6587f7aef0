// Package rotatetest tests rotation end to end, for any engine. [Play] runs seeded histories of a
// mount, [Targets] is the suite for every target, and [Lessons] is the suite for what users rely
// on.
//
// In a history, two servers have the mount open over one store. Each server dies before, between
// and after its commits and its calls, and starts again. Each server is suspended between reading
// a record and committing it. Commits fail, stored or not. The provider fails in the ways that
// the [Subject] implements. Users make requests to both servers. Readers use what they read. One
// file checks the invariants: before each call, after each round, and at the end (invariants.go).
package rotatetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
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
	// Repair does through server 0 what a person does after reading the alerts, once the failures
	// have ended.
	Repair()

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
	Subject  func(h *Harness) Subject
	Rows     []Rows        // of the kinds that the mount has
	Length   time.Duration // of the part with failures
	Round    time.Duration // the longest time between two plans of failures
	Recovery time.Duration // after which everything that was begun has ended
	Uses     int           // the fewest uses that readers make
}

// Rows are the prefixes of a kind's rows, on absolute keys.
type Rows struct{ Records, Secrets, History, Journal string }

// A Call is a call that a server makes to the outside.
type Call struct {
	What  string // "create", "retire", "disable", "set"; any other one changes no credential
	ID    string // of the credential, or the marker of one that is created
	Value string // that is set
}

// A Harness plays one history.
type Harness struct {
	*testing.T
	// Rand is used only by the goroutine that plays.
	Rand *rand.Rand

	seed        uint64
	plan        Plan
	subject     Subject
	store       storage.Store // the store of both servers
	servers     [servers]*testServer
	failing     atomic.Bool // failures happen
	suspensions atomic.Int64
	deaths      int
	readers     sync.WaitGroup
	readersDone chan struct{} // closed when readers end

	mu      sync.Mutex // guards the rest
	barrier *barrier.Barrier
	notes   []string
	uses    int
}

// A testServer is one server: its view of the store, and when it dies or is suspended. Its store
// is slightly slow, so that simultaneous actions of two servers have an order, which the seed
// decides.
type testServer struct {
	*faulty.Store
	h    *Harness
	n    int
	died chan struct{} // signals that it dies

	users sync.WaitGroup // requests and readers in progress

	mu         sync.Mutex // guards the rest
	rng        *rand.Rand
	opened     bool
	dieAt      int           // the call at which it dies, counted down; 0: at none
	dieAfter   bool          // after the call instead of before it
	suspendAt  int           // the read or commit before which it is suspended, counted down; 0: none
	suspendFor time.Duration // how long it is suspended
}

// Note adds a line to the notes, which are printed if the history fails.
func (h *Harness) Note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, time.Now().Format(clock)+" "+fmt.Sprintf(format, args...))
}

// clock is the form of times in the notes. A history begins on the first of January 2000.
const clock = "02 15:04:05.000"

// NoteError is Errorf, and adds the error to the notes.
func (h *Harness) NoteError(format string, args ...any) {
	h.Note(format, args...)
	h.Errorf(format, args...)
}

// UpTo returns a random duration below d.
func (h *Harness) UpTo(d time.Duration) time.Duration { return time.Duration(h.Rand.Int64N(int64(d))) }

// Pick returns a random element of of.
func Pick[T any](h *Harness, of ...T) T { return of[h.Rand.IntN(len(of))] }

// Failing reports whether failures still happen. At the end of the history nothing fails.
func (h *Harness) Failing() bool { return h.failing.Load() }

// Barrier returns the decrypted store, without the failures that servers see.
func (h *Harness) Barrier() *barrier.Barrier {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.barrier == nil {
		b, err := barrier.Open(context.Background(), h.store, secret.New(make([]byte, barrier.RootKeySize)))
		if err != nil {
			h.Fatal(err)
		}
		h.barrier = b
	}
	return h.barrier
}

func (h *Harness) view() *barrier.View { return h.Barrier().View("") }
