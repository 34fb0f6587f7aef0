package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
)

// written is a family whose definitions users write: the text is a name, a colon and anything.
// Their keys come from the fake.
func written(fake rotation.Provider) rotation.Provider {
	parse := func(_ string, source []byte) (rotation.Definition, error) {
		name, rest, ok := bytes.Cut(source, []byte(":"))
		if !ok {
			return rotation.Definition{}, fault.New("written", fault.Invalid, "line 1: want a colon")
		}
		ds, err := fake.Definitions()
		d := ds[0]
		d.Provider, d.Name, d.Hash, d.Source = "written", string(name), fmt.Sprintf("h:%s", source), source
		d.Params = []rotation.Field{{Name: "url", Type: "string", Routes: true}, {Name: "note", Type: "string"},
			{Name: "scope", Type: "string", Acts: true}, {Name: "account", Type: "string", Locates: true},
			{Name: "pin", Type: "string", Secret: true}}
		switch string(bytes.TrimSpace(rest)) {
		case "promote":
			d.Style = rotate.Promote
		case "slow":
			d.Settle = rotate.Settle{Successes: 3, Interval: 7 * time.Second, Timeout: 10 * time.Minute}
		case "management":
			d.Can.Proof = rotate.ProofManagement
		case "never":
			d.Can.Retry, d.Can.List = rotate.RetryNever, false
		}
		return d, err
	}
	return rotation.Provider{
		Name: "written",
		Definitions: func() ([]rotation.Definition, error) {
			d, err := parse("", []byte("house:own"))
			return []rotation.Definition{d}, err
		},
		Parse: parse,
		Open: func(c rotation.OpenConfig) (rotation.Source, error) {
			for name := range c.Params {
				if name != "url" && name != "note" && name != "pin" && name != "scope" && name != "account" {
					return nil, fault.New("written", fault.Invalid, "params.%s is not known", name)
				}
			}
			ds, err := fake.Definitions()
			if err != nil {
				return nil, err
			}
			c.Definition = ds[0]
			return fake.Open(c)
		},
	}
}

// workshop runs a test in a bubble whose world also has a family of written recipes.
func workshop(t *testing.T, test func(w *world)) {
	t.Helper()
	bubble(t, func(w *world) {
		w.types = append(w.types, written(w.types[0]))
		w.Reopen(w)
		test(w)
	})
}

