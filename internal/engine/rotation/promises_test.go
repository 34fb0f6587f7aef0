package rotation_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// spacious is a family with an optional second admin credential, with a param that routes nothing
// before one that does, and with many outputs.
func spacious(fake rotation.Provider) rotation.Provider {
	definitions := func(own bool) ([]rotation.Definition, error) {
		ds, err := fake.Definitions()
		if own {
			d := &ds[0]
			d.Provider, d.Name, d.Hash = "spacious", "spacious", "spacious:1"
			d.Admin = append(slices.Clone(d.Admin), rotation.Field{Name: "org", Type: "string"})
			d.Params = []rotation.Field{{Name: "note", Type: "string"}, {Name: "url", Type: "string", Routes: true}}
			d.Settle = rotate.Settle{Successes: 2, Interval: 11 * time.Second, Timeout: 13 * time.Minute}
			for i := range 24 {
				d.Outputs = append(d.Outputs, rotation.Output{Name: fmt.Sprintf("o%d", i)})
			}
		}
		return ds, err
	}
	return rotation.Provider{
		Name:        "spacious",
		Definitions: func() ([]rotation.Definition, error) { return definitions(true) },
		Open: func(c rotation.OpenConfig) (rotation.Source, error) {
			for name := range c.Params {
				if name != "note" && name != "url" {
					return nil, fault.New("spacious", fault.Invalid, "params.%s is not known", name)
				}
			}
			ds, err := definitions(false)
			if err != nil {
				return nil, err
			}
			c.Definition = ds[0]
			return fake.Open(c)
		},
	}
}

// office runs a test in a bubble whose world also has the spacious family.
func office(t *testing.T, test func(w *world)) {
	t.Helper()
	bubble(t, func(w *world) {
		w.types = append(w.types, spacious(w.types[0]))
		w.Reopen(w)
		test(w)
	})
}

// roomy returns the configuration of a key of the spacious family.
func roomy(more map[string]any) map[string]any {
	body := basic(map[string]any{
		"recipe": "spacious", "admin": map[string]string{"token": adminToken, "org": "acme"},
		"fields": map[string]string{"api_key": "api_key"},
		"params": map[string]string{"note": "a", "url": "https://a"}, "skip_import_rotation": true,
	})
	maps.Copy(body, more)
	return body
}

// warnings makes a request that must succeed and returns its warnings.
func (w *world) warnings(op route.Op, path string, body any) []string {
	w.Helper()
	return w.Must(w, op, path, body).Warnings
}

// warns makes a request that must succeed with a warning that contains want, or without one if
// want is "".
func (w *world) warns(op route.Op, path string, body any, want string) {
	w.Helper()
	got := w.warnings(op, path, body)
	if want == "" && len(got) > 0 || want != "" && !contains(strings.Join(got, "\n"), want) {
		w.Errorf("%s %s %v: warnings %q, want %q", op, path, body, got, want)
	}
}

