package recipe

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// await asks for the state of the operation that a creating call began, until the operation has
// ended. A reply that the recipe classifies ends the waiting with that outcome. In any other case,
// the outcome is Unknown, because the operation may still create the key: the caller finds the key
// by its marker, as after a lost reply.
func (c *caller) await(ctx context.Context, p *pollStep, created *reply) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	vars := created.vars.with(scope{"created": created.vars["response"]})
	for {
		r, err := c.send(ctx, &p.step, vars)
		wait := p.interval
		if err == nil {
			var ended bool
			if ended, err = c.ended(p, r); ended {
				return r, err
			}
			wait = max(wait, retryAfter(r.header.Get("Retry-After"), time.Now()))
		} else if rotate.OutcomeOf(err) == rotate.Permanent { // no request was sent, or none will do
			return nil, c.failure(&p.step, rotate.Unknown, fault.KindOf(err), fault.Message(err), nil)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, c.failure(&p.step, rotate.Unknown, fault.Timeout,
				"the operation did not end within "+p.within.String()+"; the key is looked for in the list", err)
		}
	}
}

// ended reports whether a reply says that the operation has ended, or that it failed. If ended
// returns false, the error is the reason why the reply does not say so.
func (c *caller) ended(p *pollStep, r *reply) (bool, error) {
	ok, err := c.expected(&p.step, r)
	if ok && err == nil {
		return c.eval.boolean(p.until, r.vars, false)
	}
	if outcome, known := c.classified(&p.step, r); known {
		return true, c.unexpected(&p.step, r, outcome, err)
	}
	return false, c.unexpected(&p.step, r, rotate.Unknown, err)
}
