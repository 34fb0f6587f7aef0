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

	"github.com/keyturn/keyturn/internal/secret"
)

const canary = "c4n4ry-Value"

// No printer shows the bytes, wherever in a structure the value stands.
func TestNoPrinterShowsIt(t *testing.T) {
	v := secret.Text(canary)
	type inner struct{ hidden secret.Value }
	holders := []any{v, &v, []secret.Value{v}, map[string]secret.Value{"k": v}, inner{v}, &inner{v}, struct{ V any }{v}}
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

func TestRedactor(t *testing.T) {
	var r secret.Redactor
	r.Know(secret.Text(`p@ss "w/rd%`), secret.Text("ab"))
	for _, leak := range []string{`p@ss "w/rd%`, `p%40ss+%22w%2Frd%25`, `p@ss \"w/rd%`, "cEBzcyAidy9yZCU=", "cEBzcyAidy9yZCU"} {
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