// TestStoredAdminCredentialsStayWhereTheyWereSent: a write that points a key elsewhere – to
// another address, authority or path – uses only the admin credentials that it gives.
func TestStoredAdminCredentialsStayWhereTheyWereSent(t *testing.T) {
	office(t, func(w *world) {
		known := map[string]any{"token": adminToken}
		for _, tt := range []struct {
			name string
			op   route.Op
			body map[string]any
			keep bool
		}{
			{"timing", route.Patch, map[string]any{"rotation_period": "800h"}, true},
			{"a param that routes nothing", route.Patch, map[string]any{"params": map[string]string{"note": "b"}},
				true},
			{"another address", route.Patch, map[string]any{"params": map[string]string{"url": "https://b"}}, false},
			{"another authority", route.Patch, map[string]any{"ca": authority}, false},
			{"another path", route.Patch, map[string]any{"path": "secret/other"}, false},
			{"other fields", route.Patch, map[string]any{"fields": map[string]string{"api_key": "x"}}, false},
			{"the whole configuration", route.Write, roomy(nil), false},
		} {
			w.must(route.Write, "keys/demo", roomy(nil))
			tt.body["admin"] = known
			w.must(tt.op, "keys/demo", tt.body)
			want := "[token]"
			if tt.keep {
				want = "[org token]"
			}
			if got := fmt.Sprint(w.status()["admin_fields"]); got != want {
				t.Errorf("with %s, the key has the admin credentials %s, want %s", tt.name, got, want)
			}
			if fields := w.status()["fields"].(map[string]any); len(fields) != 1 {
				t.Errorf("with %s, the key publishes %v, want what was configured", tt.name, fields)
			}
			w.must(route.Delete, "keys/demo", nil)
		}
		w.must(route.Write, "keys/demo", roomy(nil))
		w.must(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"note": "b"}}) // needs none
		w.refused(route.Patch, "keys/demo",
			map[string]any{"params": map[string]string{"nothing": "b"}, "admin": known}, fault.Invalid,
			"params.nothing is not known")
		w.must(route.Patch, "keys/demo", map[string]any{"admin": map[string]any{"org": nil}})
		if got := fmt.Sprint(w.status()["admin_fields"]); got != "[token]" {
			t.Errorf("after clearing one: %s", got)
		}
	})
}

// TestChangesWarn: a write warns if it affects the credential in use, and only then.
func TestChangesWarn(t *testing.T) {
	workshop(t, func(w *world) {
		admin := map[string]string{"token": adminToken}
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:1"})
		w.warns(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}), "")
		// nothing is published yet
		w.warns(route.Patch, "keys/demo", map[string]any{"path": "secret/second", "admin": admin}, "")
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		current := w.status()["current_key_id"].(string)
		w.warns(route.Patch, "keys/demo", map[string]any{"path": "secret/demo", "admin": admin},
			`nothing is published at "secret/demo" before the next rotation`)
		w.warns(route.Patch, "keys/demo", map[string]any{"path": "secret/demo"}, "")
		w.warns(route.Patch, "keys/demo", map[string]any{"rotation_period": "800h"}, "")
		w.warns(route.Write, "keys/demo", map[string]any{"recipe": "mine", "path": "secret/demo"},
			"rotation_period was 800h0m0s and is now 1440h0m0s, the default")
		w.warns(route.Write, "keys/demo", map[string]any{"recipe": "mine", "path": "secret/demo"}, "")
		w.warns(route.Write, "keys/demo",
			map[string]any{"recipe": "mine", "path": "secret/demo", "rotation_period": "700h"}, "")
		w.warns(route.Write, "recipes/mine", map[string]any{"source": "mine:1"}, "")
		w.warns(route.Write, "recipes/mine", map[string]any{"source": "mine:2"}, `key "demo" keeps the earlier text`)
		w.warns(route.Patch, "keys/demo", map[string]any{"read_ttl": "30s"},
			`recipe "mine" has changed since the key was bound to it`)
		// Rebind keeps the key in use; with another recipe, a person must delete it.
		w.warns(route.Write, "keys/demo/rebind", nil, "")
		if id := w.status()["current_key_id"]; id != current {
			t.Errorf("after rebind, the current key is %q, want %q", id, current)
		}
		w.warns(route.Patch, "keys/demo", map[string]any{"read_ttl": "30s"}, "")
		w.warns(route.Patch, "keys/demo", map[string]any{"recipe": "house", "admin": admin},
			"key "+current+` was created by "mine" and is no longer managed here`)
		if id := w.status()["current_key_id"]; id != "" {
			t.Errorf("with another recipe, the current key is %q, want none", id)
		}
		w.warns(route.Delete, "keys/demo", nil, "")
		w.rotatedOnce()
		current = w.status()["current_key_id"].(string)
		w.warns(route.Delete, "keys/demo", nil,
			fmt.Sprintf("stay valid at the provider, and nobody rotates or retires them any more: [%q]", current))
	})
}

