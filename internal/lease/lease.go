// Package lease keeps what must one day be undone.
//
//	lease/<lease id>               the record; the id is the request's path and a random part
//	lease-of/<owner>/<lease id>    by the token that made it
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
	"bytes"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Prefixes of the keys.
const (
	Prefix   = "lease/"
	OfPrefix = "lease-of/"
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

// A Lease is the record of one lease. It is immutable once it is stored. The
// JSON names are short because ten million of them are kept.
type Lease struct {
	ID        string          `json:"-"`
	Version   storage.Version `json:"-"`
	Namespace string          `json:"ns,omitempty"`
	Mount     string          `json:"m"`            // uuid: a path may be used again
	Target    string          `json:"t,omitempty"`  // what undo talks to, within the mount
	Kind      string          `json:"k,omitempty"`  // the engine's kind of secret
	Data      json.RawMessage `json:"d"`            // what undo needs
	Owner     string          `json:"o"`            // token id
	Entity    string          `json:"en,omitempty"` // who it was issued to
	State     State           `json:"s"`
	Attempt   string          `json:"a"`
	Late      time.Time       `json:"l,omitzero"` // until then a late effect of create may come
	Issued    time.Time       `json:"i"`
	Expires   time.Time       `json:"e"`
	Max       time.Time       `json:"x,omitzero"` // renewal never goes past it
	Renewed   time.Time       `json:"rn,omitzero"`
	Renewable bool            `json:"r,omitempty"`
	Due       time.Time       `json:"du"`          // where its item stands in the index
	Tries     int             `json:"n,omitempty"` // undos that have failed
	Failing   time.Time       `json:"f,omitzero"`  // since when undo has been failing
	Error     string          `json:"er,omitempty"`
	Note      string          `json:"no,omitempty"`
	Granted   bool            `json:"gr,omitempty"` // create is known to have succeeded
	Force     bool            `json:"fo,omitempty"`
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

func (l *Lease) encode() ([]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fault.Wrap("lease.encode", fault.Internal, err)
	}
	return b, nil
}

func decode(e storage.Entry) (*Lease, error) {
	l := &Lease{ID: e.Key[len(Prefix):], Version: e.Version}
	if err := json.Unmarshal(e.Value, l); err != nil {
		return nil, fault.Wrap("lease.decode", fault.Internal, err)
	}
	return l, nil
}

// Failing reports whether a stored record is of a lease whose undo has failed.
// It reads no more of it than it must: a slow count asks it of every lease.
func Failing(record []byte) bool {
	if !bytes.Contains(record, []byte(`"f":"`)) {
		return false
	}
	var l Lease
	return json.Unmarshal(record, &l) == nil && !l.Failing.IsZero()
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
