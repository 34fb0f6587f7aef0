package httpapi

import (
	"maps"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Headers are the additional headers of one listener's answers: Vault's
// custom_response_headers. It is not changed after [NewHeaders].
type Headers struct {
	exact   map[int]map[string][]string // of single statuses
	class   [6]map[string][]string      // 2: of all statuses from 200 to 299
	without map[string][]string         // of all others
}

// ownHeaders are set by the server, or control the transport of an answer.
var ownHeaders = map[string]bool{
	"Cache-Control": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true,
	"Date":       true,
	"Keep-Alive": true, "Location": true, "Proxy-Connection": true, "Retry-After": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Www-Authenticate": true,
}

// OwnHeader reports whether the name is one of the server's own headers, which the
// configuration cannot set.
func OwnHeader(name string) bool {
	name = textproto.CanonicalMIMEHeaderKey(name)
	return ownHeaders[name] || strings.HasPrefix(name, "X-Vault-")
}

// StatusName reports whether name is valid for headers in a configuration: "default", a class of
// statuses such as "2xx", or a status such as "307".
func StatusName(name string) bool {
	if name == "default" {
		return true
	}
	if len(name) != 3 || name[0] < '1' || name[0] > '5' {
		return false
	}
	_, err := strconv.Atoi(name)
	return err == nil || name[1:] == "xx"
}

// NewHeaders returns the Headers of a configuration: for each [StatusName], the value of each
// header. A more specific name overrides a less specific one.
func NewHeaders(given map[string]map[string]string) *Headers {
	h := &Headers{exact: map[int]map[string][]string{}, without: merged(nil, given["default"])}
	for i := range h.class {
		h.class[i] = merged(h.without, given[strconv.Itoa(i)+"xx"])
	}
	for name, values := range given {
		if status, err := strconv.Atoi(name); err == nil && status < 600 {
			h.exact[status] = merged(h.class[status/100], values)
		}
	}
	return h
}

func merged(below map[string][]string, values map[string]string) map[string][]string {
	out := maps.Clone(below)
	if out == nil {
		out = map[string][]string{}
	}
	for name, value := range values {
		out[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	return out
}

// set adds the headers for answers with the status to head. All answers share the
// slices, so they must not be changed.
func (h *Headers) set(head http.Header, status int) {
	from, ok := h.exact[status]
	switch {
	case ok:
	case status/100 < len(h.class):
		from = h.class[status/100]
	default:
		from = h.without
	}
	maps.Copy(head, from)
}
