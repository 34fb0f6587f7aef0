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

// A scope returns a context that ends when the server is sealed. Work that a request has begun
// uses it, because it must continue when the client hangs up, and must end when the server is
// sealed.
type scope func() (context.Context, context.CancelFunc)

// afterwardsWithin limits the work that is done after an answer.
const afterwardsWithin = 30 * time.Second

// afterwards returns a context for work that must be done even if the client has hung up, which is
// often the reason for that work.
func (s scope) afterwards() (context.Context, context.CancelFunc) {
	parent, end := s()
	ctx, cancel := context.WithTimeout(parent, afterwardsWithin)
	return ctx, func() { cancel(); end() }
}

// withoutPanic runs background work of an engine, and turns a panic into an error, because one
// lease or key must not end the server at every start. It logs only the type of the panic's value,
// which may contain a secret, and the stack.
func withoutPanic(log *slog.Logger, doing string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("an engine panicked", "doing", doing, "type", fmt.Sprintf("%T", p), "stack",
				string(debug.Stack()))
			err = fault.New("core."+doing, fault.Internal,
				"the engine failed in a way that it should not; see the server's log, and report it")
		}
	}()
	return f()
}

// NewRequestID returns a random UUID.
func NewRequestID() string { return mounts.NewUUID() }
