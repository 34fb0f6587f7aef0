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

// A Redactor knows the secrets that one request or one rotation has revealed, and removes them
// from texts of third parties. Drivers and HTTP clients print URLs, bodies and passwords in their
// errors, so these texts pass a Redactor before they get into a log, a journal or a lease. Safe
// for concurrent use.
type Redactor struct {
	mu    sync.Mutex
	forms []string // longest first, so that no part of a longer form is left
}

// shortest is the minimum length of a value that is removed, because removing a secret of three
// letters would destroy every message.
const shortest = 4

// Know adds values to remove: plain, URL-escaped (path and query form), JSON-escaped and in both
// base64 alphabets.
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

// longest is the maximum length of a scrubbed text, because a server can send a gigabyte of error.
const longest = 4 << 10

// Scrub returns a third party's text with every known secret replaced, and shortened. Do not use
// it for our own texts: a secret may be a word in them, and the text would become useless.
// internal/arch checks that.
func (r *Redactor) Scrub(words string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A secret may extend over the limit, so scrub more than the limit, by the length of the
	// longest secret, and then remove that.
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

// mixed is an error that knows which part of its text is ours, like [fault.Error].
type mixed interface {
	Redacted(scrub func(error) error) error
}

// Error returns err without known secrets. In an error of our own, only the cause is redacted. An
// error of a third party is replaced by its scrubbed text, without the errors that it wraps. A nil
// err stays nil.
func (r *Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	if m, ok := err.(mixed); ok {
		return m.Redacted(r.Error)
	}
	return errors.New(r.Scrub(err.Error()))
}
