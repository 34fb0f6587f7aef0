package enginetest

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/route"
)

// A Log is what a mount logs. It is safe for concurrent use.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

// String is all of the log.
func (l *Log) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// With is a body with more over it; what is nil there is left out.
func With(base, more map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, base)
	maps.Copy(out, more)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// Save writes what is stored below prefixes to a file, for [World.Restore] of later versions, and
// ends the engine.
func (w *World) Save(t testing.TB, file string, prefixes ...string) {
	t.Helper()
	if err := os.WriteFile(file, w.Rows(t, prefixes...), 0o644); err != nil {
		t.Fatal(err)
	}
	w.Stop()
}

// Restore ends the engine and stores what an earlier version has stored. [World.Reopen] opens it
// then.
func (w *World) Restore(t testing.TB, file string) (rows string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	w.Load(t, text)
	return string(text)
}

// WarnsOfUnknown wants each write to succeed, and to warn of a parameter that the path does not
// have.
func (w *World) WarnsOfUnknown(t testing.TB, parameter string, writes map[string]map[string]any) {
	t.Helper()
	for path, body := range writes {
		a := w.Must(t, route.Write, path, With(body, map[string]any{parameter: true}))
		if !strings.Contains(strings.Join(a.Warnings, "\n"), `unknown parameter "`+parameter+`"`) {
			t.Errorf("%s: warnings %q", path, a.Warnings)
		}
	}
}

// Write makes a request of which the error alone matters.
func (w *World) Write(path string, body any) error {
	_, err := w.Do(route.Write, path, body)
	return err
}
