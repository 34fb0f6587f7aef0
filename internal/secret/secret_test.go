package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/secret"
)

const canary = "c4n4ry-Value"

// No printer shows the bytes, wherever in a structure the value stands.
func TestNoPrinterShowsIt(t *testing.T) {
	v := secret.Text(canary)
	type inner struct{ hidden secret.Value }
	holders := []any{
		v, &v, []secret.Value{v}, map[string]secret.Value{"k": v}, inner{v}, &inner{v}, struct{ V any }{v},
	}
	var all strings.Builder
	log := slog.New(slog.NewJSONHandler(&all, nil))
	text := slog.New(slog.NewTextHandler(&all, nil))
	for _, h := range holders {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&all, verb, h)
		}
		log.Info("x", "v", h)
		text.Info("x", "v", h)
		b, _ := json.Marshal(h)
		all.Write(b)
		var buf bytes.Buffer
		_ = gob.NewEncoder(&buf).Encode(h)
		all.Write(buf.Bytes())
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary)} {
		if strings.Contains(all.String(), form) {
			t.Fatalf("a printer showed %q", form)
		}
	}
	if v.RevealString() != canary {
		t.Fatal("Reveal does not")
	}
}

func TestValueIsItsOwn(t *testing.T) {
	b := []byte(canary)
	v := secret.New(b)
	b[0] = 'X'
	v.Reveal()[1] = 'X'
	if v.RevealString() != canary {
		t.Fatalf("the value changed with its source or its copy")
	}
}

// ours is an error with words of our own before the cause, as fault.Error is.
type ours struct {
	words string
	cause error
}

func (e ours) Error() string { return e.words + e.cause.Error() }
func (e ours) Unwrap() error { return e.cause }

func (e ours) Redacted(scrub func(error) error) error { return ours{e.words, scrub(e.cause)} }

// TestOwnWordsAreNotRedacted: what an error of ours says stays, whatever the secrets are. Its
// cause is what others wrote.
func TestOwnWordsAreNotRedacted(t *testing.T) {
	var r secret.Redactor
	r.Know(secret.Text("wrong"), secret.Text("{{password}}"))
	theirs := errors.New("FATAL: wrong, said the server")
	err := r.Error(ours{"wrong password; write {{password}}: ", ours{"wrong inside: ", theirs}})
	want := "wrong password; write {{password}}: wrong inside: FATAL: [secret], said the server"
	if err.Error() != want || errors.Is(err, theirs) {
		t.Errorf("got %q, want %q, and what others wrote cut off", err, want)
	}
}

// TestScrubIsBounded: however much a server writes, little of it is kept, and no part of a secret
// that stands across the cut.
func TestScrubIsBounded(t *testing.T) {
	const canary = "0123456789-canary-0123456789"
	var r secret.Redactor
	r.Know(secret.Text(canary))
	for at := range 4200 {
		got := r.Scrub(strings.Repeat("x", at) + canary + strings.Repeat("y", 1<<16))
		if len(got) > 4200 || strings.ContainsAny(got, "0123456789-") {
			t.Fatalf("a secret at %d: %d bytes, %q", at, len(got), got[max(0, len(got)-60):])
		}
	}
	if got := r.Scrub(strings.Repeat("é", 1<<16)); len(got) > 4200 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid: %v", len(got), utf8.ValidString(got))
	}
	if got := r.Scrub("short " + canary); got != "short [secret]" {
		t.Errorf("got %q", got)
	}
}

func TestRedactor(t *testing.T) {
	var r secret.Redactor
	r.Know(secret.Text(`p@ss "w/rd%`), secret.Text("ab"))
	for _, leak := range []string{
		`p@ss "w/rd%`, `p%40ss+%22w%2Frd%25`, `p@ss \"w/rd%`, "cEBzcyAidy9yZCU=", "cEBzcyAidy9yZCU",
	} {
		got := r.Scrub("before " + leak + " after")
		if strings.Contains(got, leak) || !strings.HasPrefix(got, "before ") {
			t.Errorf("Scrub left %q: %q", leak, got)
		}
	}
	if got := r.Scrub("grab"); got != "grab" {
		t.Errorf("a value of two letters made %q of grab", got)
	}
	err := r.Error(fmt.Errorf("outer: %w", errors.New(`has p@ss "w/rd% in it`)))
	if strings.Contains(err.Error(), "p@ss") || errors.Unwrap(err) != nil {
		t.Errorf("Error = %v, unwraps to %v", err, errors.Unwrap(err))
	}
}
