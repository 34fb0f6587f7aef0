package recipe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestRecorded plays every recipe's recorded exchanges; a recipe without them fails.
func TestRecorded(t *testing.T) {
	definitions, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	if len(definitions) == 0 {
		t.Fatal("there are no recipes")
	}
	for _, d := range definitions {
		t.Run(d.Name, func(t *testing.T) {
			script, err := os.ReadFile(filepath.Join("../../../../recipes/testdata", d.Name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { // for the waiting between two polls
				if err := Provider.Replay(t.Context(), d, script); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// recorded reads a recipe's recorded exchanges.
func recorded(t *testing.T, name string) (out script) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../../recipes/testdata", name+".json"))
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRecordedFailures requires of each vendor's recording the failures that a rotation must tell
// apart: refused credentials, a missing permission, too many calls, a lost reply whose key the
// list finds, a key that is alive and one that is dead.
func TestRecordedFailures(t *testing.T) {
	definitions, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		if d.Name == "http-demo" {
			continue
		}
		seen, lost := map[string]bool{}, ""
		for _, step := range recorded(t, d.Name).Steps {
			if len(step.Exchanges) == 0 {
				continue // refused before a call
			}
			last := step.Exchanges[len(step.Exchanges)-1].Reply
			seen[fmt.Sprintf("%s %d %s", step.Call, last.Status, step.Want.Outcome)] = true
			seen[step.Call+" "+step.Want.Outcome] = true
			switch {
			case step.Call == "create" && last.Cut:
				lost = step.Marker
			case step.Call == "list" && slices.ContainsFunc(step.Want.Keys, func(key string) bool {
				return lost != "" && strings.HasSuffix(key, " "+lost)
			}):
				seen["the key of a lost reply is found"] = true
			case step.Want.Retry > 0:
				seen[step.Call+" asks for a retry later"] = true
			}
		}
		for _, want := range []string{"create unknown", "the key of a lost reply is found", "create 401 permanent",
			"create 403 permanent", "create 429 transient", "create asks for a retry later", "create 503 unknown",
			"verify rejected", "verify dead alive", "retire permanent"} {
			if !seen[want] {
				t.Errorf("%s: the recording lacks %q", d.Name, want)
			}
		}
	}
}

// TestNoFullAccess: SendGrid gives full access to a key without scopes, so none is ever created.
func TestNoFullAccess(t *testing.T) {
	d := definition(t, "sendgrid")
	config := rotation.OpenConfig{Definition: d, Admin: map[string]secret.Value{"token": secret.Text(adminCanary)}}
	if _, err := open(config, &replay{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("without scopes: %v", err)
	}
	config.Params = map[string]json.RawMessage{"scopes": json.RawMessage(`[]`)}
	requests := &replay{}
	s, err := open(config, requests)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), order); rotate.OutcomeOf(err) != rotate.Permanent || requests.wrong != nil {
		t.Errorf("no scopes in the list: %v, %v; want no request", err, requests.wrong)
	}
}

// TestTableOfRecipes: docs/recipes.md has a row for each built-in recipe.
func TestTableOfRecipes(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		if d.Name != "http-demo" && !strings.Contains(string(page), "\n| `"+d.Name+"` |") {
			t.Errorf("docs/recipes.md has no row for %s", d.Name)
		}
		if strings.Contains(d.Evidence, "\n") || !strings.HasSuffix(d.Evidence, ".") {
			t.Errorf("the evidence of %s is not sentences on one line: %q", d.Name, d.Evidence)
		}
	}
}

// TestScriptsAreExact: a script passes only if all that it says is so. Each request and each
// result is changed in turn, and left out in turn.
func TestScriptsAreExact(t *testing.T) {
	d := demo(t)
	text, err := os.ReadFile("../../../../recipes/testdata/http-demo.json")
	if err != nil {
		t.Fatal(err)
	}
	var script map[string]any
	if err := json.Unmarshal(text, &script); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		changed, err := json.Marshal(script)
		if err != nil {
			t.Fatal(err)
		}
		if err := Provider.Replay(t.Context(), d, changed); err == nil {
			t.Errorf("the script passes with %s", what)
		}
	}
	var each func(path string, v any, set func(any))
	each = func(path string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				each(path+"."+key, inner, func(to any) { v[key] = to })
				if strings.Contains(path+key, "headers") {
					continue // only those that matter are named
				}
				delete(v, key)
				refused(path + "." + key + " left out")
				v[key] = inner
			}
		case []any:
			for i, inner := range v {
				each(path, inner, func(to any) { v[i] = to })
			}
		case string:
			set(v + "x")
			refused(path + " of " + v + "x")
			set(v)
		}
	}
	n := 0
	for _, s := range script["steps"].([]any) {
		step := s.(map[string]any)
		call := step["call"].(string)
		each(call+" want", step["want"], nil)
		for _, e := range step["exchanges"].([]any) {
			each(call+" request", e.(map[string]any)["request"], nil)
			n++
		}
	}
	if err := Provider.Replay(t.Context(), d, text); err != nil || n == 0 {
		t.Errorf("the script as it is: %v, %d exchanges", err, n)
	}
}
