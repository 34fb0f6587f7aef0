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
// takes them out of text that a third party wrote, and out of nothing else. Drivers and HTTP clients
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

// longest is how much is kept of what others wrote: a server can send a gigabyte of error.
const longest = 4 << 10

// Scrub returns words of others with every known secret replaced, and cut where they are long. Words of our own are
// not given to it: a secret may be a word that they have, and an error would lose its sense. internal/arch
// holds callers to that.
func (r *Redactor) Scrub(words string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A secret may stand across the cut, where only its beginning is left. So as much as the longest takes is
	// looked at beyond, and thrown away afterwards.
	beyond := 0
	if len(r.forms) > 0 {
		beyond = len(r.forms[0])
	}
	cut := len(words)-longest > beyond
	if cut {
		words = words[:longest+beyond]
	}
	for _, f := range r.forms {
		words = strings.ReplaceAll(words, f, shown)
	}
	if cut {
		words = words[:max(0, len(words)-beyond)]
	}
	if len(words) > longest {
		words, cut = words[:longest], true
	}
	if cut {
		words = strings.ToValidUTF8(words, "") + "…"
	}
	return words
}

// mixed is an error that knows which part of its text is our own: [fault.Error].
type mixed interface {
	Redacted(scrub func(error) error) error
}

// Error returns err with every known secret taken out of what others wrote in it: where it is an error of our own, its
// text stays, and its cause is redacted. The chain behind what others wrote is cut: what is wrapped would print
// itself. A nil err stays nil.
func (r *Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	if m, ok := err.(mixed); ok {
		return m.Redacted(r.Error)
	}
	return errors.New(r.Scrub(err.Error()))
}
