package recipe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
			if err := Provider.Replay(t.Context(), d, script); err != nil {
				t.Error(err)
			}
		})
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
