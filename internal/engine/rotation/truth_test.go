package rotation_test

import (
	"encoding/pem"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// TestWrittenByHand: a person writes the old key to the path while it is in its grace. Consumers
// read it, so it stays, and the new one is retired.
func TestWrittenByHand(t *testing.T) {
	// in its grace; the last one while it is disabled
	for _, when := range []time.Duration{time.Hour, 47 * time.Hour, 48*time.Hour + time.Minute} {
		bubble(t, func(w *world) {
			old, fresh := w.inGrace(nil)
			w.after(when)
			w.kv.write("secret/demo", map[string]string{"api_key": old})
			w.after(4 * 24 * time.Hour)
			s := w.status()
			if when > 48*time.Hour {
				if s["alert"] == "" || s["state"] != "retiring" {
					t.Errorf("a disabled key is published: %v", s)
				}
				w.wantLive(w.idOf(fresh)) // the old one is disabled, and can be enabled
				return
			}
			if s["state"] != "scheduled" || s["current_key_id"] != w.idOf(old) {
				t.Errorf("after a hand write at %v: %v", when, s)
			}
			if w.value() != old {
				t.Errorf("consumers read %q", w.value())
			}
			w.wantLive(w.idOf(old))
			h := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)[0].(map[string]any)
			if h["result"] != "rolled-back" || !contains(h["rolled_back_because"].(string), "somebody wrote the key") {
				t.Errorf("the history says %v", h)
			}
		})
	}
}

// TestLeakedKeyWrittenByHand: consumers stop reading a leaked key that somebody writes
// again.
func TestLeakedKeyWrittenByHand(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.run(time.Now().Add(time.Hour), func() bool {
			if w.value() != old && w.status()["state"] == "grace" {
				w.kv.write("secret/demo", map[string]string{"api_key": old})
				return true
			}
			return false
		})
		w.after(time.Hour)
		if w.value() == old || w.status()["state"] != "scheduled" {
			t.Errorf("consumers read the leaked key %v: %v", w.value() == old, w.status())
		}
		w.wantLive(w.idOf(w.value()))
	})
}

// TestDeletedPath: nothing at the path is an alert, which stays until the next rotation has
// published.
func TestDeletedPath(t *testing.T) {
	bubble(t, func(w *world) {
		w.inGrace(nil)
		w.kv.write("secret/demo", map[string]string{})
		w.until(rotate.Scheduled)
		if s := w.status(); !contains(s["alert"].(string), "is gone") {
			t.Errorf("there is no alert: %v", s)
		}
		w.rotated()
		if s := w.status(); s["alert"] != "" {
			t.Errorf("the alert stands: %v", s)
		}
	})
}

// TestLeakedWaitsForNoLostCall: the outcome of a creating call is unknown, and a leaked key is
// replaced nevertheless.
func TestLeakedWaitsForNoLostCall(t *testing.T) {
	for _, label := range []bool{true, false} {
		bubble(t, func(w *world) {
			w.rotatedOnce()
			old := w.value()
			if !label {
				w.unlabelled()
			}
			w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "late", Delay: rotationtest.FakeLate / 2})
			began := time.Now()
			w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
			w.run(began.Add(time.Hour), func() bool { return w.idOf(w.value()) != w.idOf(old) && !alive(w, old) })
			if took := time.Since(began); took > 3*time.Minute {
				t.Errorf("labels %v: the leaked key lived for %v", label, took)
			}
			w.until(rotate.Scheduled)
			w.wantLive(w.idOf(w.value()))
		})
	}
}

// alive reports whether the vendor accepts a secret.
func alive(w *world, value string) bool {
	for _, id := range rotationtest.LiveIDs(w.vendor)() {
		if id == w.idOf(value) {
			return true
		}
	}
	return false
}

// unlabelled makes the vendor's list show no labels from now on.
func (w *world) unlabelled() {
	w.Helper()
	p := w.types[0]
	defs, err := p.Definitions()
	if err != nil {
		w.Fatal(err)
	}
	defs[0].Can.Label = false
	p.Definitions = func() ([]rotation.Definition, error) { return defs, nil }
	w.types = []rotation.Provider{p}
	w.Reopen(w)
}

