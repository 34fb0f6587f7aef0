// Package lease manages leases: records of what must be undone (revoked) later.
//
//	lease/<lease id>               the record; the id is the request's path and a random part
//	lease-of/<owner>/<lease id>    index by the token that created it
//	lease-failing/<lease id>       exists while its undo fails and is retried
//	due/…                          one item per record, through Config.Due
//
// A lease begins as a reservation, which is durable before the credential is created. It is
// granted when the credential exists. The lease is the write-ahead log of both: a reservation that
// is not granted falls due and is undone, like a lease that has expired.
//
//	reserved ──grant──▶ granted ──due, revoked──▶ ending ──undone──▶ forgotten
//	    └───────────────not granted in time──────────▲
//
// Invariants:
//   - Undo begins with a commit that asserts the record's version and moves its due time
//     (the claim). Grant and Renew assert the same version, so only one of the three succeeds.
//   - A reservation that was never granted is removed only after its credential was
//     absent at or after Late.
//   - Undo is retried forever, 10 s after the first failure, doubling to an hour. If a process
//     dies after its claim, another retries within seconds. Only revoke-force removes a record
//     whose undo fails.
package lease

import (
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
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
	Mount     string          // UUID, because a path may be reused
	Target    string          // what undo connects to, within the mount
	Kind      string          // the engine's kind of secret
	Data      json.RawMessage // what undo needs
	Owner     string          // token id
	Entity    string          // who it was issued to
	State     State
	Attempt   string
	Late      time.Time // until then, a create may still take effect
	Issued    time.Time
	Expires   time.Time
	Max       time.Time // the lease cannot be renewed beyond it
	Renewed   time.Time
	Renewable bool
	Due       time.Time // where its item stands in the index
	Tries     int       // failed undos
	Failing   time.Time // since when undo has been failing
	Error     string
	Note      string
	Granted   bool // create is known to have succeeded
	Force     bool
}

// Lane is the lease's lane of the due index: one for each target of undos.
func (l *Lease) Lane() string { return Lane(l.Mount, l.Target) }

// Lane names the lane of a target of a mount.
func Lane(mount, target string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(target))
	return mount + "-" + strconv.FormatUint(uint64(h.Sum32()), 36)
}

// TTL is the time left at now, never negative.
func (l *Lease) TTL(now time.Time) time.Duration { return max(l.Expires.Sub(now), 0) }

// StartingAt returns a reservation whose times are moved, so that it starts at now.
func (l *Lease) StartingAt(now time.Time) *Lease {
	later := *l
	by := now.UTC().Truncate(time.Millisecond).Sub(l.Issued)
	later.Issued, later.Expires, later.Max = l.Issued.Add(by), l.Expires.Add(by), l.Max.Add(by)
	return &later
}

// backoff is the wait before the n-th retry: 10 s, doubling to an hour, plus up to a tenth, so
// that leases that failed together are not retried together.
func backoff(tries int) time.Duration {
	d := cron.Backoff(tries, 10*time.Second, time.Hour)
	return d + rand.N(d/10)
}
