package core

import (
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// wrapInfo is the answer's wrap_info.
type wrapInfo struct {
	Token           secret.Value  `json:"token"`
	Accessor        string        `json:"accessor"`
	TTL             time.Duration `json:"ttl"`
	CreationTime    time.Time     `json:"creation_time"`
	CreationPath    string        `json:"creation_path"`
	WrappedAccessor string        `json:"wrapped_accessor,omitempty"`
}

// envelope is Vault's form of an answer.
type envelope struct {
	x     *exchange
	data  any
	lease *answeredLease
	wrap  *wrapInfo
}

// answer encodes the envelope for the client.
func (e *envelope) answer() *Answer {
	rep := e.x.r.Reply()
	a := &Answer{Status: rep.Status, ContentType: rep.ContentType}
	switch {
	case rep.Stream != nil && e.wrap == nil:
		a.Stream = rep.Stream
	case rep.Shape == route.Binary:
		if raw, ok := e.data.(*wire.Raw); ok {
			a.Body = raw.Reveal()
		}
	case rep.Unwrapped && e.wrap == nil, rep.Shape == route.Bare && e.wrap == nil:
		a.Body = wire.Append(nil, e.data)
	case e.empty():
		if a.Status == 0 {
			a.Status = 204
		}
		return a
	default:
		a.Body = e.encode(make([]byte, 0, 512))
	}
	if a.Status == 0 {
		a.Status = 200
	}
	return a
}

func (e *envelope) empty() bool {
	rep := e.x.r.Reply()
	return e.data == nil && e.lease == nil && e.wrap == nil && rep.Auth == nil && len(rep.Warnings) == 0
}

// encode appends the whole answer.
func (e *envelope) encode(b []byte) []byte {
	r := e.x.r
	rep := r.Reply()
	id, duration, renewable := "", rep.LeaseDuration, false
	if e.lease != nil {
		id, duration, renewable = e.lease.id, e.lease.ttl, e.lease.renewable
	}
	b = append(b, `{"request_id":`...)
	if e.wrap != nil {
		b = append(b, `""`...)
		duration = 0
	} else {
		b = wire.AppendString(b, r.ID)
	}
	b = wire.AppendString(append(b, `,"lease_id":`...), id)
	b = strconv.AppendBool(append(b, `,"renewable":`...), renewable)
	b = strconv.AppendInt(append(b, `,"lease_duration":`...), wire.Seconds(duration), 10)
	b = wire.Append(append(b, `,"data":`...), e.data)
	if e.wrap != nil {
		b = wire.Append(append(b, `,"wrap_info":`...), e.wrap)
	} else {
		b = append(b, `,"wrap_info":null`...)
	}
	if len(rep.Warnings) > 0 {
		b = wire.Append(append(b, `,"warnings":`...), rep.Warnings)
	} else {
		b = append(b, `,"warnings":null`...)
	}
	if rep.Auth != nil && e.wrap == nil {
		b = wire.Append(append(b, `,"auth":`...), rep.Auth)
	} else {
		b = append(b, `,"auth":null`...)
	}
	b = wire.AppendString(append(b, `,"mount_type":`...), r.Mount.Type)
	if rep.Shape == route.Merged && e.wrap == nil && e.data != nil {
		b = e.merge(b)
	}
	return append(b, '}')
}

// merge repeats the members of data at the top level, because old clients expect them there.
func (e *envelope) merge(b []byte) []byte {
	_ = wire.EachField(wire.Append(nil, e.data), func(name string, value []byte) error {
		switch name {
		case "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth",
			"mount_type":
			return nil
		}
		b = wire.AppendString(append(b, ','), name)
		b = append(append(b, ':'), value...)
		return nil
	})
	return b
}

// wrappable reports whether the answer can be wrapped. The answer to an unwrap cannot, and a
// caller without a token gets only the answer to a login wrapped.
func wrappable(x *exchange) bool {
	rep := x.r.Reply()
	if x.entry == nil && rep.Auth == nil {
		return false
	}
	return rep.Stream == nil && rep.Shape != route.Bare && rep.Shape != route.Binary &&
		(rep.Status == 0 || rep.Status < 300)
}

// errCannotWrap is for an answer that cannot be wrapped although the policy requires it.
func errCannotWrap(x *exchange) error {
	return fault.New("core.wrap", fault.Denied,
		"permission denied: your policies demand a wrapped answer (min_wrapping_ttl, max_wrapping_ttl), and that of "+
			"%q cannot be wrapped; use a token whose policies set no such bound for this path",
		x.r.Shown())
}
