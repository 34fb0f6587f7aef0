package recipe

import (
	"crypto/md5" //nolint:gosec // providers still ask for it (RFC 7616)
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/keyturn/keyturn/internal/fault"
)

// maxChallenge is the maximum size in bytes of all challenges of a reply. maxParts is the maximum
// number of their parameters.
const (
	maxChallenge = 8 << 10
	maxParts     = 100
)

// A challenge is a server's request for digest authentication (RFC 7616).
type challenge struct {
	realm, nonce, opaque string
	algorithm            string // as the server wrote it; "": MD5
	stale                bool
}

// strength ranks the algorithms that are supported. 0 is not supported.
func (c *challenge) strength() int {
	switch strings.ToUpper(c.algorithm) {
	case "SHA-256":
		return 2
	case "", "MD5":
		return 1
	}
	return 0
}

// sum returns the hex digest of a text.
func (c *challenge) sum(text string) string {
	if c.strength() == 2 {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sum := md5.Sum([]byte(text)) //nolint:gosec // as the server asks for it
	return hex.EncodeToString(sum[:])
}

// parseChallenges parses the headers WWW-Authenticate of a reply, and returns the strongest digest
// challenge that is supported: SHA-256 or MD5, with qop "auth". Other schemes are never used.
func parseChallenges(headers []string) (*challenge, error) {
	text := strings.Join(headers, ", ")
	if len(text) > maxChallenge {
		return nil, fault.New("recipe.digest", fault.Upstream,
			"the provider's challenge is larger than %d KiB; check the address", maxChallenge>>10)
	}
	var best *challenge
	for _, params := range digestParams(text) {
		c := &challenge{params["realm"], params["nonce"], params["opaque"], params["algorithm"],
			strings.EqualFold(params["stale"], "true")}
		qop := strings.FieldsFunc(strings.ToLower(params["qop"]), func(r rune) bool { return r == ',' || r == ' ' })
		if c.nonce != "" && c.strength() > 0 && slices.Contains(qop, "auth") &&
			(best == nil || c.strength() > best.strength()) {
			best = c
		}
	}
	if best == nil {
		return nil, fault.New("recipe.digest", fault.Upstream, "the provider offers no digest authentication with "+
			"SHA-256 or MD5 and qop \"auth\"; check the address, because no other authentication is used instead")
	}
	return best, nil
}

// digestParams returns the parameters of each digest challenge in a list of challenges.
func digestParams(text string) (all []map[string]string) {
	var params map[string]string
	for range maxParts {
		text = strings.TrimLeft(text, " \t,")
		end := strings.IndexAny(text, " \t,=")
		if text == "" || end == 0 {
			return all
		}
		if end < 0 {
			end = len(text)
		}
		word := strings.ToLower(text[:end])
		text = strings.TrimLeft(text[end:], " \t")
		if !strings.HasPrefix(text, "=") { // the scheme of the next challenge
			if params = map[string]string{}; word == "digest" {
				all = append(all, params)
			}
			continue
		}
		var value string
		value, text = digestValue(strings.TrimLeft(text[1:], " \t"))
		if _, ok := params[word]; !ok && params != nil {
			params[word] = value
		}
	}
	return all
}

// digestValue cuts a token or a quoted string off a text.
func digestValue(text string) (value, rest string) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, " \t,")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:]
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:]
		case '\\':
			if i++; i < len(text) {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(text[i])
		}
	}
	return "", ""
}

// authorization returns the header that answers the challenge.
func (c *challenge) authorization(method, uri, username, password, cnonce string) string {
	const count = "00000001" // each nonce is used once
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	secret := c.sum(username + ":" + c.realm + ":" + password)
	response := c.sum(strings.Join([]string{secret, c.nonce, count, cnonce, "auth", c.sum(method + ":" + uri)}, ":"))
	out := fmt.Sprintf(`Digest username=%s, realm=%s, nonce=%s, uri=%s, response="%s", qop=auth, nc=%s, cnonce="%s"`,
		quote(username), quote(c.realm), quote(c.nonce), quote(uri), response, count, cnonce)
	if c.algorithm != "" {
		out += ", algorithm=" + c.algorithm
	}
	if c.opaque != "" {
		out += ", opaque=" + quote(c.opaque)
	}
	return out
}

// answer adds the answer to a challenge to a request.
func (ev *evaluator) answer(r *http.Request, c *challenge, a *auth, vars scope) error {
	username, _, err := ev.text(a.username, vars)
	if err != nil {
		return err
	}
	password, _, err := ev.text(a.password, vars)
	if err != nil {
		return err
	}
	cnonce := make([]byte, 16)
	_, _ = rand.Read(cnonce) // never fails
	header := c.authorization(r.Method, r.URL.RequestURI(), username, password, hex.EncodeToString(cnonce))
	if username == "" || strings.Contains(username, ":") || !httpguts.ValidHeaderFieldValue(header) {
		return fault.New("recipe.digest", fault.Invalid,
			"%s: the username is empty or cannot be used for digest authentication; check the admin credentials",
			position(a.username.Range()))
	}
	r.Header.Set("Authorization", header)
	return nil
}
