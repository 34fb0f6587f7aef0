package inprocess_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// compliance returns a page as words: each path, with "?" if there is a finding.
func (w *everything) compliance(t *testing.T, token, body string) (words, next string, untracked float64) {
	t.Helper()
	data := w.must(t, route.Read, "rotation/compliance", token, body).Data
	var all []string
	for _, s := range data["secrets"].([]any) {
		secret := s.(map[string]any)
		word := secret["path"].(string)
		if secret["finding"] != "" {
			word += "?"
		} else if secret["late_seconds"].(float64) <= 0 && !strings.Contains(body, "untracked") {
			t.Errorf("%v is listed and not late", secret)
		}
		all = append(all, word)
	}
	return strings.Join(all, " "), data["next"].(string), data["untracked"].(float64)
}

// TestCompliance: one list has what is late in all mounts, worst first, in pages, and only what
// the caller may read.
func TestCompliance(t *testing.T) {
	w := startEverything(t)
	w.must(t, route.Write, "sys/mounts/static", w.root, `{"type":"kv-v2"}`)
	dated := func(path, rotated string) {
		t.Helper()
		w.must(t, route.Write, path, w.root, `{"data":{"api_key":"canary","rotated_at":"`+rotated+`"}}`)
	}
	dated("static/data/c", "2003-01-01T00:00:00Z")
	dated("secret/data/b", "2002-01-01T00:00:00Z")
	dated("static/data/a", "2001-01-01T00:00:00Z")
	dated("static/data/same", "2001-01-01T00:00:00Z")
	dated("secret/data/same", "2001-01-01T00:00:00Z")
	dated("secret/data/future", "2999-01-01T00:00:00Z")
	dated("static/data/wrong", "canary")
	w.must(t, route.Write, "static/data/plain", w.root, `{"data":{"api_key":"k"}}`)
	w.must(t, route.Write, "secret/data/noted", w.root, `{"data":{"api_key":"k"}}`)
	w.must(t, route.Write, "secret/metadata/noted", w.root,
		`{"custom_metadata":{"rotated_at":"2004-01-01T00:00:00Z","class":"low-risk"}}`)
	w.must(t, route.Write, "secret/data/published", w.root, `{"data":{"rotated_at":"2001-01-01T00:00:00Z"}}`)
	w.must(t, route.Write, "rotation/keys/stripe", w.root, publishing("stripe", "secret/published"))

	const all = "secret/same static/a static/same secret/b static/c secret/noted secret/future? static/wrong?"
	got, next, untracked := w.compliance(t, w.root, "")
	if got != all || next != "" || untracked != 1 {
		t.Errorf("root sees %q, next %q, %v untracked", got, next, untracked)
	}
	if got, _, _ := w.compliance(t, w.root, `{"untracked":true}`); got != "static/plain" {
		t.Errorf("the untracked secrets are %q", got)
	}
	for limit := 1; limit < 10; limit++ {
		var pages []string
		for next := ""; ; {
			var got string
			got, next, _ = w.compliance(t, w.root, fmt.Sprintf(`{"limit":%d,"after":"%s"}`, limit, next))
			if n := len(strings.Fields(got)); n > limit {
				t.Errorf("a page of %d has %d secrets", limit, n)
			}
			if pages = append(pages, got); next == "" {
				break
			}
		}
		if got := strings.Join(pages, " "); got != all {
			t.Errorf("in pages of %d: %q", limit, got)
		}
	}
	for rules, want := range map[string]string{
		"": "",
		`path "static/data/*" { capabilities = ["read"] }`:              "static/a static/same static/c static/wrong?",
		`path "static/data/*" { capabilities = ["update"] }`:            "",
		`path "+/metadata/*" { capabilities = ["read"] }`:               "secret/noted", // no dates of data
		`path "secret/data/noted" { capabilities = ["read"] }`:          "secret/noted",
		`path "secret/metadata/same" { capabilities = ["read","list"]}`: "",
	} {
		w.must(t, route.Write, "sys/policies/acl/auditor", w.root, `{"policy":"`+strings.ReplaceAll(
			`path "rotation/compliance" { capabilities = ["read"] } `+rules, `"`, `\"`)+`"}`)
		token := w.must(t, route.Write, "auth/token/create", w.root,
			`{"policies":["auditor"]}`).Auth["client_token"].(string)
		got, _, untracked := w.compliance(t, token, "")
		if got != want {
			t.Errorf("with %q, the list is %q, want %q", rules, got, want)
		}
		if sees := strings.Contains(rules, "static/data/*\" { capabilities = [\"read") ||
			strings.Contains(rules, "+/metadata"); sees != (untracked == 1) {
			t.Errorf("with %q, %v are untracked", rules, untracked)
		}
	}
	for _, cursor := range []string{"x", "2001/secret/same", strings.Repeat("A", 20000)} {
		if _, err := w.ask(t, route.Read, "rotation/compliance", w.root, `{"after":"`+cursor+`"}`); !fault.Is(err,
			fault.Invalid) {
			t.Errorf("the cursor %.20q: %v, want it refused", cursor, err)
		}
	}
	for _, op := range []string{"", `{"untracked":true}`} {
		if a := w.must(t, route.Read, "rotation/compliance", w.root, op); strings.Contains(a.Body, "canary") {
			t.Errorf("the list shows a secret: %s", a.Body)
		}
	}
}
