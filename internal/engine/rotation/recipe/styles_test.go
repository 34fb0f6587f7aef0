package recipe

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// slotted is a recipe with two slots.
const slotted = `name = "slotted"
description = "d"
style = "slots"
slots = ["key1", "key2"]
evidence = "e"
hosts = ["api.example.com"]
admin "token" { description = "d" }
auth "bearer" { token = admin.token }
create {
  url    = "https://api.example.com/regenerate"
  json   = { name = slot }
  secret = { api_key = response.json[slot] }
  example = { status = 200, json = { key1 = "one", key2 = "two" } }
}
verify {
  url = "https://api.example.com/use"
  auth "bearer" { token = key.api_key }
}
retire {
  method = "POST"
  url    = "https://api.example.com/regenerate"
  json   = { name = key.slot }
}
`

// TestSlots: create regenerates the slot that is not in use, retire the slot of a key, and the ID
// of a key says which slot and which rotation it comes from.
func TestSlots(t *testing.T) {
	values, n := map[string]string{"key1": "old-1", "key2": "old-2"}, 0
	s := plain(t, slotted, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/regenerate":
			var in struct{ Name string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || values[in.Name] == "" {
				t.Errorf("a request for %q: %v", in.Name, err)
			}
			n++
			values[in.Name] = fmt.Sprint("value-", n)
			_ = json.NewEncoder(w).Encode(values)
		case "/use":
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			if token != values["key1"] && token != values["key2"] {
				w.WriteHeader(401)
			}
		}
	})
	o := order
	o.Current = "key1"
	c, err := s.Create(t.Context(), o)
	if err != nil || c.ID != "key2#1.1" || c.Secret["api_key"].RevealString() != values["key2"] {
		t.Fatalf("created %q: %v", c.ID, err)
	}
	o.Marker.Turn, o.Current = 2, c.ID
	next, err := s.Create(t.Context(), o)
	if err != nil || next.ID != "key1#2.1" {
		t.Fatalf("created %q: %v", next.ID, err)
	}
	if err := s.Retire(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if s.VerifyDead(t.Context(), c) != nil || s.Verify(t.Context(), next) != nil {
		t.Error("the wrong slot was retired")
	}
	o.Current = "elsewhere"
	if _, err := s.Create(t.Context(), o); rotate.OutcomeOf(err) != rotate.Permanent || n != 3 {
		t.Errorf("with a current key in no slot: %v", err)
	}
}

// byHand is a recipe whose keys a person creates and deletes.
const byHand = `name = "by-hand"
description = "d"
style = "manual"
evidence = "e"
hosts = ["api.example.com"]
supply {
  instructions = "open https://example.com/keys."
  secret       = ["api_key"]
  public       = ["account"]
}
verify {
  url = "https://api.example.com/use?account=${urlencode(key.account)}"
  auth "bearer" { token = key.api_key }
}
`

func TestManual(t *testing.T) {
	d, err := Provider.Parse("by-hand.hcl", []byte(byHand))
	if err != nil {
		t.Fatal(err)
	}
	if can := d.Can; !can.CreatedByHand || !can.RetiredByHand || d.Instructions != "open https://example.com/keys" {
		t.Errorf("parsed %+v", d)
	}
	with, err := Provider.Parse("by-hand.hcl", []byte(byHand+`
retire {
  method = "DELETE"
  url    = "https://api.example.com/keys/${urlencode(key.id)}"
}
`))
	if err == nil || !strings.Contains(err.Error(), "verify must show that the ID belongs to the key") {
		t.Errorf("a retire of whatever ID is supplied: %v", err)
	}
	with, err = Provider.Parse("by-hand.hcl",
		[]byte(strings.Replace(byHand, "{\n  url = \"https://api.example.com/use",
			"{\n  expect { when = response.json.id == key.id }\n  url = \"https://api.example.com/use", 1)+`
retire {
  method = "DELETE"
  url    = "https://api.example.com/keys/${urlencode(key.id)}"
}
`))
	if err != nil || with.Can.RetiredByHand {
		t.Errorf("with a retire: %+v, %v", with.Can, err)
	}
	s := plain(t, strings.Replace(byHand, "supply {", "admin \"token\" { description = \"d\" }\nsupply {", 1),
		func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer good" || r.URL.Query().Get("account") != "acme" {
				w.WriteHeader(401)
			}
			_, _ = io.WriteString(w, "{}")
		})
	c := rotate.Credential{ID: "x", Secret: map[string]secret.Value{"api_key": secret.Text("good")},
		Public: map[string]string{"account": "acme"}}
	if err := s.Verify(t.Context(), c); err != nil {
		t.Error(err)
	}
	if _, err := s.Create(t.Context(), order); err == nil {
		t.Error("a key was created")
	}
	if err := s.Retire(t.Context(), "x"); err == nil {
		t.Error("a key was retired")
	}
}

// TestStylesRehearsed: the test of a recipe replays its examples in every style.
func TestStylesRehearsed(t *testing.T) {
	for name, text := range map[string]string{"slots": slotted, "manual": byHand} {
		d, err := Provider.Parse("x.hcl", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		admin := map[string]secret.Value{}
		for _, f := range d.Admin {
			admin[f.Name] = secret.Text("x")
		}
		s, err := Provider.OpenExamples(rotation.OpenConfig{Definition: d, Admin: admin})
		if err != nil {
			t.Fatal(err)
		}
		var steps []string
		run := rotation.RecipeTest{Definition: d, Source: s, Marker: order.Marker,
			OnStep: func(step, found string,
				err error) {
				steps = append(steps, fmt.Sprint(step, " ", found, " ", err))
			}}
		left, err := run.Run(t.Context())
		if err != nil || len(left) > 0 {
			t.Errorf("%s: %v, left %v: %q", name, err, left, steps)
		}
		run.Wait = 1
		if _, err := run.Run(t.Context()); err == nil {
			t.Errorf("%s: a test with a real key regenerates a slot that may be in use, or creates nothing", name)
		}
	}
}
