package rotation_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// byCron writes the path of an external key as the mount of kv does.
func (w *world) byCron(value string, force bool) (warnings []string, err error) {
	w.Helper()
	w.kv.mu.Lock()
	defer w.kv.mu.Unlock()
	at := w.kv.paths["secret/stripe"]
	if at == nil {
		at = &kvPath{rotations: map[string]int{}}
		w.kv.paths["secret/stripe"] = at
	}
	fields := map[string]secret.Value{"api_key": secret.Text(value), "note": secret.Text("n")}
	o := engine.Overwrite{Path: "secret/stripe", Version: at.version + 1, Changed: []string{"api_key"}, Fields: fields,
		By: "cron", Force: force, Shown: true,
		Warn: func(format string, _ ...any) { warnings = append(warnings, format) }}
	w.kv.mu.Unlock()
	err = w.Engine.(engine.Publisher).Overwritten(w.Context(), "x/stripe", o, func(along []storage.Op) error {
		if len(along) == 0 {
			return nil
		}
		_, err := w.View.Commit(w.Context(), along...)
		return err
	})
	w.kv.mu.Lock()
	if err == nil {
		at.version++
		at.fields = map[string]string{"api_key": value}
		at.keep()
	}
	return warnings, err
}

func (w *world) external() map[string]any {
	w.Helper()
	return w.Must(w, route.Read, "external/stripe", nil).Data
}

// TestExternal: a write by anybody with a key that is empty or null is refused, a good one is
// accepted and journaled, and the key is overdue when its class says so.
func TestExternal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, rotationtest.VendorConfig{})
		w.Must(t, route.Write, "external/stripe",
			map[string]any{"path": "secret/stripe", "fields": []string{"api_key"}, "class": "financial"})
		for _, wrong := range []string{"", " \n", "null", "null\n"} {
			_, err := w.byCron(wrong, false)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), `the field "api_key" is`) {
				t.Errorf("a write of %q: %v, want it refused", wrong, err)
			}
		}
		if got := w.external(); got["current_key_id"] != "" || got["refused_writes"] != 1.0 ||
			got["refused_write_by"] != "cron" {
			t.Errorf("after refused writes: %v", got)
		}
		start := time.Now()
		if warnings, err := w.byCron("sk_1", false); err != nil || len(warnings) > 0 {
			t.Errorf("a good write: %v, warned %q", err, warnings)
		}
		got := w.external()
		next, _ := time.Parse(time.RFC3339Nano, got["next_rotation"].(string))
		after := next.Sub(start).Round(time.Hour)
		if got["current_key_id"] != "version-1" || got["rotation"] != 1.0 || after != 30*24*time.Hour {
			t.Errorf("after a good write: %v", got)
		}
		time.Sleep(20 * 24 * time.Hour)
		if _, err := w.byCron("sk_2", false); err != nil {
			t.Fatal(err)
		}
		history := w.Must(t, route.Read, "external/stripe/history", nil).Text
		for _, want := range []string{`"by":"cron"`, `"version":2`, `"version":1`} {
			if !strings.Contains(history, want) {
				t.Errorf("the history lacks %s: %s", want, history)
			}
		}
		// A rollback is no rotation: the key is as old as it was.
		time.Sleep(24 * time.Hour)
		if _, err := w.byCron("sk_1", false); err != nil {
			t.Fatal(err)
		}
		got = w.external()
		if last := got["last_rotated"].(string); !strings.HasPrefix(last, start.UTC().Format("2006-01-02T15:04")) {
			t.Errorf("after a rollback, the key was rotated at %s, want %s", last, start)
		}
		w.Drive(t, start.Add(29*24*time.Hour), func() bool { return false })
		if got := w.external(); got["alert"] != "" {
			t.Errorf("before the deadline: %v", got["alert"])
		}
		w.Drive(t, start.Add(30*24*time.Hour+time.Hour), func() bool { return false })
		got = w.external()
		if alert := got["alert"].(string); !strings.Contains(alert, "is overdue") || got["overdue"] != true {
			t.Errorf("after the deadline: %v", got)
		}
		if status := w.Must(t, route.Read, "status", map[string]any{"failing": true}).Text; !strings.Contains(status,
			`"path":"rotation/external/stripe"`) || !strings.Contains(status, `"class":"financial"`) {
			t.Errorf("the status is %s", status)
		}
		if _, err := w.byCron("sk_3", false); err != nil {
			t.Fatal(err)
		}
		if got := w.external(); got["alert"] != "" || got["overdue"] != false {
			t.Errorf("after a rotation: %v", got)
		}
		// A forced write is stored with an alert, which the next good one ends.
		if warnings, err := w.byCron("null", true); err != nil || len(warnings) == 0 {
			t.Errorf("by force: %q, %v", warnings, err)
		}
		if alert := w.external()["alert"].(string); !strings.Contains(alert, "kv rollback -version=4 secret/stripe") {
			t.Errorf("after a forced write: %q", alert)
		}
		if _, err := w.byCron("sk_4", false); err != nil || w.external()["alert"] != "" {
			t.Errorf("after a good write: %v, %v", err, w.external()["alert"])
		}
		w.Must(t, route.Delete, "external/stripe", nil)
		if _, err := w.byCron("null", false); err != nil {
			t.Errorf("after the registration has ended: %v", err)
		}
		if n := w.Work(t); n != 0 {
			t.Errorf("%d due items are left", n)
		}
		w.Stop()
	})
}