func TestWriteRefuses(t *testing.T) {
	workshop(t, func(w *world) {
		for _, tt := range []struct {
			name string
			body map[string]any
			want string
		}{
			{"demo", map[string]any{"recipe": nil}, `field "recipe" is required`},
			{"demo", map[string]any{"recipe": "nothing"}, "there is no recipe"},
			{"demo", map[string]any{"provider": "nowhere", "recipe": ""}, "there is no recipe"},
			{"demo", map[string]any{"provider": "written"}, `belongs to provider "fake"`},
			{"demo", map[string]any{"path": ""}, `field "path" is required`},
			{"demo", map[string]any{"path": "elsewhere/x"}, "versioned kv"},
			{"demo", map[string]any{"path": "secret/../sys"}, `field "path"`},
			{"demo", map[string]any{"admin": nil}, `"token" is required`},
			{"demo", map[string]any{"fields": map[string]string{"nope": "x"}}, `has no output "nope"`},
			{"demo", map[string]any{"fields": map[string]string{"api_key": "x", "label": "x"}}, "taken"},
			{"demo", map[string]any{"fields": map[string]string{"api_key": "rotated_at"}}, "Keyturn writes itself"},
			{"demo", map[string]any{"fields": map[string]string{"api_key": ""}}, "is not a name"},
			{"demo", map[string]any{"class": "gold"}, `field "class"`},
			{"demo", map[string]any{"rotation_period": "1s"}, `field "rotation_period"`},
			{"demo", map[string]any{"read_ttl": 301}, `field "read_ttl"`},
			{"demo", map[string]any{"grace_period": "1m", "read_ttl": "30s"}, `field "read_ttl"`},
			{"demo", map[string]any{"settle_successes": -1}, `field "settle_successes"`},
			{"demo", map[string]any{"settle_successes": 101}, `field "settle_successes"`},
			{"demo", map[string]any{"ca": "no PEM"}, `field "ca"`},
			{"demo", map[string]any{"ca": strings.Repeat("x", 64<<10+1)}, `field "ca"`},
			{"demo", map[string]any{"rotation_schedule": "0 0 * * *"}, "exclude each other"},
			{"demo", map[string]any{"rotation_period": nil, "rotation_schedule": "0 0 * *"}, `field "rotation_schedule"`},
			{"demo", map[string]any{"rotation_window": "2h"}, "needs rotation_schedule"},
			{"demo", map[string]any{"jitter": "361h"}, `field "jitter"`},
			{"demo", map[string]any{"groups": []string{"a"}}, "not implemented yet"},
			{"demo", map[string]any{"current_secret": map[string]string{"api_key": "x"}}, "current_key_id"},
			{"demo", map[string]any{"current_key_id": "k", "current_secret": map[string]string{"x": "x"}},
				`has no output "x"`},
			{"a b", nil, `field "name"`},
			{"demo", map[string]any{"recipe": "house", "params": map[string]string{"colour": "red"}}, "not known"},
		} {
			w.refused(route.Write, "keys/"+tt.name, basic(tt.body), fault.Invalid, tt.want)
		}
		if _, err := w.do(route.List, "keys", nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("something was stored: %v", err)
		}
		for _, missing := range []struct {
			op   route.Op
			path string
		}{{route.Read, ""}, {route.Read, "/plan"}, {route.Read, "/history"}, {route.Write, "/rotate"}, {route.Write,
			"/rebind"}, {route.Patch, ""}} {
			if out, err := w.do(missing.op, "keys/nobody"+missing.path, map[string]any{}); err != nil &&
				!fault.Is(err, fault.NotFound) || err == nil && out != nil {
				t.Errorf("%s of a key that there is not: %v, %v", missing.path, out, err)
			}
		}
		w.must(route.Write, "keys/demo", basic(map[string]any{"settle_successes": 100}))
		w.must(route.Write, "keys/other", basic(map[string]any{"path": "secret/other"}))
		if got := fmt.Sprint(w.must(route.List, "keys", map[string]any{"limit": 1})["keys"]); got != "[demo]" {
			t.Errorf("one of two keys: %s", got)
		}
		if got := fmt.Sprint(w.must(route.List, "keys", map[string]any{"limit": 2})["keys"],
			w.must(route.List, "keys", nil)["keys"]); got != "[demo other] [demo other]" {
			t.Errorf("both keys: %s", got)
		}
		// Explicit zero values mean "not configured".
		w.must(route.Write, "keys/demo",
			basic(map[string]any{"rotation_schedule": "", "rotation_window": 0, "groups": []string{},
				"grace_period": 0}))
	})
}

// A binary without a field says so instead of ignoring it (V#30610).
func TestUnknownFieldsAreWarnedOf(t *testing.T) {
	bubble(t, func(w *world) {
		if got := w.warnings(route.Write, "keys/demo", basic(map[string]any{"skip_imports": true})); len(got) != 1 {
			t.Errorf("warnings %q", got)
		}
	})
}

func TestConfigRoundTrip(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{
			"recipe": "house", "params": map[string]string{"url": "https://a", "pin": "pin-canary-1"},
			"class": "low-risk", "rotation_period": nil,
			"settle_successes": 4, "settle_interval": "9s", "read_ttl": 45,
		}))
		s := w.status()
		if s["provider"] != "written" || s["recipe"] != "house" || s["rotation_period"] != 90*86400.0 ||
			s["read_ttl"] != 45.0 || s["settle_successes"] != 4.0 {
			t.Errorf("read back: %v", s)
		}
		if p := s["params"].(map[string]any); p["url"] != "https://a" || p["pin"] != nil {
			t.Errorf("params: %v", p)
		}
		if a := s["admin_fields"].([]any); len(a) != 1 || a[0] != "token" {
			t.Errorf("admin: %v", a)
		}
		w.silent()
		// PATCH leaves what is not given, POST does not.
		w.must(route.Patch, "keys/demo", map[string]any{"grace_period": "24h"})
		if s = w.status(); s["grace_period"] != 86400.0 || s["read_ttl"] != 45.0 || s["class"] != "low-risk" {
			t.Errorf("patched: %v", s)
		}
		w.must(route.Write, "keys/demo",
			map[string]any{"recipe": "house", "path": "secret/demo", "params": map[string]string{"url": "https://a"}})
		if s = w.status(); s["read_ttl"] != 60.0 || s["class"] != "standard" ||
			s["params"].(map[string]any)["url"] != "https://a" {
			t.Errorf("replaced: %v", s)
		}
	})
}

