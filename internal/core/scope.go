package core

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
)

// A scope returns a context that ends with the unsealed scope: what a request begins must
// go on when its client hangs up, and must not go on when the server is sealed.
type scope func() (context.Context, context.CancelFunc)

// afterwardsWithin bounds the work that is done after an answer.
const afterwardsWithin = 30 * time.Second

// afterwards is the context of work that is done whether or not the client still
// waits: its request may have been given up, and often that is why.
func (s scope) afterwards() (context.Context, context.CancelFunc) {
	parent, end := s()
	ctx, cancel := context.WithTimeout(parent, afterwardsWithin)
	return ctx, func() { cancel(); end() }
}

// withoutPanic runs what an engine does where no request waits for it. A panic there
// is an error: one lease or key must not end the server, at each start anew.
// What was panicked with may hold a secret; its type is logged, and the stack.
func withoutPanic(log *slog.Logger, doing string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("an engine panicked", "doing", doing, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fault.New("core."+doing, fault.Internal, "the engine failed in a way that it should not; see the server's log, and report it")
		}
	}()
	return f()
}

// NewRequestID returns a new id for a request: a random UUID.
func NewRequestID() string { return mounts.NewUUID() }
