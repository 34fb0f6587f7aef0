package lease

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// stored is the JSON form of a record. Names are short and times are numbers, because there may be
// ten million of them.
type stored struct {
	Namespace string          `json:"ns,omitempty"`
	Mount     string          `json:"m"`
	Target    string          `json:"t,omitempty"`
	Kind      string          `json:"k,omitempty"`
	Data      json.RawMessage `json:"d"`
	Owner     string          `json:"o"`
	Entity    string          `json:"en,omitempty"`
	State     State           `json:"s"`
	Attempt   string          `json:"a"`
	Late      instant         `json:"l,omitempty"`
	Issued    instant         `json:"i,omitempty"`
	Expires   instant         `json:"e,omitempty"`
	Max       instant         `json:"x,omitempty"`
	Renewed   instant         `json:"rn,omitempty"`
	Renewable bool            `json:"r,omitempty"`
	Due       instant         `json:"du,omitempty"`
	Tries     int             `json:"n,omitempty"`
	Failing   instant         `json:"f,omitempty"`
	Error     string          `json:"er,omitempty"`
	Note      string          `json:"no,omitempty"`
	Granted   bool            `json:"gr,omitempty"`
	Force     bool            `json:"fo,omitempty"`
}

// An instant is milliseconds since 1970; 0: no time.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixMilli())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(i)).UTC()
}

// UnmarshalJSON implements [json.Unmarshaler]. It also reads RFC 3339, in which earlier versions
// stored times.
func (i *instant) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'"'}) {
		var t time.Time
		err := t.UnmarshalJSON(b)
		*i = instantOf(t)
		return err
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	*i = instant(n)
	return err
}

func (l *Lease) encode() ([]byte, error) {
	b, err := json.Marshal(&stored{
		Namespace: l.Namespace, Mount: l.Mount, Target: l.Target, Kind: l.Kind, Data: l.Data, Owner: l.Owner,
		Entity: l.Entity,
		State:  l.State, Attempt: l.Attempt, Late: instantOf(l.Late), Issued: instantOf(l.Issued),
		Expires: instantOf(l.Expires),
		Max:     instantOf(l.Max), Renewed: instantOf(l.Renewed), Renewable: l.Renewable, Due: instantOf(l.Due),
		Tries:   l.Tries,
		Failing: instantOf(l.Failing), Error: l.Error, Note: l.Note, Granted: l.Granted, Force: l.Force,
	})
	if err != nil {
		return nil, fault.Wrap("lease.encode", fault.Internal, err)
	}
	return b, nil
}

// Decode decodes the record in a row. If it cannot, the error is Internal.
func Decode(e storage.Entry) (*Lease, error) {
	var s stored
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return nil, fault.Wrap("lease.Decode", fault.Internal, err)
	}
	return &Lease{
		ID: e.Key[len(Prefix):], Version: e.Version,
		Namespace: s.Namespace, Mount: s.Mount, Target: s.Target, Kind: s.Kind, Data: s.Data, Owner: s.Owner,
		Entity: s.Entity,
		State:  s.State, Attempt: s.Attempt, Late: s.Late.time(), Issued: s.Issued.time(), Expires: s.Expires.time(),
		Max: s.Max.time(), Renewed: s.Renewed.time(), Renewable: s.Renewable, Due: s.Due.time(), Tries: s.Tries,
		Failing: s.Failing.time(), Error: s.Error, Note: s.Note, Granted: s.Granted, Force: s.Force,
	}, nil
}

// Failing reports whether a stored record belongs to a lease whose undo has failed. It does not
// decode the whole record, because a recount calls it for every lease.
func Failing(record []byte) bool {
	if !bytes.Contains(record, []byte(`"f":`)) {
		return false
	}
	var s stored
	return json.Unmarshal(record, &s) == nil && s.Failing != 0
}