// A write that changes where secrets are sent must give them again.
func TestNewTargetNeedsAdminAgain(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:x"})
		w.must(route.Write, "keys/demo",
			basic(map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"}}))
		w.must(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"note": "harmless"}})
		w.refused(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"url": "https://evil"}},
			fault.Invalid, `field "admin"`)
		w.refused(route.Patch, "keys/demo", map[string]any{"recipe": "mine"}, fault.Invalid, `field "admin"`)
		w.refused(route.Write, "keys/demo", map[string]any{"recipe": "house", "path": "secret/demo"}, fault.Invalid,
			`field "admin"`)
		w.must(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"url": "https://b"},
			"admin": map[string]string{"token": adminToken}})
		if got := w.status()["params"].(map[string]any); got["url"] != "https://b" || got["note"] != "harmless" {
			t.Errorf("params: %v", got)
		}
	})
}

// A caller who may only change a key must not obtain its credential, nor have credentials of
// others deleted, in the name of the principal. A write that changes where the credential is
// published, or what is created or retired, must give the admin credentials, and its caller
// becomes the principal.
func TestPatchDoesNotRedirectACredential(t *testing.T) {
	workshop(t, func(w *world) {
		base := map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"},
			"skip_import_rotation": true}
		w.must(route.Write, "keys/demo", basic(base))
		for _, change := range []map[string]any{
			{"path": "secret/mine"},
			{"fields": map[string]string{"api_key": "password"}},
			{"fields": map[string]string{"label": "api_key"}},
			{"current_key_id": "somebody-elses"},
			{"params": map[string]string{"scope": "owner"}},
		} {
			for _, op := range []route.Op{route.Patch, route.Write} {
				body := map[string]any{}
				if op == route.Write {
					body = basic(base)
					delete(body, "admin")
				}
				for k, v := range change {
					if p, ok := v.(map[string]string); ok && k == "params" && op == route.Write {
						v = map[string]string{"url": "https://a", "scope": p["scope"]}
					}
					body[k] = v
				}
				w.refused(op, "keys/demo", body, fault.Invalid, `field "admin"`)
			}
		}
		if s := w.status(); s["configured_by"] != "ann" || s["path"] != "secret/demo" || s["current_key_id"] != "" ||
			s["fields"].(map[string]any)["api_key"] != "api_key" {
			t.Errorf("something was changed: %v", s)
		}
		patch := func(body map[string]any) {
			t.Helper()
			body["admin"] = map[string]string{"token": adminToken}
			if err := w.as("bob", "bobs-policy", route.Patch, "keys/demo", body); err != nil {
				t.Error(err)
			}
			if s := w.status(); s["configured_by"] != "bob" {
				t.Errorf("%v: the principal is %v", body, s["configured_by"])
			}
			w.must(route.Write, "keys/demo",
				basic(map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"}}))
		}
		patch(map[string]any{"fields": map[string]string{"api_key": "password"}})
		patch(map[string]any{"path": "secret/mine"})
		patch(map[string]any{"current_key_id": "mine"})
		patch(map[string]any{"params": map[string]string{"scope": "owner"}})
	})
}

// A key whose params point elsewhere has no credential there yet: the previous ID is neither
// retired nor looked for at the new place.
func TestParamsThatPointElsewhere(t *testing.T) {
	for _, change := range []map[string]string{{"account": "other"}, {"url": "https://b"}} {
		workshop(t, func(w *world) {
			admin := map[string]string{"token": adminToken}
			w.must(route.Write, "keys/demo",
				basic(map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"}}))
			w.after(time.Hour)
			was := w.status()["current_key_id"].(string)
			w.must(route.Write, "keys/demo/rotate", nil)
			w.until(rotate.Grace)
			w.refused(route.Patch, "keys/demo", map[string]any{"params": change, "admin": admin}, fault.Conflict,
				"is in flight (grace)")
			w.must(route.Patch, "keys/demo",
				map[string]any{"params": map[string]string{"scope": "owner"}, "admin": admin})
			w.until(rotate.Scheduled)
			now := w.status()["current_key_id"].(string)
			if w.wantLive(now); now == was {
				t.Fatalf("the key is %s still", now)
			}
			w.warns(route.Patch, "keys/demo", map[string]any{"params": change, "admin": admin}, now)
			if id := w.status()["current_key_id"]; id != "" {
				t.Errorf("the key is recorded as %q still", id)
			}
			w.must(route.Write, "keys/demo/rotate", nil)
			w.until(rotate.Scheduled)
			w.wantLive(now, w.status()["current_key_id"].(string)) // a person deletes the previous one
		})
	}
}

// While nothing can exist at the provider yet, wrong params can be corrected during a rotation.
func TestParamsAreCorrectedWhileNothingWasCreated(t *testing.T) {
	workshop(t, func(w *world) {
		w.vendor.Inject(
			// surely nothing was done
			rotationtest.VendorFault{Call: "create", Mode: "before", Err: rotationtest.ErrVendorBusy, Times: 3})
		w.must(route.Write, "keys/demo",
			basic(map[string]any{"recipe": "house", "params": map[string]string{"url": "https://a"},
				"current_key_id": "theirs"}))
		w.run(time.Now().Add(time.Minute),
			func() bool { s := w.status(); return s["state"] == string(rotate.Creating) && s["last_error"] != "" })
		w.must(route.Patch, "keys/demo", map[string]any{"params": map[string]string{"url": "https://b"},
			"admin": map[string]string{"token": adminToken}})
		s := w.until(rotate.Scheduled)
		if w.wantLive(s["current_key_id"].(string)); s["previous_key_id"] != "" || s["failures"] != 0.0 {
			t.Errorf("after the correction: %v", s)
		}
	})
}

// Of two keys that publish to one field, one would retire what the other's readers use.
func TestOneKeyForAPlace(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"skip_import_rotation": true}))
		w.refused(route.Write, "keys/second", basic(nil), fault.Conflict, `key "demo" already publishes to`)
		w.must(route.Write, "keys/second",
			basic(map[string]any{"fields": map[string]string{"api_key": "second"}, "skip_import_rotation": true}))
		admin := map[string]any{"token": adminToken}
		w.refused(route.Patch, "keys/second",
			map[string]any{"fields": map[string]string{"api_key": "api_key"}, "admin": admin}, fault.Conflict,
			`"api_key"`)
		// A place that one key leaves is free for another.
		w.must(route.Patch, "keys/demo", map[string]any{"path": "secret/other", "admin": admin})
		w.must(route.Patch, "keys/second",
			map[string]any{"fields": map[string]string{"api_key": "api_key"}, "admin": admin})
		w.refused(route.Patch, "keys/demo", map[string]any{"path": "secret/demo", "admin": admin}, fault.Conflict,
			`key "second"`)
		w.must(route.Delete, "keys/second", nil)
		w.must(route.Patch, "keys/demo", map[string]any{"path": "secret/demo", "admin": admin})
	})
}