// TestForcedDeletionNamesValidKeys: deleting a key during a rotation names all its keys at the
// provider, each once.
func TestForcedDeletionNamesValidKeys(t *testing.T) {
	bubble(t, func(w *world) {
		w.inGrace(nil)
		warned := strings.Join(w.warnings(route.Delete, "keys/demo", map[string]any{"force": true}), "\n")
		for _, k := range w.vendor.Live() {
			if strings.Count(warned, k.ID) != 1 {
				t.Errorf("key %s is valid, and the warning is %q", k.ID, warned)
			}
		}
	})
}

// TestAWriteNeedsAPath: the error for an existing key says how to keep other fields.
func TestAWriteNeedsAPath(t *testing.T) {
	bubble(t, func(w *world) {
		body := basic(map[string]any{"skip_import_rotation": true})
		delete(body, "path")
		w.refused(route.Write, "keys/demo", body, fault.Invalid, `such as "secret/stripe"`)
		w.must(route.Write, "keys/demo", basic(nil))
		w.refused(route.Write, "keys/demo", body, fault.Invalid, "patch keys/demo")
		w.must(route.Patch, "keys/demo", map[string]any{"read_ttl": "30s"})
	})
}

// TestLimitsOfAKey: each limit is exact.
func TestLimitsOfAKey(t *testing.T) {
	office(t, func(w *world) {
		named := func(n int) map[string]any {
			return map[string]any{"fields": map[string]string{"api_key": strings.Repeat("f", n)}}
		}
		many := func(n int) map[string]any {
			fields := map[string]string{}
			for i := range n {
				fields[fmt.Sprintf("o%d", i)] = fmt.Sprint(i)
			}
			fields["o0"] = "api_key"
			return map[string]any{"fields": fields}
		}
		ca := func(n int) map[string]any {
			return map[string]any{"ca": authority + strings.Repeat("\n", n-len(authority))}
		}
		for name, tt := range map[string]struct{ most, more map[string]any }{
			"a field's name":   {named(256), named(257)},
			"published fields": {many(24), map[string]any{"fields": map[string]string{}}},
			"an authority":     {ca(64 << 10), ca(64<<10 + 1)},
		} {
			w.must(route.Write, "keys/demo", roomy(tt.most))
			w.must(route.Delete, "keys/demo", nil)
			if _, err := w.do(route.Write, "keys/demo", roomy(tt.more)); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: one more than the most: %v", name, err)
			}
		}
	})
}

// TestSettlingIsTheRecipesOrTheKeys: each of the settings alone.
func TestSettlingIsTheRecipesOrTheKeys(t *testing.T) {
	office(t, func(w *world) {
		for _, tt := range []struct {
			own               map[string]any
			interval, timeout float64
		}{
			{nil, 11, 780}, {map[string]any{"settle_interval": 0, "settle_timeout": 0}, 11, 780},
			{map[string]any{"settle_interval": "3s"}, 3, 780}, {map[string]any{"settle_timeout": "5m"}, 11, 300},
		} {
			w.must(route.Write, "keys/demo", roomy(tt.own))
			if got := w.status()["settle"].(map[string]any); got["interval"] != tt.interval ||
				got["timeout"] != tt.timeout {
				t.Errorf("with %v the key settles by %v, want %v and %v", tt.own, got, tt.interval, tt.timeout)
			}
		}
	})
}

