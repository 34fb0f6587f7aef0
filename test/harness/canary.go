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
	mu     sync.Mutex // guards all
	secret map[string]string
}

// Plant remembers a secret under what it is, and returns it.
func (c *Canaries) Plant(what, secret string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret == nil {
		c.secret = map[string]string{}
	}
	c.secret[what] = secret
	return secret
}

// Found lists which secrets are in the text, as they are or in a form that
// programs print: escaped, in base64, in hexadecimal.
func (c *Canaries) Found(text []byte) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, what := range slices.Sorted(maps.Keys(c.secret)) {
		for form, needle := range forms(c.secret[what]) {
			if bytes.Contains(text, []byte(needle)) {
				found = append(found, what+" ("+form+")")
			}
		}
	}
	return found
}

func forms(s string) map[string]string {
	quoted, _ := json.Marshal(s) // of a string it does not fail
	all := map[string]string{
		"plain": s, "URL": url.QueryEscape(s), "URL path": url.PathEscape(s), "JSON": strings.Trim(string(quoted), `"`),
		"Go": strings.Trim(strconv.Quote(s), `"`), "hex": hex.EncodeToString([]byte(s)),
	}
	// Base64 of a text in which the secret begins at any of three places; the
	// characters at its ends depend on what is around.
	for shift := range 3 {
		whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		from, to := (shift*8+5)/6, (shift+len(s))*8/6
		all["base64+"+strconv.Itoa(shift)] = whole[from:to]
		all["base64url+"+strconv.Itoa(shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(whole[from:to])
	}
	return all
}
