package inprocess_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
)

// Outcomes of a call to the target.
const (
	callsWork   = ""
	failsBefore = "before" // an error without effect
	failsAfter  = "after"  // an error with effect
	hangs       = "hang"   // until the deadline, without effect
	late        = "late"   // hangs until the deadline, and takes effect afterwards
)

// outsideLate is the delay of a late create.
const outsideLate = 15 * time.Second

// outside is the target of engines of type "issuer". It survives restarts of the server.
type outside struct {
	*outsidetest.Things
	tape *outsidetest.Tape

	mu     sync.Mutex
	mode   string // the outcome of the next create
	dead   bool   // revocations fail
	panics string // the role whose revocation panics
	// atPlan and atCreate, if set, are called once by the next request: before anything is stored,
	// and during the create.
	atPlan, atCreate func()
}

func newOutside() *outside {
	o := &outside{Things: new(outsidetest.Things), tape: new(outsidetest.Tape)}
	o.OnPlan(func() { o.call(&o.atPlan) })
	o.OnCreate(o.create)
	o.OnUndo(o.undo)
	return o
}

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

func (o *outside) call(hook *func()) {
	o.mu.Lock()
	f := *hook
	*hook = nil
	o.mu.Unlock()
	if f != nil {
		f()
	}
}

func (o *outside) create(ctx context.Context, create func()) error {
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
		create()
		return broken
	case hangs:
		<-ctx.Done()
		return broken
	case late:
		<-ctx.Done()
		time.AfterFunc(outsideLate, create)
		return broken
	}
	create()
	return nil
}

func (o *outside) undo(role string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if role == o.panics {
		panic(role)
	}
	if o.dead {
		return fault.Wrap("outside", fault.Upstream, errors.New("dead"))
	}
	return nil
}

// issuerType is an engine whose leases are objects of the target.
func (o *outside) issuerType() engine.Type {
	t := o.Type()
	t.Name = "issuer"
	return t
}