// TestPlacesThatWereNeverReserved: a key from before places were reserved keeps its place, a
// damaged record blocks nobody, and if the records cannot be read, nothing is written.
func TestPlacesThatWereNeverReserved(t *testing.T) {
	bubble(t, func(w *world) {
		admin := map[string]any{"token": adminToken}
		w.must(route.Write, "keys/demo", basic(nil))
		w.must(route.Write, "keys/second", basic(map[string]any{"path": "secret/second"}))
		for e, err := range w.View.Scan(w.Context(), "place/", storage.PrefixEnd("place/")) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.View.Commit(w.Context(), storage.Remove(e.Key)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.View.Commit(w.Context(), storage.Set("mount/m/k/alone", []byte("damaged"))); err != nil {
			t.Fatal(err)
		}
		w.refused(route.Write, "keys/third", basic(nil), fault.Conflict, `key "demo" already publishes to`)
		w.refused(route.Patch, "keys/second", map[string]any{"path": "secret/demo", "admin": admin}, fault.Conflict,
			`key "demo" already publishes to`)
		w.must(route.Write, "keys/third", basic(map[string]any{"path": "secret/third"}))
		w.unlisted.Store(true)
		w.Reopen(w)
		if _, err := w.do(route.Write, "keys/fourth", basic(map[string]any{"path": "secret/fourth"})); !fault.Is(err,
			fault.Upstream) {
			t.Errorf("a key whose neighbours cannot be read: %v", err)
		}
	})
}

// TestAdoptingTwice: a client that sends its whole configuration again repeats the ID of the key
// that it had adopted, for as long as that is the one in use.
func TestAdoptingTwice(t *testing.T) {
	bubble(t, func(w *world) {
		theirs, err := w.vendor.Create(t.Context(), adminToken, "by hand")
		if err != nil {
			t.Fatal(err)
		}
		body := basic(map[string]any{"current_key_id": theirs.ID, "skip_import_rotation": true})
		w.must(route.Write, "keys/demo", body)
		w.must(route.Write, "keys/demo", body)
		// changes nothing, and needs no admin credentials
		w.must(route.Patch, "keys/demo", map[string]any{"current_key_id": theirs.ID})
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.refused(route.Patch, "keys/demo",
			map[string]any{"current_key_id": theirs.ID, "admin": map[string]any{"token": adminToken}}, fault.Conflict,
			"the key has been rotated since")
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
		w.must(route.Patch, "keys/demo", map[string]any{"current_key_id": w.idOf(w.value())})
	})
}

// TestPlanShowsWhatWillHappen: its steps are those that the provider's capabilities ask for.
func TestPlanShowsWhatWillHappen(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		plan := func() map[string]any { w.Helper(); return w.must(route.Read, "keys/demo/plan", nil) }
		steps := func() string { w.Helper(); return fmt.Sprint(plan()["steps"]) }
		for _, want := range []string{"labelled with the rotation's marker", "idle", "disable it"} {
			if got := steps(); !contains(got, want) {
				t.Errorf("the plan lacks %q: %s", want, got)
			}
		}
		nap(48 * time.Hour) // and nobody works
		now := time.Now().UTC().Truncate(time.Second)
		if at, err := time.Parse(time.RFC3339,
			plan()["rotations"].([]any)[0].(map[string]any)["at"].(string)); err != nil || at.Before(now) {
			t.Errorf("the next rotation is planned for %v, which was before %v: %v", at, now, err)
		}
		if s := w.status(); s["overdue"] != true || s["overdue_seconds"].(float64) < 86400 ||
			s["overdue_seconds"].(float64) > 48*3600 {
			t.Errorf("nobody has worked for two days: overdue %v, by %v s", s["overdue"], s["overdue_seconds"])
		}
		w.can(func(can *rotate.Capabilities) { can.LastUsed, can.Disable, can.Label = false, false, false })
		for _, never := range []string{"labelled", "idle", "disable"} {
			if got := steps(); contains(got, never) {
				t.Errorf("the plan has %q, which the provider cannot do: %s", never, got)
			}
		}
	})
}

// can reopens the mount with other capabilities of the fake.
func (w *world) can(change func(*rotate.Capabilities)) {
	w.Helper()
	definitions := w.types[0].Definitions
	w.types[0].Definitions = func() ([]rotation.Definition, error) {
		ds, err := definitions()
		change(&ds[0].Can)
		return ds, err
	}
	w.Reopen(w)
}

