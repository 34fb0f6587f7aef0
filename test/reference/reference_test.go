package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/server/config"
)

// TestPagesAreFresh compares the committed pages with the code.
func TestPagesAreFresh(t *testing.T) {
	want, err := pages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := want[filepath.Base(f)]; !ok {
			t.Errorf("%s is written by nobody: delete it", f)
		}
	}
	for name, text := range want {
		have, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Errorf("docs/reference/%s: %v; run: make generate", name, err)
			continue
		}
		if d := cmp.Diff(string(have), text); d != "" {
			t.Errorf("docs/reference/%s is stale; run: make generate\n%s", name, d)
		}
	}
}

// TestServedIsFresh compares the routes in the command line with the server's.
func TestServedIsFresh(t *testing.T) {
	mounts, err := tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := servedFile(mounts)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(served)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), want); d != "" {
		t.Errorf("internal/cli/served.go is stale; run: make generate\n%s", d)
	}
}

// TestEveryParameterIsDescribed checks that each route and each parameter has a description.
func TestEveryParameterIsDescribed(t *testing.T) {
	mounts, err := tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	routes, params := 0, 0
	for _, m := range mounts {
		if m.about == "" {
			t.Errorf("%s: say in places what it is", m.name)
		}
		for _, r := range m.routes {
			at := fmt.Sprintf("%s %s%s", r.Op, m.at, r.Pattern)
			routes++
			describes(t, at, r.Help)
			for _, p := range r.Params() {
				params++
				describes(t, at+": "+p.Name, p.Doc)
			}
		}
	}
	t.Logf("%d routes, %d parameters", routes, params)
}

func describes(t *testing.T, what, doc string) {
	t.Helper()
	if doc == "" {
		t.Errorf("%s: no description; say what it is for, in the tag doc or WithParam (a route: WithHelp)", what)
	} else if !strings.HasSuffix(doc, ".") {
		t.Errorf("%s: the description %q is no sentence", what, doc)
	}
}

func TestEveryCommandIsDescribed(t *testing.T) {
	for _, p := range commandPages(t.Context()) {
		if p.Short == "" || p.Own == "" && p.Long == "" {
			t.Errorf("keyturn %s: no description", p.Line)
		}
		for _, f := range p.Flags {
			if f.Usage == "" {
				t.Errorf("keyturn %s -%s: no description", p.Line, f.Name)
			}
		}
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	for _, f := range config.Fields(config.Known{Storage: plugins.StorageDrivers, Seals: plugins.Seals}) {
		if f.Type == "" || f.Doc == "" {
			t.Errorf("%s %s: no type or no description; add it where the key is", f.Block, f.Name)
		}
	}
	for _, a := range config.AbsentKeys() {
		if a.Instead == "" {
			t.Errorf("%s %s: nothing says what to do instead", a.Block, a.Name)
		}
	}
}

func TestEverySeriesIsDescribed(t *testing.T) {
	text, err := series(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("../../internal/server/metrics/testdata/series.golden")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		if rest, ok := strings.CutPrefix(line, "TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if !strings.Contains(text, "| `"+name+"` |") {
				t.Errorf("%s is not on the page", name)
			}
		}
	}
}