// Two servers that configure two keys for one place at once cannot both succeed: the store
// decides, not what either remembers.
func TestOneKeyForAPlaceOnTwoServers(t *testing.T) {
	bubble(t, func(w *world) {
		servers := []*enginetest.World{w.World, w.another()}
		reserve := make(chan struct{})
		w.hook = func(what string, before bool) error {
			if what == "reserve" && !before {
				<-reserve
			}
			return nil
		}
		errs := make(chan error, 2)
		for i, server := range servers {
			go func() {
				_, err := server.Do(route.Write, fmt.Sprintf("keys/k%d", i),
					basic(map[string]any{"skip_import_rotation": true}))
				errs <- err
			}()
		}
		synctest.Wait() // both have looked, and found nobody there
		close(reserve)
		one, two := <-errs, <-errs
		if (one == nil) == (two == nil) || !fault.Is(errors.Join(one, two), fault.Conflict) &&
			!fault.Is(one, fault.Conflict) && !fault.Is(two, fault.Conflict) {
			t.Errorf("%v and %v; want one to be stored and one in conflict", one, two)
		}
	})
}

// TestOnlyWritersConfigureAPath: a caller who may configure keys and may not write a path neither
// reserves it, nor becomes the principal of a key that publishes there.
func TestOnlyWritersConfigureAPath(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		as := func(policy string, op route.Op, path string, body map[string]any) error {
			return w.as(policy, policy, op, path, body)
		}
		admin := map[string]string{"token": adminToken}
		for name, err := range map[string]error{
			"a new key":    as("outsiders", route.Write, "keys/new", basic(map[string]any{"path": "secret/victim"})),
			"a taken path": as("outsiders", route.Write, "keys/new", basic(nil)),
			"a new path": as("outsiders", route.Patch, "keys/demo",
				map[string]any{"path": "secret/victim", "admin": admin}),
			"new fields": as("outsiders", route.Patch, "keys/demo",
				map[string]any{"fields": map[string]string{"api_key": "x"}, "admin": admin}),
			"new admin": as("outsiders", route.Patch, "keys/demo", map[string]any{"admin": admin}),
			"a rebind":  as("outsiders", route.Write, "keys/demo/rebind", map[string]any{}),
		} {
			if !fault.Is(err, fault.Denied) {
				t.Errorf("%s: %v, want it denied", name, err)
			}
		}
		if err := as("outsiders", route.Patch, "keys/demo", map[string]any{"rotation_period": "800h"}); err != nil {
			t.Errorf("a change of timing: %v", err)
		}
		if s := w.status(); s["configured_by"] != "ann" || s["path"] != "secret/demo" {
			t.Errorf("the key is published at %v by %v", s["path"], s["configured_by"])
		}
		if err := as("bobs", route.Write, "keys/new", basic(map[string]any{"path": "secret/victim"})); err != nil {
			t.Errorf("the path is reserved: %v", err)
		}
	})
}

