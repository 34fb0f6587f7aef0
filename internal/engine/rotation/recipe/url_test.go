package recipe

import (
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/secret"
)

// TestURLEscapes: in a URL a value of the provider's, or of whoever writes a key by hand, stands
// in urlencode(…) alone, whatever else is done with it.
func TestURLEscapes(t *testing.T) {
	with := func(url string) string {
		return strings.Replace(minimal("{}"), `"https://api.example.com/keys/${urlencode(key.id)}"`, url, 1)
	}
	const base = "https://api.example.com/keys/"
	for _, bad := range []string{
		`"` + base + `${key.id}"`, `"` + base + `${lower(key.id)}"`, `"` + base + `${format("%s", key.id)}"`,
		`format("` + base + `%s", key.id)`,
		`join("/", ["` + base + `", key.id])`, `"` + base + `${true ? key.id : "x"}"`, `"` + base + `${[key.id][0]}"`,
		`"` + base + `${(key.id)}"`,
		`"` + base + `${coalesce(key.id, "x")}"`, `"` + base + `${trimspace(urlencode(key.id))}${key["id"]}"`,
		`"` + base + `${{ a = key.id }.a}"`,
		`"` + base + `${join("", [for k in [key.id] : k])}"`, `key.id`, `"${key.id}"`, `"` + base + `${admin.token}"`,
		`coalesce(key.id, "` + base + `")`,
		`"` + base + `${try(key.id, "x")}"`, `"` + base + `%{ if true }${key.id}%{ endif }"`,
		`"` + base + `${replace(key.id, "/", "")}"`,
	} {
		if _, err := parse("r.hcl", []byte(with(bad))); err == nil || !strings.Contains(err.Error(), "urlencode(…)") {
			t.Errorf("%s: %v, want a refusal that names urlencode", bad, err)
		}
	}
	for _, good := range []string{
		`"` + base + `${urlencode(key.id)}"`, `"` + base + `${urlencode(lower(key.id))}"`,
		`"` + base + `${key.id == "x" ? "y" : urlencode(key.id)}"`,
		`format("` + base + `%s", urlencode(key.id))`, `"` + base + `${lower(urlencode(key.id))}"`,
	} {
		if _, err := parse("r.hcl", []byte(with(good))); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// TestEmptyIDNamesNoKey: the URL of a key whose ID is empty would be the one of all keys.
func TestEmptyIDNamesNoKey(t *testing.T) {
	for id, want := range map[string]string{"": "the ID of the key is empty", "k1": ""} {
		r, err := parse("r.hcl", []byte(minimal("{}")))
		if err != nil {
			t.Fatal(err)
		}
		ev := &evaluator{redactor: new(secret.Redactor)}
		vars := ev.vars(t.Context(), scope{"key": cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(id)})})
		_, err = ev.address(&r.retire.step, vars)
		if got := ""; err != nil {
			if got = err.Error(); want == "" || !strings.Contains(got, want) {
				t.Errorf("ID %q: %v", id, err)
			}
		} else if want != "" {
			t.Errorf("ID %q makes a URL", id)
		}
	}
}