// TestStatusOrder: what is longest overdue comes first, and unreadable records are reported.
func TestStatusOrder(t *testing.T) {
	bubble(t, func(w *world) {
		for i, name := range []string{"b", "c", "a"} { // the first is the longest overdue
			w.must(route.Write, "keys/"+name, basic(map[string]any{"path": fmt.Sprintf("secret/%d", i)}))
			nap(24 * time.Hour)
		}
		nap(24 * time.Hour)
		order := func() (paths []string) {
			for _, r := range w.must(route.Read, "status", nil)["records"].([]any) {
				paths = append(paths, r.(map[string]any)["path"].(string))
			}
			return paths
		}
		if got := fmt.Sprint(order()); got != "[rotation/keys/b rotation/keys/c rotation/keys/a]" {
			t.Errorf("the order is %s, want the longest overdue first", got)
		}
		if _, err := w.View.Commit(w.Context(), storage.Set("mount/m/k/damaged", []byte("damaged"))); err != nil {
			t.Fatal(err)
		}
		w.warns(route.Read, "status", nil, "rotation/keys/damaged cannot be read")
		if got := len(order()); got != 3 {
			t.Errorf("beside a damaged record, %d are shown, want 3", got)
		}
		w.unlisted.Store(true)
		w.Reopen(w)
		if out, err := w.do(route.Read, "status", nil); !fault.Is(err, fault.Upstream) {
			t.Errorf("from a store that cannot list: %v, %v", out, err)
		}
	})
}

// TestJournalNamesTheWrite and history names why a rotation was rolled back, though nobody has
// given a reason.
func TestJournalNamesTheWrite(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.must(route.Write, "keys/demo", basic(nil))
		var whats []string
		for _, row := range w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any) {
			whats = append(whats, row.(map[string]any)["what"].(string))
		}
		if got := fmt.Sprint(whats); got != "[created-key configured]" {
			t.Errorf("the journal says %s", got)
		}
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		for reason, want := range map[string]string{"": "requested, by ann",
			"the new one is slow": "the new one is slow, by ann"} {
			w.must(route.Write, "keys/demo/rotate", nil)
			w.until(rotate.Grace)
			w.must(route.Write, "keys/demo/rollback", map[string]any{"reason": reason})
			w.until(rotate.RollingBack)
			w.until(rotate.Scheduled)
			h := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)[0].(map[string]any)
			if h["rolled_back_because"] != want {
				t.Errorf("rolled back for %q: history says %q, want %q", reason, h["rolled_back_because"], want)
			}
		}
	})
}

// TestCreateAndUpdateAreDistinguished, for the policies.
func TestCreateAndUpdateAreDistinguished(t *testing.T) {
	bubble(t, func(w *world) {
		exists := func(name string) bool {
			found, r, err := w.Find(ann, route.Write, "keys/"+name, nil)
			if err != nil {
				t.Fatal(err)
			}
			is, err := found.Exists(w.Context(), r)
			if err != nil {
				t.Error(err)
			}
			return is
		}
		w.must(route.Write, "keys/demo", basic(nil))
		if !exists("demo") || exists("other") {
			t.Errorf("demo exists %v, other %v", exists("demo"), exists("other"))
		}
	})
}

// TestLengthOfARecipe: 64 KiB are accepted, and no more.
func TestLengthOfARecipe(t *testing.T) {
	workshop(t, func(w *world) {
		text := "long:" + strings.Repeat("x", 64<<10-5)
		w.must(route.Write, "recipes/long", map[string]any{"source": text})
		w.refused(route.Write, "recipes/long", map[string]any{"source": text + "x"}, fault.Invalid, "at most 64 KiB")
	})
}