func TestPrincipalIsWhoChangedTheTarget(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		as := func(name string, body map[string]any) {
			if err := w.as(name, name+"s-policy", route.Patch, "keys/demo", body); err != nil {
				t.Fatal(err)
			}
		}
		as("bob", map[string]any{"rotation_period": "800h"})
		if s := w.status(); s["configured_by"] != "ann" {
			t.Errorf("a change of timing made %v the principal", s["configured_by"])
		}
		as("bob", map[string]any{"path": "secret/other", "admin": map[string]string{"token": adminToken}})
		if s := w.status(); s["configured_by"] != "bob" || s["policies"].([]any)[0] != "bobs-policy" {
			t.Errorf("the principal is %v with %v", s["configured_by"], s["policies"])
		}
	})
}

func TestRecipes(t *testing.T) {
	workshop(t, func(w *world) {
		w.refused(route.Write, "recipes/house", map[string]any{"source": "house:evil"}, fault.Invalid, "built in")
		w.refused(route.Write, "recipes/fake", map[string]any{"source": "fake:evil"}, fault.Invalid, "built in")
		w.refused(route.Write, "recipes/Mine", map[string]any{"source": "Mine:x"}, fault.Invalid, `field "name"`)
		w.refused(route.Write, "recipes/mine", map[string]any{"source": "other:x"}, fault.Invalid, "names the recipe")
		w.refused(route.Write, "recipes/mine", map[string]any{"source": "bad"}, fault.Invalid, "line 1")
		w.refused(route.Write, "recipes/mine", nil, fault.Invalid, `field "source"`)
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:1"})
		w.must(route.Write, "recipes/later", map[string]any{"source": "later:promote"})
		if got := fmt.Sprint(w.must(route.List, "recipes", nil)["keys"]); got != "[fake house later mine]" {
			t.Errorf("recipes: %s", got)
		}
		if r := w.must(route.Read, "recipes/mine", nil); r["source"] != "mine:1" || r["built_in"] != false ||
			r["style"] != "two-key" {
			t.Errorf("recipe: %v", r)
		}
		w.refused(route.Write, "keys/demo", basic(map[string]any{"recipe": "later"}), fault.Invalid,
			"not implemented yet")
		w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}))
		w.refused(route.Delete, "recipes/mine", nil, fault.Conflict, "demo")
		w.refused(route.Delete, "recipes/house", nil, fault.Invalid, "built in")
		w.must(route.Delete, "recipes/later", nil)
		if _, err := w.do(route.Read, "recipes/later", nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("a deleted recipe: %v", err)
		}
	})
}

// A key is rotated with the text that it is bound to, and by no other.
func TestChangedRecipeNeedsBinding(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:1"})
		w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:2"})
		w.refused(route.Write, "keys/demo/rebind", nil, fault.Conflict, "rotation 2")
		w.until(rotate.Scheduled) // the rotation in flight ends by the text that it began with
		w.wantLive(w.idOf(w.value()))
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Held, "rebind")
		w.after(32 * 24 * time.Hour)
		s := w.status()
		if s["rotation"] != 2.0 || !contains(s["alert"].(string), "bind the key again") || s["overdue"] != true {
			t.Errorf("a rotation began by a text that the key is not bound to: %v", s)
		}
		w.must(route.Write, "keys/demo/rebind", nil)
		w.until(rotate.Grace)
		if s := w.status(); s["rotation"] != 3.0 || s["recipe_hash"] != "h:mine:2" {
			t.Errorf("after binding: %v", s)
		}
	})
}

