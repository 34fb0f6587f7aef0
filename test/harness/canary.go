package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Canaries are secrets that tests plant in a server and look for where they must not be. They are
// safe for concurrent use.
type Canaries struct {
	mu     sync.Mutex        // guards the rest
	secret map[string][]form // by description
}

// Plant records a secret with its description, and returns it.
func (c *Canaries) Plant(what, secret string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret == nil {
		c.secret = map[string][]form{}
	}
	c.secret[what] = forms(secret)
	return secret
}

// Found returns the descriptions of the secrets in a text, plain or in a form that programs print:
// escaped, base64 or hexadecimal.
func (c *Canaries) Found(text []byte) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, what := range slices.Sorted(maps.Keys(c.secret)) {
		for _, form := range c.secret[what] {
			if bytes.Contains(text, form.text) {
				found = append(found, what+" ("+form.name+")")
				break
			}
		}
	}
	return found
}

type form struct {
	name string
	text []byte
}

func forms(s string) []form {
	quoted, _ := json.Marshal(s) // marshalling a string cannot fail
	all := []form{
		{"plain", []byte(s)}, {"JSON", bytes.Trim(quoted, `"`)}, {"Go", []byte(strings.Trim(strconv.Quote(s), `"`))},
		{"URL", []byte(url.QueryEscape(s))}, {"URL path", []byte(url.PathEscape(s))},
		{"hex", hex.AppendEncode(nil, []byte(s))},
	}
	// The base64 of a text with the secret at any of three offsets. The characters at the ends
	// depend on the surrounding text.
	for shift := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		whole = whole[(shift*8+5)/6 : (shift+len(s))*8/6]
		all = append(all, form{"base64", []byte(whole)},
			form{"base64 for URLs", []byte(strings.NewReplacer("+", "-", "/", "_").Replace(whole))})
	}
	return all
}
