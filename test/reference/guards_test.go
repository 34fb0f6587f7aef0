package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/route"
)

var request = regexp.MustCompile("`([A-Z]+) ([a-z]+/[^`]+)`")

// TestGuardsAreDocumented holds the table "What guards the guards" of docs/security-model.md
// against the routes: each request is there and takes what the table says, and each that changes
// something and demands sudo stands in it.
func TestGuardsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/security-model.md")
	if err != nil {
		t.Fatal(err)
	}
	takes := guards(string(page))
	if len(takes) == 0 {
		t.Fatal("the table was not found")
	}
	mounts, err := tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range mounts {
		for i := range m.routes {
			r := &m.routes[i]
			name := verbs[r.Op] + " " + m.at + r.Pattern
			caps, told := takes[name]
			there[name] = true
			if r.Sudo && !told && (r.Op == route.Write || r.Op == route.Delete) {
				t.Errorf("%s demands sudo, and docs/security-model.md does not say what it can do: add a row to the "+
					"table \"What guards the guards\"", name)
			}
			if told && slices.Contains(caps, "sudo") != r.Sudo {
				t.Errorf("%s takes %q, says docs/security-model.md; that it demands sudo is %v", name, caps, r.Sudo)
			}
			if told && !slices.Contains(caps, capability(r.Op)) {
				t.Errorf("%s takes %q, says docs/security-model.md, without %s", name, caps, capability(r.Op))
			}
		}
	}
	for name := range takes {
		if !there[name] {
			t.Errorf("docs/security-model.md tells of %s, which is no route", name)
		}
	}
}

func capability(op route.Op) string {
	if op == route.Write {
		return "update"
	}
	return string(op)
}

// guards reads the table: what each request takes.
func guards(page string) map[string][]string {
	takes := map[string][]string{}
	_, page, _ = strings.Cut(page, "## What guards the guards")
	page, _, _ = strings.Cut(page, "\n## ")
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 3 {
			continue
		}
		for _, m := range request.FindAllStringSubmatch(cells[0], -1) {
			takes[m[1]+" "+m[2]] = strings.Split(cells[2], ", ")
		}
	}
	return takes
}
