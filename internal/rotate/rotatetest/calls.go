package rotatetest

import (
	"errors"

	"github.com/keyturn/keyturn/internal/fault"
)

// errDied is the error of a call during which the server died.
var errDied = errors.New("rotatetest: the server has died")

// Call makes a server's call to the outside. The call is checked before it is made, and the server
// may die before or after it.
func (h *Harness) Call(server int, c Call, do func()) error {
	s := h.servers[server]
	dies := s.count()
	if dies && !s.dieAfter {
		s.kill("before " + c.What + " " + c.ID)
	}
	select {
	case <-s.Crashed():
		return errDied // a dead server does nothing
	default:
	}
	h.checkCall(server, c)
	life := s.Crashed()
	do()
	if !dies {
		return nil
	}
	select {
	case <-life: // the server was stopped during the call; the restarted one does not die
	default:
		s.kill("after " + c.What + " " + c.ID)
	}
	return errDied
}

// Between returns a function to call between two steps of a request. The server may die there.
func (h *Harness) Between(server int) func(step string) error {
	return func(step string) error { return h.Call(server, Call{What: step}, func() {}) }
}

// Refuse returns nil, or sometimes the error of a dependency other than the provider, such as the
// audit log.
func (h *Harness) Refuse(server int, what string) error {
	s := h.servers[server]
	s.mu.Lock()
	strikes := s.rng.IntN(50) == 0 && h.Failing()
	s.mu.Unlock()
	if !strikes {
		return nil
	}
	h.Note("server %d: %s is refused", server, what)
	return fault.New("rotatetest", fault.Unavailable, "%s: an injected failure", what)
}
