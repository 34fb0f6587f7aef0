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

// Canaries are secrets planted in a server, to be looked for where they must
// not be. They are safe for concurrent use.
type Canaries struct {
	mu     sync.Mutex        // guards all
	secret map[string][]form // by what it is
}

// Plant remembers a secret under what it is, and returns it.
func (c *Canaries) Plant(what, secret string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret == nil {
		c.secret = map[string][]form{}
	}
	c.secret[what] = forms(secret)
	return secret
}

// Found lists which secrets are in the text, as they are or in a form that
// programs print: escaped, in base64, in hexadecimal.
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
	quoted, _ := json.Marshal(s) // of a string it does not fail
	all := []form{
		{"plain", []byte(s)}, {"JSON", bytes.Trim(quoted, `"`)}, {"Go", []byte(strings.Trim(strconv.Quote(s), `"`))},
		{"URL", []byte(url.QueryEscape(s))}, {"URL path", []byte(url.PathEscape(s))}, {"hex", hex.AppendEncode(nil, []byte(s))},
	}
	// Base64 of a text in which the secret begins at any of three places; the
	// characters at its ends depend on what is around.
	for shift := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		whole = whole[(shift*8+5)/6 : (shift+len(s))*8/6]
		all = append(all, form{"base64", []byte(whole)}, form{"base64 for URLs", []byte(strings.NewReplacer("+", "-", "/", "_").Replace(whole))})
	}
	return all
}
