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
	handTries = 20              // calls to the provider at once
	handEvery = 3 * time.Minute // and one more each
	// countEvery is how often a refused write without a call to the provider is counted.
	// tellEvery is how often refused writes are journaled.
	countEvery = time.Minute
	tellEvery  = 10 * time.Minute
)

// spend takes one call to the provider from the budget of writes by hand, or returns how long to
// wait for one. The caller commits that before the call.
func (r *Record) spend(now time.Time) (wait time.Duration) {
	const most = (handTries - 1) * handEvery
	h := r.hand()
	free := earlier(later(h.Free, now), now.Add(most+handEvery)) // whatever the clock was before
	if ahead := free.Sub(now); ahead > most {
		return ahead - most
	}
	h.Free = free.Add(handEvery).Round(0)
	return 0
}

func (r *Record) hand() *Hand {
	if r.Hand == nil {
		r.Hand = new(Hand)
	}
	return r.Hand
}

// throttled handles a write of a value that may not be tried now. A forced write is stored
// untried.
func throttled(j *judgement, wait time.Duration) error {
	why := fmt.Sprintf("its place was written %d times and more in the last hour with values that had to be tried at the provider", handTries)
	if !j.o.Force {
		j.refused = true
		return fault.New("rotate.Overwrite", fault.Unavailable, "nothing was written: %s; try again in %s, or write it untested with -force (options.force in the API)", why, Rough(wait))
	}
	j.e.Rec.Look.By = j.o.by()
	j.e.Rec.planLook(j.e.Now)
	j.e.Rec.Look.At = later(j.e.Rec.Look.At, j.e.Now.Add(wait))
	j.e.astray(aboutWrite(j), "its place holds a value, written by %s, that was not tried at the provider: %s; find who writes it; write the right one, or %s", j.o.by(), why, instead(j.e))
	j.o.Warn("it was written, but whether that key works was not checked: %s", why)
	return j.store("unchecked", j.e.unmoved())
}

// askFor asks the provider to verify a credential. The call is counted in the record before it is
// made, so that the limit holds across servers. answer is the provider's answer; stop means that
// no call was made.
func askFor(ctx, short context.Context, j *judgement, c Credential) (answer error, stop bool, err error) {
	if wait := j.e.Rec.spend(j.e.Now); wait > 0 {
		return nil, true, throttled(j, wait)
	}
	if err := j.e.Commit(ctx, tries, j.e.unmoved()); err != nil {
		return nil, true, err
	}
	j.asked = true
	answer = j.e.target.Verify(short, c)
	j.e.Now = time.Now().UTC()
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
		if err != nil || e == nil || e.Rec.Gone || e.creating() || e.Rec.Calling.After(e.Now) {
			return err
		}
		h := e.Rec.hand()
		if !asked && e.Now.Sub(h.Last).Abs() < countEvery {
			return nil
		}
		h.Refused, h.By, h.Last = h.Refused+1, by, e.Now.Round(0)
		what := refusal
		if e.Now.Sub(h.Told).Abs() >= tellEvery {
			what = "refused-writes"
			e.Say("by", by)
			e.Say("refused", fmt.Sprint(h.Refused-h.ToldOf))
			h.Told, h.ToldOf = e.Now.Round(0), h.Refused
		}
		err = e.Commit(ctx, what, e.unmoved())
		if err == nil && what != refusal {
			m.cfg.Log.Warn("writes of what consumers of a rotated key read are refused", "path", m.cfg.Mount()+k.Path(called(k, e.Rec)), "by", by, "refused", h.Refused)
		}
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}