// TestHandWriteThatLeavesOut: a write must not leave out a secret; leaving out a public output is
// only a warning; a field that was not there before may be left out.
func TestHandWriteThatLeavesOut(t *testing.T) {
	bubble(t, func(w *world) {
		p := spacious(w.types[0])
		definitions := p.Definitions
		p.Definitions = func() ([]rotation.Definition, error) {
			ds, err := definitions()
			for i := range ds[0].Outputs {
				ds[0].Outputs[i].Secret = ds[0].Outputs[i].Secret || ds[0].Outputs[i].Name == "o0"
			}
			return ds, err
		}
		w.types = append(w.types, p)
		w.Reopen(w)
		const refused = `it leaves out ["api_key"]`
		type fields = map[string]string
		for _, tt := range []struct {
			name          string
			second        string // output, by its field "label"
			before, after fields
			warns         string
			refuses       string
		}{
			{"both are written", "label", fields{"api_key": "KEY", "label": "a"},
				fields{"api_key": "KEY", "label": "b"}, "", ""},
			{"the public output is left out", "label", fields{"api_key": "KEY", "label": "a"},
				fields{"api_key": "KEY"}, `leaves out "label"`, ""},
			{"the public output was not there", "label", fields{"api_key": "other"}, fields{"api_key": "KEY"}, "", ""},
			{"the secret is left out", "label", fields{"api_key": "KEY", "label": "a"}, fields{"label": "a"}, "",
				refused},
			{"the secret was not there, and a public output is", "label", fields{}, fields{"label": "a"}, "", refused},
			{"a second secret was not there", "o0", fields{"api_key": "other"}, fields{"api_key": "KEY"}, "", ""},
			{"a second secret is left out", "o0", fields{"api_key": "other", "label": "a"}, fields{"api_key": "KEY"},
				"", `it leaves out ["label"]`},
			{"of two secrets, one is written for the first time", "o0", fields{}, fields{"label": "a"}, "", ""},
		} {
			w.must(route.Write, "keys/demo",
				roomy(map[string]any{"fields": fields{"api_key": "api_key", tt.second: "label"},
					"skip_import_rotation": false}))
			w.until(rotate.Grace)
			w.until(rotate.Scheduled)
			key := w.value()
			filled := func(f fields) fields {
				f = maps.Clone(f)
				if f["api_key"] == "KEY" {
					f["api_key"] = key
				}
				return f
			}
			w.kv.write("secret/demo", filled(tt.before))
			warnings, err := w.writeByHand(handWrite{fields: filled(tt.after)})
			got := strings.Join(warnings, "\n")
			if tt.refuses == "" && contains(fault.Message(err), "leaves out") || tt.refuses != "" &&
				!contains(fault.Message(err), tt.refuses) {
				t.Errorf("%s: %q, want %q", tt.name, fault.Message(err), tt.refuses)
			}
			if tt.warns == "" && contains(got, "leaves out") || !contains(got, tt.warns) {
				t.Errorf("%s: warnings %q, want %q", tt.name, got, tt.warns)
			}
			w.must(route.Delete, "keys/demo", map[string]any{"force": true})
			w.kv.paths = map[string]*kvPath{}
		}
	})
}

// TestProvidersDialByTheGuard: without a way out of its own, an engine connects as the host
// allows.
func TestProvidersDialByTheGuard(t *testing.T) {
	guard := fault.New("guard", fault.Denied, "not allowed")
	bubble(t, func(w *world) {
		var dial func(ctx context.Context, network, address string) (net.Conn, error)
		open := w.types[0].Open
		w.types[0].Open = func(c rotation.OpenConfig) (rotation.Source, error) { dial = c.Dial; return open(c) }
		for _, own := range []bool{false, true} {
			var network rotation.Network
			if own {
				network.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
			}
			guarded := w.open(enginetest.Config{ByHand: true, Host: func(h *engine.Host) {
				h.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, guard }
			}}, network)
			guarded.Must(t, route.Write, fmt.Sprintf("keys/own-%v", own),
				basic(map[string]any{"path": fmt.Sprintf("secret/%v", own), "skip_import_rotation": true}))
			if _, err := dial(t.Context(), "tcp", "192.0.2.1:443"); (err == nil) != own {
				t.Errorf("its own way out %v: dialing says %v", own, err)
			}
		}
	})
}

// authority returns the certificate of an authority, as PEM.
var authority = func() string {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}()
