package rotate

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestTable: every state has a step, and every transition leads to a state that ends.
func TestTable(t *testing.T) {
	for style, steps := range steps {
		table := transitions[style]
		for s := range steps {
			if len(table[s].next) == 0 {
				t.Errorf("%s: no transition leads out of %s", style, s)
			}
			if g := table[s].onFailure; g != "" && !slices.Contains(table[s].next, g) {
				t.Errorf("%s: %s fails to %s, which is not among its next states", style, s, g)
			}
		}
		for s, w := range table {
			for _, next := range w.next {
				if ended := slices.Contains([]State{Done, Failed, RolledBack}, next); steps[next] == nil && !ended {
					t.Errorf("%s: %s leads to %s, which has no step", style, s, next)
				}
			}
		}
	}
}

func FuzzNewTag(f *testing.F) {
	for _, name := range []string{"stripe", "Stripe.Live", "", "日本", "a b/c",
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"} {
		f.Add(name, "0b9e-77F1-3")
	}
	f.Fuzz(func(t *testing.T, name, id string) {
		inst := installation(id)
		if inst == "" {
			inst = "a"
		}
		m := Marker{Installation: inst, Key: NewTag(name), Turn: 1<<32 - 1, Attempt: 1<<16 - 1}
		if got, ok := ParseMarker(m.String()); !ok || got != m || len(m.String()) > MarkerMax {
			t.Errorf("key %q of installation %q makes the marker %q, read back as %v, %v", name, id, m, got, ok)
		}
		if one, two := NewTag(name), NewTag(name); one == two {
			t.Errorf("two records named %q have the same tag", name)
		}
	})
}

func TestSecretsRoundTrip(t *testing.T) {
	in := &Secrets{
		Admin: map[string]secret.Value{"token": secret.New([]byte{0, 255, 'x'})},
		Keys: map[string]Credential{"k1": {ID: "k1", Secret: map[string]secret.Value{"a": secret.Text("ä\x00")},
			Public: map[string]string{"p": "q"}, Expires: time.Unix(5, 0).UTC()}},
		Previous: map[string]secret.Value{"f": secret.Text("")},
	}
	b, err := in.encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := decodeSecrets(b)
	if err != nil {
		t.Fatal(err)
	}
	k := out.Keys["k1"]
	if !out.Admin["token"].Equal(in.Admin["token"]) || !k.Secret["a"].Equal(secret.Text("ä\x00")) ||
		k.Public["p"] != "q" || !k.Expires.Equal(time.Unix(5, 0)) || k.ID != "k1" {
		t.Errorf("read back %+v", out)
	}
	if _, ok := out.Previous["f"]; !ok {
		t.Error("an empty value is gone")
	}
	if _, err := decodeSecrets([]byte("{")); !fault.Is(err, fault.Internal) {
		t.Errorf("a damaged row: %v", err)
	}
}

func TestErrorTextIsRedactedAndShort(t *testing.T) {
	r := &Edit{Redactor: new(secret.Redactor)}
	r.Redactor.Know(secret.Text("canary-0815"))
	long := make([]byte, 2*maxText)
	for i := range long {
		long[i] = 'x'
	}
	if got := r.errorText(fault.New("op", fault.Upstream, "refused %s", long)); len(got) > maxText+10 {
		t.Errorf("%d bytes", len(got))
	}
	if got := r.errorText(&Failure{Err: fault.Wrap("op", fault.Upstream,
		errors.New("no canary-0815 here"))}); got != "op: no [secret] here" {
		t.Errorf("a third party's text: %q", got)
	}
	r.Redactor.Know(secret.Text("provider"))
	if got := r.errorText(&Failure{Err: fault.New("op", fault.Upstream,
		"the provider answered 401")}); got != "the provider answered 401" {
		t.Errorf("our own message: %q", got)
	}
}
