package kv_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

type fields = map[string]any

var (
	two  = map[string]string{"version": "2"}
	root = "mount/" + enginetest.UUID + "/" // of the engine's keys
)

// fixture is one mount of the engine.
type fixture struct {
	*enginetest.World
	t *testing.T
}

// open mounts version 1 or, with options, 2. st may be the store of another fixture.
func open(t *testing.T, options map[string]string, st storage.Store) *fixture {
	t.Helper()
	return &fixture{
		enginetest.Open(t, kv.Type, enginetest.Config{Store: st, Settings: engine.Settings{Options: options}}), t,
	}
}

// put writes a secret of version 2.
func (w *fixture) put(path, value string) *enginetest.Answer {
	w.t.Helper()
	return w.Must(w.t, route.Write, "data/"+path, fields{"data": fields{"v": value}})
}

// get returns the value and version of a secret of version 2; 0: there is none.
func (w *fixture) get(path string) (value string, version int) {
	w.t.Helper()
	a, err := w.Do(route.Read, "data/"+path, nil)
	if fault.Is(err, fault.NotFound) {
		return "", 0
	}
	if err != nil {
		w.t.Fatalf("reading %s: %v", path, err)
	}
	var out struct {
		Data     struct{ V string }
		Metadata struct{ Version int }
	}
	if err := json.Unmarshal([]byte(a.Text), &out); err != nil {
		w.t.Fatal(err)
	}
	return out.Data.V, out.Metadata.Version
}

// wantCurrent checks the current value and version at a path.
func (w *fixture) wantCurrent(path, value string, version int) {
	w.t.Helper()
	if v, n := w.get(path); v != value || n != version {
		w.t.Errorf("%s is %q in version %d, want %q in %d", path, v, n, value, version)
	}
}

// keys returns the names of a list, separated by commas, or "none" for a 404.
func (w *fixture) keys(path string, more ...fields) string {
	w.t.Helper()
	var body any
	if len(more) > 0 && more[0] != nil {
		body = more[0]
	}
	a, err := w.Do(route.List, path, body)
	if fault.Is(err, fault.NotFound) {
		return "none"
	}
	if err != nil {
		w.t.Fatalf("listing %s: %v", path, err)
	}
	var names []string
	for _, k := range a.Data["keys"].([]any) {
		names = append(names, fmt.Sprint(k))
	}
	return strings.Join(names, ",")
}

// rows counts the engine's rows below a prefix.
func (w *fixture) rows(prefix string) (n int) {
	w.t.Helper()
	for _, err := range w.View.Scan(w.t.Context(), root+prefix, storage.PrefixEnd(root+prefix)) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}
