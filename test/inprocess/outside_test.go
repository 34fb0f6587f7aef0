package inprocess_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// Outcomes of a call to the target.
const (
	callsWork   = ""
	failsBefore = "before" // an error without effect
	failsAfter  = "after"  // an error with effect
	hangs       = "hang"   // until the deadline, without effect
	late        = "late"   // hangs until the deadline, and takes effect afterwards
)

// The duration of a create, and the delay of a late one.
const (
	outsideWithin = 5 * time.Second
	outsideLate   = 30 * time.Second
)

// outside is the target of engines of type "issuer". It survives restarts of the server.
type outside struct {
	mu     sync.Mutex
	alive  map[string]string // attempt → lease ID
	mode   string            // the outcome of the next create
	dead   bool              // revocations fail
	panics string            // the role whose revocation panics
	busy   bool              // work is in flight that nothing would finish without the mount
	// atPlan and atCreate, if set, are called once by the next request: before anything is stored,
	// and during the create.
	atPlan, atCreate func()
	// onLines, if set, decides whether the audit device "tape" accepts lines.
	onLines func(lines []byte) error
}

func newOutside() *outside { return &outside{alive: map[string]string{}} }

func (o *outside) next(mode string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mode = mode
}

func (o *outside) kill(dead bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = dead
}

func (o *outside) living() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.alive)
}

func (o *outside) call(hook *func()) {
	o.mu.Lock()
	f := *hook
	*hook = nil
	o.mu.Unlock()
	if f != nil {
		f()
	}
}

func (o *outside) put(a route.Attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alive[a.ID] = a.LeaseID
}

func (o *outside) create(ctx context.Context, a route.Attempt) error {
	o.mu.Lock()
	mode := o.mode
	o.mode = callsWork
	o.mu.Unlock()
	o.call(&o.atCreate)
	broken := fault.Wrap("outside", fault.Upstream, errors.New("broken"))
	switch mode {
	case failsBefore:
		return broken
	case failsAfter:
		o.put(a)
		return broken
	case hangs:
		<-ctx.Done()
		return broken
	case late:
		<-ctx.Done()
		time.AfterFunc(outsideLate/2, func() { o.put(a) })
		return broken
	}
	o.put(a)
	return nil
}

// issuerType is an engine whose leases are objects of the target.
func (o *outside) issuerType() engine.Type {
	return engine.Type{
		Name: "issuer",
		Open: func(context.Context, *engine.Mount) (engine.Engine, error) { return issuerEngine{o}, nil },
	}
}

type issuerEngine struct{ o *outside }

type issueIn struct {
	Role string        `path:"role"`
	TTL  time.Duration `json:"ttl"`
}

type issueOut struct {
	Attempt string `json:"attempt"`
}

// Unfinished implements the check for work in flight.
func (l issuerEngine) Unfinished(context.Context) error {
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	if l.o.busy {
		return fault.New("issuer", fault.Conflict, "a turn is in flight; wait for its end")
	}
	return nil
}

// Routes of the engine.
func (l issuerEngine) Routes() []route.Route {
	return []route.Route{route.Lease(route.Write, "creds/{role}",
		func(_ context.Context, _ *route.Request, in issueIn) (route.Plan, issueIn, error) {
			l.o.call(&l.o.atPlan)
			return route.Plan{
				Kind: "thing", Undo: in.Role, TTL: in.TTL, Renewable: true, Target: in.Role,
				CreateWithin: outsideWithin, Late: outsideLate,
			}, in, nil
		},
		func(ctx context.Context, a route.Attempt, _ issueIn) (*issueOut, error) {
			return &issueOut{a.ID}, l.o.create(ctx, a)
		})}
}

// Close has nothing to close.
func (issuerEngine) Close() error { return nil }

// Undo implements [engine.Undoer].
func (l issuerEngine) Undo(_ context.Context, u engine.Undo) (engine.Undone, error) {
	l.o.mu.Lock()
	defer l.o.mu.Unlock()
	var role string
	if err := json.Unmarshal(u.Data, &role); err != nil {
		return engine.Undone{}, err
	}
	if role == l.o.panics {
		panic(role)
	}
	if l.o.dead {
		return engine.Undone{}, fault.Wrap("outside", fault.Upstream, errors.New("dead"))
	}
	delete(l.o.alive, u.Attempt)
	if !u.Granted && time.Now().Before(u.Late) {
		return engine.Undone{Again: u.Late}, nil
	}
	return engine.Undone{}, nil
}

// Renew implements [engine.Undoer].
func (l issuerEngine) Renew(context.Context, engine.Undo, time.Time) error { return nil }

// Bounds implements [engine.Undoer].
func (l issuerEngine) Bounds(context.Context, engine.Undo) (time.Duration, time.Duration, error) {
	return 0, 0, nil
}

// tapeType is an audit device that stores nothing.
func (o *outside) tapeType() audit.Type {
	return audit.Type{Name: "tape", Open: func(audit.Config) (audit.Device, error) { return tape{o}, nil }}
}

type tape struct{ o *outside }

// Tail implements [audit.Device].
func (tape) Tail() (audit.Tail, error) { return audit.Tail{}, nil }

// Write implements [audit.Device].
func (d tape) Write(_ context.Context, lines []byte) error {
	d.o.mu.Lock()
	on := d.o.onLines
	d.o.mu.Unlock()
	if on != nil {
		return on(lines)
	}
	return nil
}

// Reopen implements [audit.Device].
func (tape) Reopen() error { return nil }

// Close implements [audit.Device].
func (tape) Close() error { return nil }
