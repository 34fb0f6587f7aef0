package route

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/fault"
)

// MaxPath is the longest request path, in bytes after decoding.
const MaxPath = 1024

// A Path is the canonical form of a request's path below /v1/: decoded once, without a leading
// slash, and without empty or dot segments. The router, the policies, the audit log and the engine
// all use this value. The path of a list ends in a slash, or is empty; no other path ends in a
// slash.
type Path string

// ParsePath returns the canonical path of an escaped URL path below /v1/ (with or without the
// leading slash). list: the operation is a list. It refuses dot segments, empty segments, control
// characters and invalid UTF-8, even if they are escaped twice, because "%2e%2e" would be ".."
// after another decoding.
func ParsePath(escaped string, list bool) (Path, error) {
	bad := func(why string) (Path, error) {
		return "", fault.New("route.ParsePath", fault.Invalid, "the path is refused: %s", why)
	}
	if len(escaped) > 3*MaxPath+2 { // each byte escaped, with the slashes around it
		return bad("it is longer than 1024 bytes; shorten it")
	}
	p, err := url.PathUnescape(strings.TrimPrefix(escaped, "/"))
	if err != nil {
		return bad("it has a bad % escape; write a plain % as %25")
	}
	if len(p) > MaxPath {
		return bad("it is longer than 1024 bytes; shorten it")
	}
	if !utf8.ValidString(p) {
		return bad("it is not UTF-8; escape it as such")
	}
	p = strings.TrimSuffix(p, "/")
	if p == "" {
		return "", nil
	}
	for seg := range strings.SplitSeq(p, "/") {
		if why := refuseSegment(seg); why != "" {
			return bad(why)
		}
	}
	if list {
		p += "/"
	}
	return Path(p), nil
}

func refuseSegment(seg string) string {
	if seg == "" {
		return "it has an empty segment (two slashes in a row)"
	}
	if strings.ContainsFunc(seg, unicode.IsControl) { // those above 0x7f, too: terminals obey them
		return "it has a control character"
	}
	// Names may hold a %, but not one that hides a dot, a slash or NUL.
	for decoded, depth := seg, 0; depth < 4; depth++ {
		if decoded == "." || decoded == ".." {
			return "it has a dot segment"
		}
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		if strings.ContainsAny(next, "/\\\x00") {
			return "a segment hides a slash or a NUL behind an escape"
		}
		decoded = next
	}
	return ""
}

// Below cuts the prefix, which ends in a slash, off p.
func (p Path) Below(prefix string) string {
	rest, ok := strings.CutPrefix(string(p), prefix)
	if !ok && string(p)+"/" == prefix {
		return ""
	}
	return rest
}
