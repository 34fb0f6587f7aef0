package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// Limits on writes by hand. The limits apply to values that only the provider can check. A key
// that is recorded as current is written without a call.
const (
	handCalls = 20              // calls to the provider at once
	handEvery = 3 * time.Minute // the time until one more is allowed
	// countEvery is how often a refused write without a call to the provider is counted.
	// journalEvery is how often refused writes are journaled.
	countEvery   = time.Minute
	journalEvery = 10 * time.Minute
)

// spend takes one call to the provider from the budget of writes by hand, or returns how long to
// wait for one. The caller commits that before the call.
func (r *Record) spend(now time.Time) (wait time.Duration) {
	const most = (handCalls - 1) * handEvery
	h := r.handWrites()
	free := earlier(later(h.Free, now), now.Add(most+handEvery)) // even if the clock was wrong before
	if ahead := free.Sub(now); ahead > most {
		return ahead - most
	}
	h.Free = free.Add(handEvery).Round(0)
	return 0
}

func (r *Record) handWrites() *HandWrites {
	if r.HandWrites == nil {
		r.HandWrites = new(HandWrites)
	}
	return r.HandWrites
}

// storeThrottled handles a write of a value that may not be tried now. A forced write is stored
// untried.
func storeThrottled(w *placeWrite, wait time.Duration) error {
	why := fmt.Sprintf(
		"the secret was written at least %d times in the last hour with values that had to be tested at the provider",
		handCalls)
	if !w.o.Force {
		w.refused = true
		return fault.New("rotate.Overwrite", fault.Unavailable,
			"nothing was written: %s; try again in %s, or write it untested with -force (options.force in the API)",
			why, Rough(wait))
	}
	w.e.Rec.Look.By = w.o.by()
	w.e.Rec.planLook(w.e.Now)
	w.e.Rec.Look.At = later(w.e.Rec.Look.At, w.e.Now.Add(wait))
	w.e.alertPlace(aboutWrite(w), "the published secret holds a value, written by %s, that was not tested at the "+
		"provider: %s; find out who writes it; write the right value, or %s", w.o.by(), why, adviceWorking(w.e))
	w.o.Warn("it was written, but whether that key works was not checked: %s", why)
	return w.store("unchecked", w.e.unchangedDue())
}

// tryCounted asks the provider to verify a credential that somebody has given. The call is
// counted in the record before it is made, so that the limit holds across servers. answer is the
// provider's answer. If wait is not zero or err is not nil, no call was made.
func tryCounted(ctx, short context.Context, e *Edit, c Credential) (wait time.Duration, answer, err error) {
	if wait = e.Rec.spend(e.Now); wait > 0 {
		return wait, nil, nil
	}
	if err := e.Commit(ctx, callCounted, e.unchangedDue()); err != nil {
		return 0, nil, err
	}
	answer = e.target.Verify(short, c)
	e.Now = time.Now().UTC()
	return 0, answer, nil
}

// verifyCounted is tryCounted for a write by hand. stopped means that no call was made.
func verifyCounted(ctx, short context.Context, w *placeWrite, c Credential) (answer error, stopped bool, err error) {
	wait, answer, err := tryCounted(ctx, short, w.e, c)
	switch {
	case wait > 0:
		return nil, true, storeThrottled(w, wait)
	case err != nil:
		return nil, true, err
	}
	w.calledProvider = true
	return answer, false, nil
}

// countRefused counts a refused write. Writes that made no call to the provider are counted at
// most once per countEvery, so that a client that writes endlessly does not make the commits of
// the record's rotation fail.
func (m *Manager) countRefused(ctx context.Context, k *Kind, name, by string, asked bool) error {
	var err error
	for range 5 {
		var e *Edit
		e, err = m.load(ctx, k, name)
		if err != nil || e == nil || e.Rec.Gone || e.creatingElsewhere() || e.Rec.CallUntil.After(e.Now) {
			return err
		}
		h := e.Rec.handWrites()
		if !asked && e.Now.Sub(h.Last).Abs() < countEvery {
			return nil
		}
		h.Refused, h.By, h.Last = h.Refused+1, by, e.Now.Round(0)
		what := refusalCounted
		if e.Now.Sub(h.Journaled).Abs() >= journalEvery {
			what = "refused-writes"
			e.addDetail("by", by)
			e.addDetail("refused", fmt.Sprint(h.Refused-h.JournaledCount))
			h.Journaled, h.JournaledCount = e.Now.Round(0), h.Refused
		}
		err = e.Commit(ctx, what, e.unchangedDue())
		if err == nil && what != refusalCounted {
			m.cfg.Log.Warn("writes of a published secret are refused", "path",
				m.cfg.Mount()+k.Path(requestName(k, e.Rec)), "by", by, "refused", h.Refused)
		}
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}
