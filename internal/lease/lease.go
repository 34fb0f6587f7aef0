// Package lease keeps what must one day be undone.
//
//	lease/<lease id>               the record; the id is the request's path and a random part
//	lease-of/<owner>/<lease id>    by the token that made it
//	lease-failing/<lease id>       while its undo has failed, and is tried again
//	due/…                          one item per record, through Config.Due
//
// A lease begins as a reservation, durable before the first call outside; it
// is granted once that call has succeeded, and is the write-ahead log of the
// whole: what is not granted falls due and is undone like what has expired.
//
//	reserved ──grant──▶ granted ──due, revoked──▶ ending ──undone──▶ forgotten
//	    └───────────────not granted in time──────────▲
//
// Invariants:
//   - Undo begins with a commit that asserts the record's version and moves its due time
//     (the claim). Grant and Renew assert the same version: who loses acts no more.
//   - A reservation that was never granted is forgotten only after its object was
//     seen absent at or after Late.
//   - Undo is retried for ever, 10 s after the first failure, doubling to an
//     hour. What a process had claimed that died is tried again within seconds. A record is dropped without undo by revoke-force alone.
package lease

import (
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// Prefixes of the keys.
const (
	Prefix        = "lease/"
	OfPrefix      = "lease-of/"
	FailingPrefix = "lease-failing/"
)

// DueKind is the kind of a lease's due item.
const DueKind = "lease"

// State of a lease.
type State string

// The states.
const (
	Reserved State = "r"
	Granted  State = "g"
	Ending   State = "e"
)

// A Lease is the record of one lease. It is immutable once it is stored. Times are
// kept to the millisecond.
type Lease struct {
	ID        string
	Version   storage.Version
	Namespace string
	Mount     string          // uuid: a path may be used again
	Target    string          // what undo talks to, within the mount
	Kind      string          // the engine's kind of secret
	Data      json.RawMessage // what undo needs
	Owner     string          // token id
	Entity    string          // who it was issued to
	State     State
	Attempt   string
	Late      time.Time // until then a late effect of create may come
	Issued    time.Time
	Expires   time.Time
	Max       time.Time // renewal never goes past it
	Renewed   time.Time
	Renewable bool
	Due       time.Time // where its item stands in the index
	Tries     int       // undos that have failed
	Failing   time.Time // since when undo has been failing
	Error     string
	Note      string
	Granted   bool // create is known to have succeeded
	Force     bool
}

// Lane of the due index in which the lease stands: one per undo target.
func (l *Lease) Lane() string { return Lane(l.Mount, l.Target) }

// Lane names the lane of a target of a mount.
func Lane(mount, target string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(target))
	return mount + "-" + strconv.FormatUint(uint64(h.Sum32()), 36)
}

// TTL is what is left at now, never negative.
func (l *Lease) TTL(now time.Time) time.Duration { return max(l.Expires.Sub(now), 0) }

// From is a reservation whose times count from another one than that of its making.
func (l *Lease) From(now time.Time) *Lease {
	later := *l
	by := now.UTC().Truncate(time.Millisecond).Sub(l.Issued)
	later.Issued, later.Expires, later.Max = l.Issued.Add(by), l.Expires.Add(by), l.Max.Add(by)
	return &later
}

// backoff is the wait before the n-th retry: 10 s doubling to an hour, and up to a tenth
// more, so that what failed together does not come again together.
func backoff(tries int) time.Duration {
	d := 10 * time.Second
	for range min(tries-1, 9) {
		d *= 2
	}
	d = min(d, time.Hour)
	return d + rand.N(d/10)
}
