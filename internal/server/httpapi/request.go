package httpapi

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// maxToken is how long a token may be. Ours have a hundred bytes, batch tokens
// a few hundred; JWTs that a proxy puts there stay below.
const maxToken = 8 << 10

// readHead fills the request from everything but the body. below is the
// escaped path below /v1/; this is the one place where it is parsed.
func (h *Handler) readHead(x *call, r *http.Request, below string) error {
	q := &x.request
	query, err := parseQuery(r.URL)
	if err != nil {
		return err
	}
	if q.Op, err = operation(r.Method, query); err != nil {
		return err
	}
	if q.Path, err = route.ParsePath(below, q.Op == route.List); err != nil {
		return err
	}
	q.Folder = q.Op != route.List && endsInSlash(below)
	if readHelp(query) {
		if q.Op != route.Read {
			return fault.New("httpapi", fault.Unsupported,
				"help is served for GET only; leave \"help\" out of other requests")
		}
		q.Op, query = route.Help, nil
	}
	switch q.Op {
	case route.Read, route.List, route.Delete:
		q.Query = query
	default:
		for name := range query {
			q.Warn("the query parameter %q was ignored: a write takes its parameters from the body", name)
		}
	}
	q.Accept, q.Header = header(r.Header, "Accept"), r.Header
	return readHeaders(q, r.Header)
}

// header is Header.Get for a name in its canonical form, which need not be looked for in each
// request.
func header(head http.Header, name string) string {
	if values := head[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// endsInSlash reports whether a path does, once it is decoded.
func endsInSlash(escaped string) bool {
	return strings.HasSuffix(escaped, "/") || len(escaped) > 2 && strings.EqualFold(escaped[len(escaped)-3:], "%2f")
}

func parseQuery(u *url.URL) (url.Values, error) {
	if u.RawQuery == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, invalid("the query string is not well formed; escape its values")
	}
	return query, nil
}

// operation reads the method.
func operation(method string, query url.Values) (route.Op, error) {
	switch method {
	case http.MethodGet, http.MethodHead:
		text := query.Get("list")
		if text == "" {
			return route.Read, nil
		}
		list, err := strconv.ParseBool(text)
		if err != nil {
			return "", invalid("query parameter \"list\": want true or false")
		}
		if list {
			return route.List, nil
		}
		return route.Read, nil
	case "LIST":
		return route.List, nil
	case http.MethodPost, http.MethodPut:
		return route.Write, nil
	case http.MethodDelete:
		return route.Delete, nil
	case http.MethodPatch:
		return route.Patch, nil
	}
	return "", fault.New("httpapi", fault.Unsupported,
		"the method is not supported; use GET, LIST, POST, PUT, PATCH or DELETE")
}

func readHelp(query url.Values) bool {
	text := query.Get("help")
	if text == "" { // nearly always: an error would be made only to be dropped
		return false
	}
	help, err := strconv.ParseBool(text)
	return err == nil && help
}

// readHeaders reads the token and what else Vault's clients say in headers.
// What would change the meaning of the request and is not built is refused.
func readHeaders(q *route.Request, head http.Header) error {
	if err := readToken(q, head); err != nil {
		return err
	}
	for _, name := range [...]string{"X-Vault-Namespace", "X-Vault-Wrap-Format", "X-Vault-Wrap-Ttl"} {
		if len(head[name]) > 1 { // only the first would count, and the others be ignored
			return invalid("header %s: it came more than once; send one", strings.ReplaceAll(name, "Ttl", "TTL"))
		}
	}
	if ns := strings.Trim(header(head, "X-Vault-Namespace"), "/"); ns != "" && ns != "root" {
		return invalid(
			"header X-Vault-Namespace: namespaces are not built into this version; unset it (VAULT_NAMESPACE)")
	}
	if header(head, "X-Vault-Wrap-Format") != "" {
		return invalid("header X-Vault-Wrap-Format: only the plain form of wrapping is built; unset it")
	}
	if text := header(head, "X-Vault-Wrap-Ttl"); text != "" {
		ttl, err := wire.ParseDuration(text)
		if err != nil {
			return invalid("header X-Vault-Wrap-TTL: %s", err)
		}
		q.WrapTTL = ttl
	}
	if q.Op == route.Patch {
		kind, _, err := mime.ParseMediaType(header(head, "Content-Type"))
		if err != nil || kind != "application/merge-patch+json" {
			return invalid("header Content-Type: a PATCH needs application/merge-patch+json")
		}
	}
	return nil
}

func readToken(q *route.Request, head http.Header) error {
	tokens := head["X-Vault-Token"]
	if len(tokens) == 0 {
		bearer := head["Authorization"]
		if len(bearer) > 1 {
			return invalid("header Authorization: it came more than once; send one")
		}
		if len(bearer) == 1 && len(bearer[0]) > 7 && strings.EqualFold(bearer[0][:7], "Bearer ") {
			tokens = []string{strings.TrimSpace(bearer[0][7:])}
		}
	}
	switch {
	case len(tokens) == 0:
		return nil
	case len(tokens) > 1:
		return invalid("header X-Vault-Token: it came more than once; send one")
	case len(tokens[0]) > maxToken:
		return fault.New("httpapi", fault.TooLarge, "header X-Vault-Token: a token has at most %d bytes", maxToken)
	}
	q.Token = secret.Text(tokens[0])
	return nil
}
