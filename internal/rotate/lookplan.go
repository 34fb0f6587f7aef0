package rotate

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/storage"
)

// Looks at what consumers read: once a day, and more often while it is not known whether it lives.
const (
	dailyLook   = 24 * time.Hour
	firstLook   = time.Minute
	longestLook = time.Hour
	quietLooks  = 4 // after so many that have failed, an alert stands: the value may be one that can never be tried
	// sureLooks is how often in a row the provider refuses the current credential until that is an
	// alert.
	sureLooks = 2
)

// planLook plans the next look, ever later.
func (r *Record) planLook(now time.Time) {
	r.Looks++
	r.Look = now.Add(cron.Backoff(r.Looks, firstLook, longestLook))
}

// endLooks ends the looks that a doubt has caused: it is known what consumers read. The next one
// is that of another day: somebody may delete at the provider the credential that they read. Each
// record has its own time, so that they never come at once.
func endLooks(e *Edit) {
	r := e.Rec
	r.Look, r.Looks, r.Wrote = time.Time{}, 0, ""
	if e.kind.Place != nil && r.Current != nil && (e.target == nil || e.can.Proof != ProofNone) {
		r.Look = e.Now.Add(dailyLook + rand.N(dailyLook/4))
	}
}

// doubted reports whether it is not known what consumers read, or whether that lives.
func (r *Record) doubted() bool {
	return r.Turn == nil && !r.Look.IsZero() && (r.Looks > 0 || r.Wrote != "")
}

// onlyLooks reports whether nothing else is due than the look of the day.
func onlyLooks(e *Edit) bool {
	r := e.Rec
	at := later(r.Next, r.Retry)
	return r.Turn == nil && r.Queued == nil && !r.Look.IsZero() && r.Looks == 0 && r.Wrote == "" && (at.IsZero() || at.After(e.Now))
}

// unlooked has a rotation that ends look at what was written while it was at work and that nobody
// has judged. The operations assert that there is nothing more of that.
func unlooked(ctx context.Context, e *Edit) ([]storage.Op, error) {
	if e.kind.Unjudged == "" {
		return nil, nil
	}
	key := e.kind.Unjudged + e.Rec.Name
	mark, err := e.m.cfg.Store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case mark.Version == 0:
		return []storage.Op{storage.Expect(key, 0)}, nil
	}
	e.Rec.Look, e.Rec.Wrote = e.Now, string(mark.Value)
	return []storage.Op{storage.Remove(key).If(mark.Version)}, nil
}
