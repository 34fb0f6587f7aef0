package route

import (
	"regexp"
	"strconv"
	"strings"
)

// hiddenToken replaces a token.
const hiddenToken = "[token]"

// Redact returns a path without possible tokens. It is for paths without a known route, so it
// rather hides too much: everything after a segment that begins with "lookup", "renew" or "revoke"
// below a login method, everything after an unknown segment below auth/token/, and a segment that
// looks like a token, with everything after it. Case, (repeated) escapes, empty segments and
// backslashes make no difference.
func Redact(path string) string {
	decoded := path
	for range 4 { // as deep as ParsePath looks
		next := escape.ReplaceAllStringFunc(decoded, unescape)
		if next == decoded {
			break
		}
		decoded = next
	}
	if short, found := withoutToken(decoded); found {
		return short
	}
	return path
}

// escape is decoded one by one: a path with a bad escape in it hides no token from [Redact].
var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func unescape(e string) string {
	b, err := strconv.ParseUint(e[1:], 16, 8)
	if err != nil {
		return e
	}
	return string([]byte{byte(b)})
}

func withoutToken(path string) (short string, found bool) {
	var login, tokens bool // below auth or token; directly below auth/token
	for at := 0; at < len(path); {
		end := len(path)
		if n := strings.IndexAny(path[at:], `/\`); n >= 0 {
			end = at + n
		}
		seg := strings.ToLower(strings.TrimFunc(path[at:end], notLetter))
		switch {
		case looksLikeToken(path[at:end]):
			return path[:at] + hiddenToken, true
		case seg == "": // "//", "/./" and "/../" change nothing
		case login && namesToken(seg), tokens && seg != "create" && seg != "roles":
			if strings.Trim(path[end:], `/\`) == "" {
				return "", false
			}
			return path[:end] + "/" + hiddenToken, true
		default:
			tokens = login && strings.HasPrefix(seg, "token")
			login = login || strings.HasPrefix(seg, "auth") || strings.HasPrefix(seg, "token")
		}
		at = end + 1
	}
	return "", false
}

func notLetter(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }

// namesToken reports whether a token may follow a segment.
func namesToken(seg string) bool {
	return strings.HasPrefix(seg, "lookup") || strings.HasPrefix(seg, "renew") || strings.HasPrefix(seg, "revoke")
}

// looksLikeToken reports whether a segment contains a token by its form, the one of old servers
// included.
func looksLikeToken(seg string) bool {
	seg = strings.ToLower(seg)
	if strings.Contains(seg, "hvs.") || strings.Contains(seg, "hvb.") || strings.Contains(seg, "hvr.") {
		return true
	}
	return len(seg) >= 24 && (strings.HasPrefix(seg, "s.") || strings.HasPrefix(seg, "b."))
}
