package audit

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// A renderer renders lines for one device.
type renderer struct {
	h             *Hasher // no other renderer has it; entries cache what was rendered by it
	plainAccessor bool    // hmac_accessor=false
	elideLists    bool
}

// entry appends an entry as a JSON object, without the trailer and the newline.
func (r *renderer) entry(dst []byte, e *Entry) []byte {
	dst = append(dst, `{"time":"`...)
	dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","type":"`...)
	dst = append(dst, e.Kind...)
	dst = append(dst, `","auth":{`...)
	var frag *fragment
	if e.Auth == nil {
		dst = append(dst, `"token_type":"default"`...)
	} else {
		frag = r.fragment(e.Auth)
		dst = append(dst, frag.auth...)
	}
	dst = appendDecision(dst, e.Decision)
	dst = append(dst, '}')
	if e.Request != nil {
		dst = append(dst, `,"request":`...)
		dst = r.request(dst, e.Request, frag)
	}
	if e.Response != nil {
		dst = append(dst, `,"response":`...)
		dst = r.response(dst, e)
	}
	dst = appendMember(dst, "error", e.Error)
	return append(dst, '}')
}

func (r *renderer) request(dst []byte, q *Request, frag *fragment) []byte {
	if q.textBy == r.h {
		return append(dst, q.text...)
	}
	from := len(dst)
	dst = r.appendRequest(dst, q, frag)
	q.text, q.textBy = append(q.text[:0], dst[from:]...), r.h
	return dst
}

func (r *renderer) appendRequest(dst []byte, q *Request, frag *fragment) []byte {
	dst = append(dst, `{"id":`...)
	dst = wire.AppendString(dst, q.ID)
	dst = appendMember(dst, "client_id", q.ClientID)
	dst = appendMember(dst, "operation", q.Operation)
	dst = appendMount(dst, q.Mount)
	switch {
	case frag != nil:
		dst = append(dst, frag.request...)
	case !q.Token.Empty():
		dst = append(dst, `,"client_token":`...)
		dst = r.h.appendSecret(dst, q.Token)
	}
	dst = appendNamespace(dst, q.Namespace)
	dst = append(dst, `,"path":`...)
	dst = wire.AppendString(dst, q.Path)
	if q.Data != nil {
		dst = append(dst, `,"data":`...)
		dst = r.payload(dst, q.Data, false)
	}
	if q.Remote.IsValid() {
		dst = append(dst, `,"remote_address":"`...)
		dst = q.Remote.Addr().Unmap().WithZone("").AppendTo(dst)
		dst = append(dst, `","remote_port":`...)
		dst = strconv.AppendUint(dst, uint64(q.Remote.Port()), 10)
	}
	dst = r.headers(dst, q.Headers)
	dst = appendSeconds(dst, "wrap_ttl", q.WrapTTL)
	dst = appendMember(dst, "client_certificate_serial_number", q.CertSerial)
	return append(dst, '}')
}

func (r *renderer) response(dst []byte, e *Entry) []byte {
	a := e.Response
	dst = append(dst, '{')
	from := len(dst)
	if a.Auth != nil {
		dst = append(dst, `,"auth":{`...)
		dst = append(r.auth(dst, a.Auth), '}') // not cached, because it is written once
	}
	if a.LeaseID != "" {
		dst = append(dst, `,"secret":{"lease_id":`...)
		dst = append(wire.AppendString(dst, a.LeaseID), '}')
	}
	if a.Data != nil {
		list := e.Request != nil && e.Request.Operation == "list"
		dst = append(dst, `,"data":`...)
		dst = r.payload(dst, a.Data, list && r.elideLists)
	}
	if a.Wrap != nil {
		dst = r.wrap(dst, a.Wrap)
	}
	dst = appendList(dst, "warnings", a.Warnings)
	dst = appendMember(dst, "redirect", a.Redirect)
	if e.Request != nil {
		dst = appendMount(dst, e.Request.Mount)
	}
	if len(dst) > from { // each member began with a comma
		dst = append(dst[:from], dst[from+1:]...)
	}
	return append(dst, '}')
}

// payload appends p on one line. With log_raw, it contains JSON as the user sent it, in which a
// raw newline can only be white space.
func (r *renderer) payload(dst []byte, p Payload, short bool) []byte {
	from := len(dst)
	if short {
		dst = elide(dst, p.AppendAudit(nil, r.h))
	} else {
		dst = p.AppendAudit(dst, r.h)
	}
	if bytes.IndexByte(dst[from:], '\n') >= 0 || bytes.IndexByte(dst[from:], '\r') >= 0 {
		for i := from; i < len(dst); i++ {
			if dst[i] == '\n' || dst[i] == '\r' {
				dst[i] = ' '
			}
		}
	}
	return dst
}

