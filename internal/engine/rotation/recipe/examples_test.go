package recipe

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// try rehearses a recipe with its examples, and returns what was reported and sent.
func try(t *testing.T, d rotation.Definition, params map[string]json.RawMessage) (steps []string,
	sent []rotate.Exchange, err error) {
	t.Helper()
	admin := map[string]secret.Value{}
	for _, f := range d.Admin {
		admin[f.Name] = secret.Text("canary-admin")
	}
	s, err := Provider.OpenExamples(rotation.OpenConfig{
		Definition: d, Params: params, Admin: admin,
		OnExchange: func(x rotate.Exchange) { sent = append(sent, x) },
	})
	if err != nil {
		return nil, nil, err
	}
	run := rotation.RecipeTest{
		Definition: d, Source: s, Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1},
		OnStep: func(step, _ string, err error) { steps = append(steps, fmt.Sprintf("%s %t", step, err == nil)) },
	}
	_, err = run.Run(t.Context()) // example replies leave nothing behind
	return steps, sent, err
}

// TestExamples: the examples in every built-in recipe fit its expressions, and no secret is told
// of.
func TestExamples(t *testing.T) {
	all, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		steps, sent, err := try(t, d, recorded(t, d.Name).Params)
		if err != nil || len(steps) < 4 || steps[len(steps)-1] != "verify dead true" {
			t.Errorf("%s: %q, %v", d.Name, steps, err)
		}
		if shown := fmt.Sprintf("%+v", sent); strings.Contains(shown, "canary-admin") ||
			strings.Contains(shown, "ks_live_example") || strings.Contains(shown, "SG.xxxxxxxx.yyyyyyyy") ||
			strings.Contains(shown, "foobar") || strings.Contains(shown, "NRAK-EXAMPLE") {
			t.Errorf("%s: shows a secret: %s", d.Name, shown)
		}
	}
}

const small = `
name = "small"
description = "d"
style = "two-key"
evidence = "e"
hosts = ["api.example.com"]
admin "token" { description = "d" }
auth "bearer" { token = admin.token }
create {
  url    = "https://api.example.com/keys"
  json   = { name = marker }
  retry  = "never"
  id     = response.json.id
  secret = { key = response.json.key }
  %s
}
verify {
  url = "https://api.example.com/me"
  auth "bearer" { token = key.key }
  %s
}
retire {
  method = "DELETE"
  url    = "https://api.example.com/keys/${urlencode(key.id)}"
  %s
}
`

// TestExamplesThatFail: a test with example replies fails where a rotation would, with an error
// that names the place.
func TestExamplesThatFail(t *testing.T) {
	created := `example = { status = 201, json = { id = "1", key = "k" } }`
	for name, tt := range map[string]struct {
		create, verify, retire string
		steps, want            string
	}{
		"all is well": {created, "", "", "create true, verify true, publish true, retire true, verify dead true", ""},
		"no example":  {"", "", "", "create false", "small.hcl"},
		"another field": {`example = { status = 201, json = { id = "1", token = "k" } }`, "", "",
			"create false, retire true", "small.hcl:14:33"},
		"not a reply": {`example = { state = 201 }`, "", "", "create false", "the example is not a reply"},
		"no object":   {`example = "ok"`, "", "", "create false", "the example is not a reply"},
		"a status":    {`example = { status = 1 }`, "", "", "create false", "the example is not a reply"},
		"refused": {created, `example = { status = 401 }`, "",
			"create true, verify false, retire true, verify dead true", "401"},
		"alive": {created, `example_refused = { status = 200 }`, "",
			"create true, verify true, publish true, retire true, verify dead false", "still accepts"},
		"a body that is text": {`example = { status = 201, body = "{\"id\":\"2\",\"key\":\"k\"}", headers = { X-A = "b" } }`, "", "", "create true, verify true, publish true, retire true, verify dead true", ""},
	} {
		d, err := Provider.Parse("small.hcl", fmt.Appendf(nil, small, tt.create, tt.verify, tt.retire))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		steps, _, err := try(t, d, nil)
		if got := strings.Join(steps, ", "); got != tt.steps || (err == nil) != (tt.want == "") || err != nil &&
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %s, %v; want %s, %q", name, got, err, tt.steps, tt.want)
		}
	}
}
