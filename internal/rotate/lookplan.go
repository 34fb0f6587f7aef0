package rotate

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/storage"
)

// A look reads what consumers read and checks it. Looks come once a day, and more often while it
// is unknown whether that credential works.
const (
	dailyLook   = 24 * time.Hour
	firstLook   = time.Minute
	longestLook = time.Hour
	// looksBeforeAlert is how many looks must fail before an alert is raised. The value may be
	// one that can never be tried.
	looksBeforeAlert = 4
	// refusalsBeforeAlert is how often in a row the provider must refuse the current credential
	// before an alert is raised.
	refusalsBeforeAlert = 2
)

// planLook plans the next look, with back-off.
func (r *Record) planLook(now time.Time) {
	r.Look.Failed++
	r.Look.At = now.Add(cron.Backoff(r.Look.Failed, firstLook, longestLook))
}

// endLooks ends the extra looks, because it is known what consumers read. The next look comes a
// day later, because somebody may delete the credential at the provider. Each record has its own
// time, so that looks do not all come at once.
func endLooks(e *Edit) {
	r := e.Rec
	r.Look = Look{}
	if e.kind.Place != nil && r.Current != nil && (e.target == nil || e.can.Proof != ProofNone) {
		r.Look.At = e.Now.Add(dailyLook + rand.N(dailyLook/4))
	}
}

// inDoubt reports whether it is unknown what consumers read, or whether that credential works.
func (r *Record) inDoubt() bool {
	return r.Turn == nil && !r.Look.At.IsZero() && (r.Look.Failed > 0 || r.Look.By != "")
}

// onlyLooks reports whether nothing is due except the daily look.
func onlyLooks(e *Edit) bool {
	r := e.Rec
	at := later(r.Next, r.Retry)
	return r.Turn == nil && r.Queued == nil && !r.Look.At.IsZero() && r.Look.Failed == 0 && r.Look.By == "" &&
		(at.IsZero() || at.After(e.Now))
}

// planOwedLook plans a look at the end of a rotation, if somebody wrote the place during the
// rotation and nothing has checked that write. The returned operations assert that no further
// write came in between.
func planOwedLook(ctx context.Context, e *Edit) ([]storage.Op, error) {
	if e.kind.Unchecked == "" {
		return nil, nil
	}
	key := e.kind.Unchecked + e.Rec.Name
	mark, err := e.m.cfg.Store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case mark.Version == 0:
		return []storage.Op{storage.Expect(key, 0)}, nil
	}
	e.Rec.Look.At, e.Rec.Look.By = e.Now, string(mark.Value)
	e.Rec.Journaled = maxJournal + trimmed // the rows of such writes are not counted: read the journal now
	return []storage.Op{storage.Remove(key).If(mark.Version)}, nil
}