// TestExternalConfig: a registration with a mistake changes nothing.
func TestExternalConfig(t *testing.T) {
	w := newWorld(t, rotationtest.VendorConfig{})
	good := map[string]any{"path": "secret/stripe", "fields": []string{"api_key"}}
	for name, c := range map[string]struct {
		field string
		value any
		want  string
	}{
		"no path":      {"path", "", `field "path" is required`},
		"slashes":      {"path", "/secret/stripe", "begins or ends with a slash"},
		"dots":         {"path", "secret/../x", `field "path"`},
		"no fields":    {"fields", []string{}, `field "fields" is required`},
		"own fields":   {"fields", []string{"rotated_at"}, `field "fields"`},
		"class":        {"class", "gold", `field "class"`},
		"period":       {"rotation_period", "1s", `field "rotation_period"`},
		"no recipe":    {"recipe", "missing", `there is no recipe "missing"`},
		"creates":      {"recipe", "fake", `creates keys itself`},
		"params alone": {"params", map[string]any{"a": "b"}, `belong to a recipe`},
	} {
		body := map[string]any{c.field: c.value}
		for k, v := range good {
			if _, given := body[k]; !given {
				body[k] = v
			}
		}
		w.Refused(t, route.Write, "external/stripe", body, fault.Invalid, c.want)
		if a, err := w.Do(route.Read, "external/stripe", nil); err == nil && a.Data != nil {
			t.Errorf("%s: something was stored: %s", name, a.Text)
		}
	}
	for policy, want := range map[string]string{"outsiders": "writing", "writers": "reading"} {
		caller := &route.Caller{DisplayName: "eve", Policies: []string{policy}}
		if _, err := w.As(t.Context(), caller, route.Write, "external/stripe", good); !fault.Is(err, fault.Denied) ||
			!strings.Contains(fault.Message(err), want) {
			t.Errorf("by %s: %v, want it denied", policy, err)
		}
	}
}

// TestExternalFields: a key is as old as its youngest field, and other fields are checked anew.
func TestExternalFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, rotationtest.VendorConfig{})
		w.kv.write("secret/stripe", map[string]string{"note": "n"})
		time.Sleep(10 * 24 * time.Hour)
		register := func(fields ...string) {
			w.Must(t, route.Write, "external/stripe",
				map[string]any{"path": "secret/stripe", "fields": fields, "class": "financial"})
		}
		register("api_key", "note")
		if _, err := w.byCron("sk_1", false); err != nil {
			t.Fatal(err)
		}
		got := w.external()
		if last, _ := time.Parse(time.RFC3339Nano, got["last_rotated"].(string)); time.Since(last) > time.Minute {
			t.Errorf("the new key was rotated at %s, with the note: %v", last, got)
		}
		register("api_key")
		if now := w.external(); now["current_key_id"] != "" || now["last_rotated"] != got["last_rotated"] {
			t.Errorf("with other fields, the recorded key counts as right: %v", now)
		}
	})
}