// TestAlertEndsWithItsCause: a call that fails is an alert with cause and remedy at once, which
// ends when the call succeeds and not with the rotation.
func TestAlertEndsWithItsCause(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		w.vendor.Inject(rotationtest.VendorFault{Call: "create", Mode: "before", Times: 2})
		w.must(route.Write, "keys/demo/rotate", nil)
		var seen []string
		w.run(time.Now().Add(time.Hour), func() bool {
			s := w.status()
			if a := s["alert"].(string); a != "" && (len(seen) == 0 || seen[len(seen)-1] != a) {
				seen = append(seen, a)
			}
			return s["state"] == "settling"
		})
		if len(seen) != 2 || !contains(seen[0], "creating has failed once") ||
			!contains(seen[1], "2 times in a row") || !contains(seen[1], "retried") {
			t.Errorf("the alerts were %q", seen)
		}
		if s := w.status(); s["alert"] != "" || s["last_error"] != "" {
			t.Errorf("once the call has succeeded: %v", s)
		}
		if !contains(w.logged.String(), "path=rotation/keys/demo rotation=2 step=creating class=unknown next_try=") {
			t.Errorf("the log says\n%s", w.logged.String())
		}
	})
}

// TestCA: a key's own authorities are given as PEM. A write that changes them must give the admin
// credentials again, because the authorities decide which server gets these.
func TestCA(t *testing.T) {
	bubble(t, func(w *world) {
		server := httptest.NewUnstartedServer(nil)
		server.StartTLS()
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		server.Close()
		w.must(route.Write, "keys/demo", basic(map[string]any{"fields": map[string]string{"api_key": "token"}}))
		w.refused(route.Patch, "keys/demo",
			map[string]any{"ca": "no PEM", "admin": map[string]string{"token": adminToken}}, fault.Invalid,
			`field "ca"`)
		w.refused(route.Patch, "keys/demo", map[string]any{"ca": ca}, fault.Invalid, `field "admin"`)
		w.must(route.Patch, "keys/demo", map[string]any{"ca": ca, "admin": map[string]string{"token": adminToken}})
		s := w.status()
		if s["ca"] != ca || s["fields"].(map[string]any)["api_key"] != "token" {
			t.Errorf("the key is %v", s)
		}
		w.must(route.Patch, "keys/demo", map[string]any{"rotation_period": "480h"})
		if s := w.status(); s["ca"] != ca {
			t.Errorf("a patch of something else has changed it: %v", s["ca"])
		}
	})
}

// TestStatus: everything that rotates is shown in one list, trouble first, and can be filtered.
func TestStatus(t *testing.T) {
	bubble(t, func(w *world) {
		for _, name := range []string{"a", "b", "c"} {
			w.must(route.Write, "keys/"+name, basic(map[string]any{"path": "secret/" + name}))
		}
		w.after(time.Hour)
		w.must(route.Patch, "keys/c", map[string]any{"admin": map[string]string{"token": "wrong-token-0000"}})
		w.must(route.Write, "keys/c/rotate", nil)
		w.must(route.Write, "keys/b/rotate", nil)
		w.after(time.Minute)
		paths := func(body any) (all []string) {
			for _, r := range w.must(route.Read, "status", body)["records"].([]any) {
				all = append(all, r.(map[string]any)["path"].(string))
			}
			return all
		}
		if got, want := paths(nil), []string{"rotation/keys/c", "rotation/keys/b",
			"rotation/keys/a"}; !slices.Equal(got, want) {
			t.Errorf("the list is %q, want %q", got, want)
		}
		if got := paths(map[string]any{"failing": true}); !slices.Equal(got, []string{"rotation/keys/c"}) {
			t.Errorf("failing are %q", got)
		}
		if got := paths(map[string]any{"overdue": true}); len(got) != 0 {
			t.Errorf("overdue are %q", got)
		}
		one := w.must(route.Read, "status", map[string]any{"limit": 1})
		if one["total"] != 3.0 || len(one["records"].([]any)) != 1 ||
			!contains(one["records"].([]any)[0].(map[string]any)["summary"].(string), "; paused") {
			t.Errorf("one of them: %v", one)
		}
	})
}

// TestAdoptNeedsLabels: a recipe that looks for keys of lost calls is refused if its list shows
// no labels.
func TestAdoptNeedsLabels(t *testing.T) {
	bubble(t, func(w *world) {
		p := w.types[0]
		p.Parse = func(file string, source []byte) (rotation.Definition, error) {
			all, err := w.types[0].Definitions()
			d := all[0]
			d.Name, d.Can.Label, d.Source = strings.TrimSuffix(file, ".hcl"), string(source) == "labels", source
			return d, err
		}
		w.types = []rotation.Provider{p}
		w.Reopen(w)
		w.refused(route.Write, "recipes/own", map[string]any{"source": "none"}, fault.Invalid, "adopt")
		w.must(route.Write, "recipes/own", map[string]any{"source": "labels"})
	})
}
