package secret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// A Redactor knows the secrets that one request or one turn has revealed and
// takes them out of text that a third party wrote. Drivers and HTTP clients
// print URLs, bodies and passwords in their errors; their words pass a
// Redactor before any log, journal or lease lookup. Safe for concurrent use.
type Redactor struct {
	mu    sync.Mutex
	forms []string // longest first, so that no part of a longer form is left
}

// shortest is the length below which a value is not looked for: a secret of
// three letters would make confetti of every message.
const shortest = 4

// Know adds values to what is taken out: as they are, URL-escaped (path and
// query form), JSON-escaped and in both base64 alphabets.
func (r *Redactor) Know(values ...Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		s := v.RevealString()
		if len(s) < shortest {
			continue
		}
		quoted, _ := json.Marshal(s)
		for _, form := range []string{
			s, url.QueryEscape(s), url.PathEscape(s), strings.Trim(string(quoted), `"`),
			url.UserPassword("", s).String()[1:],
			base64.StdEncoding.EncodeToString([]byte(s)), base64.RawStdEncoding.EncodeToString([]byte(s)),
			base64.URLEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			if !slices.Contains(r.forms, form) {
				r.forms = append(r.forms, form)
			}
		}
	}
	slices.SortFunc(r.forms, func(a, b string) int { return len(b) - len(a) })
}

// Scrub returns text with every known secret replaced.
func (r *Redactor) Scrub(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.forms {
		text = strings.ReplaceAll(text, f, shown)
	}
	return text
}

// Error returns err with every known secret taken out of its text. The chain
// behind it is cut: what is wrapped would print itself. A nil err stays nil.
func (r *Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(r.Scrub(err.Error()))
}

func unquote(b []byte) (string, error) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return "", errors.New("secret: want a string")
	}
	return s, nil
}