func (r *renderer) wrap(dst []byte, w *Wrap) []byte {
	dst = append(dst, `,"wrap_info":{"ttl":`...)
	dst = strconv.AppendInt(dst, wire.Seconds(w.TTL), 10)
	dst = append(dst, `,"token":`...)
	dst = r.h.appendSecret(dst, w.Token)
	dst = append(dst, `,"accessor":`...)
	dst = r.accessor(dst, w.Accessor)
	dst = appendMember(dst, "creation_time", wire.FormatTime(w.Created))
	dst = appendMember(dst, "creation_path", w.CreationPath)
	if w.WrappedAccessor != "" {
		dst = append(dst, `,"wrapped_accessor":`...)
		dst = r.accessor(dst, w.WrappedAccessor)
	}
	return append(dst, '}')
}

func (r *renderer) headers(dst []byte, headers []Header) []byte {
	if len(headers) == 0 {
		return dst
	}
	dst = append(dst, `,"headers":{`...)
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendString(dst, h.Name), ':', '[')
		for j, v := range h.Values {
			if j > 0 {
				dst = append(dst, ',')
			}
			if h.Hash {
				dst = r.h.appendText(dst, v)
			} else {
				dst = wire.AppendString(dst, v)
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// fragment returns the fragment of a for this renderer, and renders it at the first use.
func (r *renderer) fragment(a *Auth) *fragment {
	head := a.fragments.Load()
	for f := head; f != nil; f = f.next {
		if f.by == r.h {
			return f
		}
	}
	f := &fragment{by: r.h, auth: r.auth(nil, a), next: head}
	if !a.Token.Empty() {
		f.request = append(f.request, `,"client_token":`...)
		f.request = r.h.appendSecret(f.request, a.Token)
	}
	if a.Accessor != "" {
		f.request = append(f.request, `,"client_token_accessor":`...)
		f.request = r.accessor(f.request, a.Accessor)
	}
	a.fragments.CompareAndSwap(head, f) // if it fails, the next use renders it again
	return f
}

// auth appends the members of an auth block.
func (r *renderer) auth(dst []byte, a *Auth) []byte {
	from := len(dst)
	if !a.Token.Empty() {
		dst = append(dst, `,"client_token":`...)
		dst = r.h.appendSecret(dst, a.Token)
	}
	if a.Accessor != "" {
		dst = append(dst, `,"accessor":`...)
		dst = r.accessor(dst, a.Accessor)
	}
	dst = appendMember(dst, "display_name", a.DisplayName)
	dst = appendList(dst, "policies", a.Policies)
	dst = appendList(dst, "token_policies", a.TokenPolicies)
	dst = appendList(dst, "identity_policies", a.IdentityPolicies)
	if len(a.Metadata) > 0 {
		dst = append(dst, `,"metadata":{`...)
		for i, k := range slices.Sorted(maps.Keys(a.Metadata)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(wire.AppendString(dst, k), ':')
			dst = wire.AppendString(dst, a.Metadata[k])
		}
		dst = append(dst, '}')
	}
	dst = appendMember(dst, "entity_id", a.EntityID)
	kind := a.TokenType
	if kind == "" {
		kind = "default"
	}
	dst = appendMember(dst, "token_type", kind)
	dst = appendSeconds(dst, "token_ttl", a.TTL)
	dst = appendMember(dst, "token_issue_time", wire.FormatTime(a.Issued))
	if a.NumUses > 0 {
		dst = append(dst, `,"num_uses":`...)
		dst = strconv.AppendInt(dst, int64(a.NumUses), 10)
	}
	return append(dst[:from], dst[from+1:]...) // without the first comma; token_type is always there
}

func (r *renderer) accessor(dst []byte, accessor string) []byte {
	if r.plainAccessor {
		return wire.AppendString(dst, accessor)
	}
	return r.h.appendText(dst, accessor)
}

func appendDecision(dst []byte, d *Decision) []byte {
	if d == nil {
		return dst
	}
	dst = append(dst, `,"policy_results":{"allowed":`...)
	dst = strconv.AppendBool(dst, d.Allowed)
	for i, name := range d.Granting {
		if i == 0 {
			dst = append(dst, `,"granting_policies":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = wire.AppendString(dst, name)
		dst = append(dst, `,"namespace_id":"root","type":"acl"}`...)
	}
	if len(d.Granting) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendMount(dst []byte, m Mount) []byte {
	dst = appendMember(dst, "mount_point", m.Point)
	dst = appendMember(dst, "mount_type", m.Type)
	dst = appendMember(dst, "mount_accessor", m.Accessor)
	return appendMember(dst, "mount_class", m.Class)
}

func appendNamespace(dst []byte, n Namespace) []byte {
	id := n.ID
	if id == "" {
		id = "root"
	}
	dst = append(dst, `,"namespace":{"id":`...)
	dst = wire.AppendString(dst, id)
	dst = appendMember(dst, "path", n.Path)
	return append(dst, '}')
}

// appendMember appends `,"name":"value"`, or nothing for an empty value.
func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return wire.AppendString(dst, value)
}

func appendList(dst []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':', '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendString(dst, v)
	}
	return append(dst, ']')
}

func appendSeconds(dst []byte, name string, d time.Duration) []byte {
	if d == 0 {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return strconv.AppendInt(dst, wire.Seconds(d), 10)
}