// TestChangedProviderNeedsBinding: a provider in Go that has changed in an upgrade begins
// no rotation until somebody binds the key to it.
func TestChangedProviderNeedsBinding(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		definitions, open := w.types[0].Definitions, w.types[0].Open
		w.types[0].Open = func(c rotation.OpenConfig) (rotation.Source, error) {
			ds, err := definitions()
			if err != nil || c.Definition.Hash != "h:upgraded" {
				return nil, fmt.Errorf("opened by the hash %q, %v", c.Definition.Hash, err)
			}
			c.Definition = ds[0]
			return open(c)
		}
		w.types[0].Definitions = func() ([]rotation.Definition, error) {
			ds, err := definitions()
			ds[0].Hash = "h:upgraded"
			return ds, err
		}
		w.Reopen(w)
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Held, "rebind")
		w.after(32 * 24 * time.Hour)
		if n := len(w.vendor.Issued()); n != 1 {
			t.Errorf("%d keys were created, want the one of before the upgrade", n)
		}
		w.must(route.Write, "keys/demo/rebind", nil)
		w.until(rotate.Grace)
		if s := w.status(); s["rotation"] != 2.0 || s["recipe_hash"] != "h:upgraded" {
			t.Errorf("after binding: %v", s)
		}
	})
}

// TestSettling: a key settles as its recipe says, unless its own settings override that.
func TestSettling(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:slow"})
		for own, want := range map[int]float64{0: 3, 1: 1, 5: 5} {
			w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine", "settle_successes": own}))
			if s := w.status(); s["settle_successes"] != want {
				t.Errorf("settle_successes %d: %v successes, want %v", own, s["settle_successes"], want)
			}
		}
	})
}

// TestClassSetsThePeriod: a key of another class has the period of that, unless the same write
// gives one.
func TestClassSetsThePeriod(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(map[string]any{"class": "financial", "rotation_period": nil}))
		for _, tt := range []struct {
			patch map[string]any
			days  float64
		}{
			{map[string]any{}, 30}, {map[string]any{"class": "low-risk"}, 90},
			{map[string]any{"grace_period": "24h"}, 90},
			{map[string]any{"class": "standard", "rotation_period": "240h"}, 10},
			{map[string]any{"class": "standard"}, 60}, {map[string]any{"rotation_period": "48h"}, 2},
		} {
			w.must(route.Patch, "keys/demo", tt.patch)
			if s := w.status(); s["rotation_period"] != tt.days*86400 {
				t.Errorf("after %v: a period of %v s, want %v days", tt.patch, s["rotation_period"], tt.days)
			}
		}
	})
}

func TestManagementProofIsUnproven(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:management"})
		w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}))
		w.until(rotate.Grace)
		s := w.until(rotate.Scheduled)
		h := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)[0].(map[string]any)
		p := w.must(route.Read, "keys/demo/plan", nil)
		if len(s["unproven"].([]any)) == 0 || h["proven"] != false || !contains(fmt.Sprint(p["notes"]), "unproven") {
			t.Errorf("status %v, history %v, plan %v", s["unproven"], h["proven"], p["notes"])
		}
	})
}

// A second creating call may do harm: the engine stops and asks.
func TestUnknownOutcomeAsks(t *testing.T) {
	workshop(t, func(w *world) {
		w.must(route.Write, "recipes/mine", map[string]any{"source": "mine:never"})
		rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.Create, rotatetest.CutAfter)
		w.must(route.Write, "keys/demo", basic(map[string]any{"recipe": "mine"}))
		w.after(24 * time.Hour)
		s := w.status()
		if s["paused"] != true || !contains(s["alert"].(string), "kt:") || len(w.vendor.Issued()) != 1 {
			t.Errorf("status %v with %d keys created", s, len(w.vendor.Issued()))
		}
		w.must(route.Write, "keys/demo/resume", nil)
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.wantLive(w.vendor.Issued()[0].ID, w.idOf(w.value())) // the lost one was never ours to end
	})
}

