package rotate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

func TestMarkerRoundTrip(t *testing.T) {
	longest := Marker{strings.Repeat("a", 8), strings.Repeat("k", 32), 1<<32 - 1, 1<<16 - 1}
	if n := len(longest.String()); n > MarkerMax || !longest.Valid() {
		t.Errorf("longest marker %q has %d bytes, valid %v", longest, n, longest.Valid())
	}
	for _, m := range []Marker{longest, {"x1", "stripe", 1, 0}, {"x1", Tag("Team A/Stripe"), 7, 12}} {
		got, ok := ParseMarker(m.String())
		if !ok || got != m {
			t.Errorf("ParseMarker(%q) = %v, %v", m, got, ok)
		}
	}
}

func TestParseMarkerRefuses(t *testing.T) {
	for _, s := range []string{
		"", "kt:", "kt:a/b/1", "kt:a/b/1/1/1", "kt:a/b/01/1", "kt:a/b/1/-1", "kt:a/b/1/+1", "KT:a/b/1/1", "kt:A/b/1/1",
		"kt:a/b c/1/1", "kt:a/b/4294967296/1", "kt:a/b/1/65536", "kt:a//1/1", " kt:a/b/1/1", "kt:a/b/1/1\n",
		"kt:toolongid/b/1/1",
	} {
		if m, ok := ParseMarker(s); ok || !m.IsZero() {
			t.Errorf("ParseMarker(%q) = %v, %v; want refused", s, m, ok)
		}
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add("kt:a1/stripe/3/1")
	f.Add("kt:a1/stripe/3/1 ")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := ParseMarker(s)
		if ok && m.String() != s {
			t.Errorf("ParseMarker(%q) is %q as text", s, m)
		}
		if ok && len(s) > MarkerMax {
			t.Errorf("a marker of %d bytes", len(s))
		}
	})
}

func TestTag(t *testing.T) {
	for _, name := range []string{"stripe", "Stripe", "stripe.live", "", strings.Repeat("x", 33), "日本", "a/b", "a b"} {
		tag := Tag(name)
		if m := (Marker{"a", tag, 1, 1}); !m.Valid() {
			t.Errorf("Tag(%q) = %q makes no valid marker", name, tag)
		}
		if plain := plainTag.MatchString(name); plain != (tag == name) {
			t.Errorf("Tag(%q) = %q", name, tag)
		}
	}
	if Tag("Stripe") == Tag("STRIPE") {
		t.Error("two names have the same tag")
	}
}

func TestOutcome(t *testing.T) {
	for o := Unknown; o <= Alive; o++ {
		if got, ok := ParseOutcome(o.String()); !ok || got != o {
			t.Errorf("ParseOutcome(%q) = %v, %v", o, got, ok)
		}
	}
	if got := OutcomeOf(errors.New("anything")); got != Unknown {
		t.Errorf("an unclassified error is %v, want unknown", got)
	}
	wrapped := fmt.Errorf("rotating: %w", &Failure{Outcome: Exhausted, Err: errors.New("x")})
	if got := OutcomeOf(wrapped); got != Exhausted {
		t.Errorf("wrapped failure is %v, want exhausted", got)
	}
}

// FuzzMarkerCost: a marker is short, but labels at a provider may have any length.
func FuzzMarkerCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: MarkerMax, Parse: func(text string) error {
		if _, ok := ParseMarker(text); !ok {
			return errors.New("no marker")
		}
		return nil
	}}, costtest.Shape{Head: "kt:x/", Unit: "a", Tail: "/1/1"}, costtest.Shape{Head: "kt:x/y/", Unit: "9", Tail: "/1"})
}
