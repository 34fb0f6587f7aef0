package audit

import (
	"bytes"
	"maps"
	"slices"
	"strconv"

	"github.com/keyturn/keyturn/internal/wire"
)

// A Payload is the data of a request or an answer. AppendAudit appends one JSON value in which
// each leaf that may be secret is replaced by its HMAC. A nil Payload is omitted.
type Payload interface {
	AppendAudit(dst []byte, h *Hasher) []byte
}

// Data is a payload that wire encodes. Every string, number and boolean is hashed, except in the
// outermost members that Clear names.
type Data struct {
	V     any
	Clear []string
}

// AppendAudit implements [Payload].
func (d Data) AppendAudit(dst []byte, h *Hasher) []byte {
	if h.Raw {
		return wire.Append(dst, d.V)
	}
	return wire.AppendAudit(dst, d.V, h.leaf, d.Clear...)
}

// Detail is a payload of texts that are not secret, and are written in clear. It describes an
// [Action].
type Detail map[string]string

// AppendAudit implements [Payload].
func (d Detail) AppendAudit(dst []byte, _ *Hasher) []byte {
	dst = append(dst, '{')
	for i, k := range slices.Sorted(maps.Keys(d)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendString(dst, k), ':')
		dst = wire.AppendString(dst, d[k])
	}
	return append(dst, '}')
}

// elided are the members of a list's data that elide_list_responses replaces by their number of
// elements.
var elided = []string{"keys", "key_info"}

// elide appends a list's data, given as JSON, with the elided members replaced.
func elide(dst, text []byte) []byte {
	from := len(dst)
	dst = append(dst, '{')
	err := wire.EachField(text, func(name string, value []byte) error {
		if len(dst) > from+1 {
			dst = append(dst, ',')
		}
		dst = append(wire.AppendString(dst, name), ':')
		if slices.Contains(elided, name) {
			if n, ok := elements(value); ok {
				dst = strconv.AppendInt(dst, int64(n), 10)
				return nil
			}
		}
		dst = append(dst, value...)
		return nil
	})
	if err != nil { // not an object: nothing to elide
		return append(dst[:from], text...)
	}
	return append(dst, '}')
}

// elements counts the elements of a JSON array or the members of an object.
func elements(value []byte) (n int, ok bool) {
	value = bytes.TrimSpace(value)
	if len(value) < 2 || value[0] != '[' && value[0] != '{' {
		return 0, false
	}
	if len(bytes.TrimSpace(value[1:len(value)-1])) == 0 {
		return 0, true
	}
	n = 1
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 1:
			n++
		}
	}
	return n, true
}