// Without labels, one new id in the call's window is evidence, two are not.
func TestDifferenceIsEvidence(t *testing.T) {
	for _, others := range []int{0, 1} {
		workshop(t, func(w *world) {
			old, _ := w.vendor.Create(t.Context(), adminToken, "before")
			w.unlabelled()
			rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.Create, rotatetest.CutAfter)
			w.hook = func(what string, before bool) error {
				if what == "create" && !before {
					w.hook = nil
					for range others {
						if _, err := w.vendor.Create(t.Context(), adminToken, "meanwhile"); err != nil {
							t.Error(err)
						}
					}
				}
				return nil
			}
			w.must(route.Write, "keys/demo", basic(nil))
			w.after(3 * 24 * time.Hour)
			if others == 0 {
				w.wantLive(old.ID, w.idOf(w.value()))
			} else if s := w.status(); s["paused"] != true || len(w.vendor.Live()) != 3 {
				t.Errorf("two new ids: %v, %d valid", s, len(w.vendor.Live()))
			}
		})
	}
}

// What a lost call left takes a place that the next one needs.
func TestLostReplyAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, rotationtest.VendorConfig{MaxKeys: 2})
		w.rotatedOnce()
		rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.Create, rotatetest.CutAfter)
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		if s := w.status(); s["rotation"] != 2.0 {
			t.Errorf("status: %v", s)
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
}

// At the limit with keys of others, the old key stays.
func TestExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, rotationtest.VendorConfig{MaxKeys: 1})
		w.rotatedOnce()
		old := w.idOf(w.value())
		w.must(route.Write, "keys/demo/rotate", nil)
		w.run(time.Now().Add(24*time.Hour), func() bool { return w.status()["failures"] == 1.0 })
		if s := w.status(); s["current_key_id"] != old || s["alert"] == "" {
			t.Errorf("status: %v", s)
		}
		w.wantLive(old)
	})
}

// Every intent is durable before its call.
func TestIntentsComeFirst(t *testing.T) {
	bubble(t, func(w *world) {
		seen := map[string]bool{}
		w.hook = func(what string, before bool) error {
			if !before || what != "create" && what != "publish" && what != "disable" && what != "retire" {
				return nil
			}
			last := w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})
			state, steps := w.status()["state"], last["steps"].([]any)
			doing := steps[len(steps)-1].(map[string]any)
			switch what {
			case "create":
				attempts := last["rotations"].([]any)[0].(map[string]any)["attempts"].([]any)
				if doing["what"] != "creating" || !contains(attempts[len(attempts)-1].(string), "under way") ||
					!contains(fmt.Sprint(doing["more"]), "kt:") {
					t.Errorf("create is called after %v with attempts %v", doing, attempts)
				}
			case "publish":
				if doing["what"] != "publishing" {
					t.Errorf("publish is called after %v", doing)
				}
			case "disable", "retire":
				if state != "retiring" {
					t.Errorf("%s is called in state %v", what, state)
				}
			}
			seen[what] = true
			return nil
		}
		w.inGrace(nil)
		w.until(rotate.Scheduled)
		if len(seen) != 4 {
			t.Errorf("seen: %v", seen)
		}
	})
}

// A process whose store another process has taken over can no longer commit.
func TestOvertakenProcessCommitsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				w.hook = nil
				w.another().Must(w, route.Write, "keys/demo/pause", nil)
			}
			return nil
		}
		w.must(route.Write, "keys/demo", basic(nil))
		w.after(time.Hour)
		if s := w.status(); s["paused"] != true || s["state"] != "settling" {
			t.Errorf("the first process went on: %v", s)
		}
	})
}

func TestLocksWaitForContexts(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		rotationtest.Breaker(w.vendor, time.Minute)(rotatetest.Create, rotatetest.Hang)
		go w.after(time.Minute)
		nap(5 * time.Second)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.As(ctx, ann, route.Write, "keys/demo/pause", nil); !fault.Is(err, fault.Timeout) {
			t.Errorf("a request during a call that hangs: %v", err)
		}
		if s := w.status(); s["state"] != "creating" {
			t.Errorf("a read during a call that hangs: %v", s)
		}
		nap(2 * time.Minute)
	})
}

func TestPathWithSlashesAroundIsRefused(t *testing.T) {
	bubble(t, func(w *world) {
		for _, path := range []string{"/secret/demo", "secret/demo/", "/"} {
			w.refused(route.Write, "keys/demo", basic(map[string]any{"path": path}), fault.Invalid,
				"begins or ends with a slash")
		}
	})
}
