package kv_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

func TestVersions(t *testing.T) {
	w := open(t, two, nil)
	a := w.put("app", "1")
	if a.Data["version"] != 1.0 || a.Data["destroyed"] != false || a.Data["deletion_time"] != "" ||
		a.Data["custom_metadata"] != nil {
		t.Errorf("the first write answers %s", a.Text)
	}
	w.put("app", "2")
	w.wantCurrent("app", "2", 2)
	for version, want := range map[string]string{"0": "2", "1": "1", "2": "2"} {
		a, err := w.Do(route.Read, "data/app", `{"version":`+version+`}`)
		if err != nil || a.Data["data"].(fields)["v"] != want {
			t.Errorf("version %s: %v, %v, want %s", version, a, err, want)
		}
	}
	if _, err := w.Do(route.Read, "data/app", `{"version":3}`); !fault.Is(err, fault.NotFound) {
		t.Errorf("a version that is not there yet: %v", err)
	}
	w.Refused(t, route.Read, "data/app", `{"version":-1}`, fault.Invalid, "must not be negative")
	for _, body := range []string{`{}`, `{"v":"1"}`, `{"data":null}`, `{"data":"x"}`, `{"data":[1]}`} {
		w.Refused(t, route.Write, "data/app", body, fault.Invalid, "no data provided")
	}
	w.put("other/deep", "x")
	if got := w.keys("metadata"); got != "app,other/" {
		t.Errorf("listed are %s", got)
	}
	if events := w.Events(); len(events) != 3 || !strings.Contains(events[2], `"path":"other/deep"`) {
		t.Errorf("events %q", events)
	}
}

// TestCAS: options.cas works in every form that clients send.
func TestCAS(t *testing.T) {
	w := open(t, two, nil)
	write := func(cas string) error {
		_, err := w.Do(route.Write, "data/app", `{"data":{"v":"x"},"options":{"cas":`+cas+`}}`)
		return err
	}
	for _, cas := range []string{`0`, `"1"`, `2.0`, `"3"`} {
		if err := write(cas); err != nil {
			t.Fatalf("cas %s: %v", cas, err)
		}
	}
	w.wantCurrent("app", "x", 4)
	for _, cas := range []string{`0`, `"0"`, `0.0`, `3`, `5`, `-1`, `null`} { // null is 0, which never overwrites
		err := write(cas)
		if !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), "did not match the current version") {
			t.Errorf("cas %s over version 4: %v", cas, err)
		}
	}
	for _, cas := range []string{`"x"`, `1.5`, `true`, `{}`, `[4]`} {
		err := write(cas)
		if !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), `"options.cas": want a whole number`) {
			t.Errorf("cas %s: %v", cas, err)
		}
	}
	for _, options := range []string{`null`, `{}`, `{"cas":""}`} { // not set
		w.Must(t, route.Write, "data/app", `{"data":{"v":"y"},"options":`+options+`}`)
	}
	a := w.Must(t, route.Write, "data/app", `{"data":{"v":"y"},"options":{"cas":7,"foo":1}}`)
	if !cmp.Equal(a.Warnings, []string{`unknown parameter "options.foo" was ignored`}) {
		t.Errorf("warnings %q", a.Warnings)
	}
}

func TestCASRequired(t *testing.T) {
	w := open(t, two, nil)
	w.put("app", "1")
	w.put("free", "1")
	w.Must(t, route.Write, "metadata/app", `{"cas_required":true}`)
	w.Refused(t, route.Write, "data/app", `{"data":{"v":"2"}}`, fault.Invalid, "check-and-set parameter required")
	w.Must(t, route.Write, "data/app", `{"data":{"v":"2"},"options":{"cas":1}}`)
	w.put("free", "2")
	w.Must(t, route.Write, "config", `{"cas_required":true}`)
	w.Refused(t, route.Write, "data/free", `{"data":{"v":"3"}}`, fault.Invalid, "check-and-set parameter required")
	w.Refused(t, route.Patch, "data/free", `{"data":{"v":"3"}}`, fault.Invalid, "check-and-set parameter required")
	w.Must(t, route.Patch, "data/free", `{"data":{"v":"3"},"options":{"cas":2}}`)
	w.wantCurrent("free", "3", 3)
}

// TestConfigFollowsOtherServer: other servers use a change of the mount's settings at once.
func TestConfigFollowsOtherServer(t *testing.T) {
	st := memory.Open()
	a, b := open(t, two, st), open(t, two, st)
	b.put("app", "1")
	a.Must(t, route.Write, "config", `{"cas_required":true}`)
	b.Refused(t, route.Write, "data/app", `{"data":{"v":"2"}}`, fault.Invalid, "check-and-set parameter required")
	b.Must(t, route.Write, "config", `{"max_versions":3}`)
	if got := a.Must(t, route.Read, "config", nil).Data; got["cas_required"] != true || got["max_versions"] != 3.0 {
		t.Errorf("the settings are %v: each server's write must stay", got)
	}
	var wg sync.WaitGroup
	for n, w := range []*fixture{a, b} {
		wg.Go(func() {
			for range 20 {
				w.Must(t, route.Write, "config", []string{`{"max_versions":5}`, `{"delete_version_after":"1h"}`}[n])
			}
		})
	}
	wg.Wait()
	if got := a.Must(t, route.Read, "config", nil).Data; got["max_versions"] != 5.0 ||
		got["delete_version_after"] != "1h0m0s" {
		t.Errorf("the settings are %v", got)
	}
}

// TestTwoWriters: two writers of one secret, on two servers, each create a version.
func TestTwoWriters(t *testing.T) {
	st := memory.Open()
	a, b := open(t, two, st), open(t, two, st)
	a.Must(t, route.Write, "config", `{"max_versions":200}`)
	var wg sync.WaitGroup
	const each = 40
	for n := range 4 {
		w := []*fixture{a, b}[n%2]
		wg.Go(func() {
			for i := range each {
				w.put("app", fmt.Sprintf("%d-%d", n, i))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for version := 1; version <= 4*each; version++ {
		got := a.Must(t, route.Read, "data/app", fmt.Sprintf(`{"version":%d}`, version))
		seen[got.Data["data"].(fields)["v"].(string)] = true
	}
	if _, n := b.get("app"); n != 4*each || len(seen) != 4*each {
		t.Errorf("%d versions, %d values, want %d of both", n, len(seen), 4*each)
	}
}

func TestSoftDelete(t *testing.T) {
	w := open(t, two, nil)
	for _, v := range []string{"1", "2", "3"} {
		w.put("app", v)
	}
	w.Must(t, route.Delete, "data/app", nil)
	a := w.Must(t, route.Read, "data/app", nil)
	if a.Status != 404 || a.Data["data"] != nil || a.Data["metadata"].(fields)["deletion_time"] == "" {
		t.Errorf("a deleted version: %d %s", a.Status, a.Text)
	}
	w.Must(t, route.Delete, "data/app", nil) // deleting is repeatable
	w.Must(t, route.Write, "delete/app", `{"versions":[1,"2",9]}`)
	for _, v := range []string{"1", "2", "3"} {
		if a := w.Must(t, route.Read, "data/app", `{"version":`+v+`}`); a.Status != 404 {
			t.Errorf("version %s: %d", v, a.Status)
		}
	}
	w.Must(t, route.Write, "undelete/app", `{"versions":[3,1]}`)
	w.wantCurrent("app", "3", 3)
	w.Must(t, route.Write, "destroy/app", `{"versions":[1,1,2]}`)
	if n := w.rows("v/app"); n != 1 {
		t.Errorf("%d versions are stored, want the one that was not destroyed", n)
	}
	w.Must(t, route.Write, "undelete/app", `{"versions":[1,2]}`)
	if a := w.Must(t, route.Read, "data/app", `{"version":2}`); a.Status != 404 ||
		a.Data["metadata"].(fields)["destroyed"] != true {
		t.Errorf("a destroyed version: %d %s", a.Status, a.Text)
	}
	for _, path := range []string{"delete/app", "undelete/app", "destroy/app"} {
		w.Refused(t, route.Write, path, `{}`, fault.Invalid, "name at least one version")
		w.Refused(t, route.Write, path, `{"versions":[]}`, fault.Invalid, "name at least one version")
		w.Refused(t, route.Write, path, fields{"versions": make([]int, 91)}, fault.Invalid, "at most 90")
	}
	for _, path := range []string{"delete/none", "undelete/none", "destroy/none"} {
		w.Must(t, route.Write, path, `{"versions":[1]}`)
	}
	w.Must(t, route.Delete, "data/none", nil)
	if got := w.keys("metadata"); got != "app" {
		t.Errorf("deleting what is not there made it: %s", got)
	}
}

func TestMaxVersions(t *testing.T) {
	w := open(t, two, nil)
	for n := range 12 { // the default is ten
		w.put("app", fmt.Sprint(n))
	}
	if n := w.rows("v/app"); n != 10 {
		t.Errorf("%d versions are kept, want 10", n)
	}
	got := w.Must(t, route.Read, "metadata/app", nil).Data
	if got["oldest_version"] != 3.0 || got["current_version"] != 12.0 || len(got["versions"].(fields)) != 10 {
		t.Errorf("metadata %v", got)
	}
	w.Must(t, route.Write, "config", `{"max_versions":4}`)
	w.put("app", "x")
	if n := w.rows("v/app"); n != 4 {
		t.Errorf("%d versions are kept, want the mount's 4", n)
	}
	w.Must(t, route.Write, "metadata/app", `{"max_versions":2}`)
	w.put("app", "y")
	if n := w.rows("v/app"); n != 2 {
		t.Errorf("%d versions are kept, want the secret's 2", n)
	}
	w.Refused(t, route.Write, "config", `{"max_versions":100001}`, fault.Invalid, "at most 100000")
	w.Refused(t, route.Write, "metadata/app", `{"max_versions":100001}`, fault.Invalid, "at most 100000")
}

// TestAllVersions: -1 keeps all versions, for a secret and for a mount.
func TestAllVersions(t *testing.T) {
	w := open(t, two, nil)
	w.put("app", "0")
	w.Must(t, route.Write, "metadata/app", `{"max_versions":-1}`)
	if got := w.Must(t, route.Read, "metadata/app", nil).Data["max_versions"]; got != -1.0 {
		t.Errorf("it reads %v", got)
	}
	w.Must(t, route.Write, "config", `{"max_versions":"-7"}`)
	if got := w.Must(t, route.Read, "config", nil).Data["max_versions"]; got != -1.0 {
		t.Errorf("the mount's reads %v", got)
	}
	for n := 1; n < 30; n++ {
		w.put("app", fmt.Sprint(n))
		w.put("other", fmt.Sprint(n))
	}
	if a, b := w.rows("v/app"), w.rows("v/other"); a != 30 || b != 29 {
		t.Errorf("%d and %d versions are kept, want 30 and 29", a, b)
	}
	if got := w.Must(t, route.Read, "metadata/app", nil).Data["oldest_version"]; got != 0.0 {
		t.Errorf("oldest_version %v, although none was dropped", got)
	}
}

func TestDeleteVersionAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, two, nil)
		w.Must(t, route.Write, "config", `{"delete_version_after":"2h"}`)
		w.Must(t, route.Write, "metadata/short", `{"delete_version_after":3600}`)
		w.Must(t, route.Write, "metadata/long", `{"delete_version_after":"5h"}`)
		w.Must(t, route.Write, "metadata/never", `{"delete_version_after":"-1s"}`)
		paths := []string{"plain", "short", "long", "never"}
		for _, p := range paths {
			w.put(p, "x")
		}
		deleted := func() (out []string) {
			for _, p := range paths {
				if a := w.Must(t, route.Read, "data/"+p, nil); a.Status == 404 {
					out = append(out, p)
				}
			}
			return out
		}
		time.Sleep(time.Hour + time.Second)
		if got := deleted(); !cmp.Equal(got, []string{"short"}) {
			t.Errorf("after an hour gone are %q", got)
		}
		time.Sleep(time.Hour)
		if got := deleted(); !cmp.Equal(got, []string{"plain", "short", "long"}) {
			t.Errorf("after two hours gone are %q: the mount's holds for what asks for more", got)
		}
		w.Must(t, route.Write, "undelete/short", `{"versions":[1]}`)
		w.wantCurrent("short", "x", 1)
		time.Sleep(time.Hour)
		if got := deleted(); !cmp.Equal(got, []string{"plain", "short", "long"}) {
			t.Errorf("an hour after it was taken back, gone are %q", got)
		}
		w.Refused(t, route.Write, "config", `{"delete_version_after":"soon"}`, fault.Invalid, `"-1s" means never`)
		w.Stop()
	})
}

func TestPatch(t *testing.T) {
	w := open(t, two, nil)
	w.Must(t, route.Write, "data/app",
		`{"data":{"keep":12345678901234567890,"gone":"x","deep":{"a":1,"b":2},"list":[1]}}`)
	w.Must(t, route.Patch, "data/app", `{"data":{"gone":null,"deep":{"b":null,"c":3},"list":[2],"html":"<&>"}}`)
	a := w.Must(t, route.Read, "data/app", nil)
	want := `"data":{"deep":{"a":1,"c":3},"html":"<&>","keep":12345678901234567890,"list":[2]}`
	if !strings.Contains(a.Text, want) {
		t.Errorf("merged to %s, want %s", a.Text, want)
	}
	for _, body := range []string{`{}`, `{"data":"x"}`} {
		w.Refused(t, route.Patch, "data/app", body, fault.Invalid, "no data provided")
	}
	w.Refused(t, route.Patch, "data/none", `{"data":{"a":1}}`, fault.NotFound, "")
	w.Refused(t, route.Patch, "data/app", `{"data":{"a":1},"options":{"cas":1}}`, fault.Invalid, "did not match")
	w.Must(t, route.Delete, "data/app", nil)
	w.Refused(t, route.Patch, "data/app", `{"data":{"a":1}}`, fault.NotFound, "")
}

func TestSubkeys(t *testing.T) {
	w := open(t, two, nil)
	w.Must(t, route.Write, "data/app",
		`{"data":{"a":"canary","deep":{"b":{"c":"canary"},"empty":{}},"list":["canary"]}}`)
	for depth, want := range map[int]string{
		0: `{"a":null,"deep":{"b":{"c":null},"empty":{}},"list":null}`,
		1: `{"a":null,"deep":null,"list":null}`,
		2: `{"a":null,"deep":{"b":null,"empty":{}},"list":null}`,
	} {
		a := w.Must(t, route.Read, "subkeys/app", fields{"depth": depth})
		if !strings.Contains(a.Text, `"subkeys":`+want) || strings.Contains(a.Text, "canary") {
			t.Errorf("depth %d: %s, want %s", depth, a.Text, want)
		}
	}
	w.Must(t, route.Delete, "data/app", nil)
	if a := w.Must(t, route.Read, "subkeys/app", nil); a.Status != 404 || a.Data["subkeys"] != nil {
		t.Errorf("of a deleted version: %d %s", a.Status, a.Text)
	}
	if _, err := w.Do(route.Read, "subkeys/none", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

// TestClientQuirks: unusual paths that clients send.
func TestClientQuirks(t *testing.T) {
	w := open(t, two, nil)
	w.put("app", "1")
	t.Run("empty names", func(t *testing.T) { // clients use them as probes
		for _, path := range []string{"data", "data/", "metadata/", "subkeys", "subkeys/"} {
			if _, err := w.Do(route.Read, path, nil); !fault.Is(err, fault.NotFound) || fault.Message(err) != "" {
				t.Errorf("reading %q: %v, want a 404 without a message", path, err)
			}
			w.Refused(t, route.Write, path, `{"data":{}}`, fault.Unsupported, "not supported")
		}
		one := open(t, nil, nil)
		if _, err := one.Do(route.Read, "", nil); !fault.Is(err, fault.NotFound) || fault.Message(err) != "" {
			t.Errorf("reading the root of version 1: %v", err)
		}
	})
	t.Run("names that end in a slash", func(t *testing.T) {
		for _, path := range []string{"data/app/", "metadata/app/"} {
			w.Refused(t, route.Write, path, `{"data":{"v":"2"}}`, fault.Invalid,
				`leave it out, as in "mount/`+strings.TrimSuffix(path, "/")+`"`)
			w.Refused(t, route.Patch, path, `{"data":{"v":"2"}}`, fault.Invalid, "leave it out")
			w.Refused(t, route.Delete, path, nil, fault.Invalid, "leave it out")
			w.Refused(t, route.Read, path, nil, fault.NotFound, "no name ends in a slash")
		}
		for _, path := range []string{"delete/app/", "undelete/app/", "destroy/app/"} {
			w.Refused(t, route.Write, path, `{"versions":[1]}`, fault.Invalid, "leave it out")
		}
		w.wantCurrent("app", "1", 1)
		if got := w.keys("metadata/"); got != "app" {
			t.Errorf("a folder lists %s", got)
		}
		one := open(t, nil, nil)
		one.Must(t, route.Write, "app", `{"v":"1"}`)
		one.Refused(t, route.Write, "app/", `{"v":"2"}`, fault.Invalid, "leave it out")
		one.Refused(t, route.Delete, "app/", nil, fault.Invalid, "leave it out")
		one.Refused(t, route.Read, "app/", nil, fault.NotFound, "read \"mount/app\"")
		if got := one.Must(t, route.Read, "app", nil).Data["v"]; got != "1" {
			t.Errorf("app is %v", got)
		}
	})
	t.Run("paths of version 1", func(t *testing.T) {
		for _, tt := range []struct {
			op      route.Op
			path    string
			body    any
			at, cmd string
		}{
			{route.Read, "app", nil, "mount/data/app", "kv get"},
			{route.Read, "deep/app", nil, "mount/data/deep/app", "kv get"},
			{route.List, "deep", nil, "mount/metadata/deep", "kv list"},
			{route.List, "", nil, "mount/metadata/", "kv list"},
		} {
			a := w.Must(t, tt.op, tt.path, tt.body)
			if a.Status != 404 || a.Text != "" || len(a.Warnings) != 1 ||
				!strings.Contains(a.Warnings[0], `"`+tt.at+`"`) || !strings.Contains(a.Warnings[0], tt.cmd) {
				t.Errorf("%s %q: %d %s %q, want 404 and a hint to %s and %s", tt.op, tt.path, a.Status, a.Text,
					a.Warnings, tt.at, tt.cmd)
			}
		}
		w.Refused(t, route.Write, "app", `{"a":"1","b":"2"}`, fault.NotFound, `use "mount/data/app", or "kv put"`)
		w.Refused(t, route.Patch, "app", `{"a":"1"}`, fault.NotFound, `"kv patch"`)
		w.Refused(t, route.Delete, "app", nil, fault.NotFound, `"kv delete"`)
		// one of version 2's all the same
		w.Refused(t, route.Write, "subkeys/app", `{"a":"1"}`, fault.Unsupported, "not supported")
		w.Refused(t, route.Delete, "config", nil, fault.Unsupported, "not supported")
	})
}

func exists(t *testing.T, w *enginetest.World, pattern, path string) bool {
	t.Helper()
	for _, r := range w.Engine.Routes() {
		if r.Op == route.Write && r.Pattern == pattern {
			tab, err := route.NewTable([]route.Route{r})
			if err != nil {
				t.Fatal(err)
			}
			req := &route.Request{Op: route.Write, Rest: path}
			if _, err := tab.Find(req); err != nil {
				t.Fatal(err)
			}
			there, err := r.Exists(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return there
		}
	}
	t.Fatalf("no route %s", pattern)
	return false
}

// TestExists: the exists function distinguishes create from update.
func TestExists(t *testing.T) {
	one, w := open(t, nil, nil), open(t, two, nil)
	one.Must(t, route.Write, "app", `{"a":"1"}`)
	w.put("app", "1")
	w.Must(t, route.Delete, "data/app", nil)
	for path, want := range map[string]bool{"app": true, "none": false} {
		if got := exists(t, one.World, "{path...}", path); got != want {
			t.Errorf("version 1: %s exists: %v", path, got)
		}
		for _, kind := range []string{"data/", "metadata/"} { // a soft-deleted secret still exists
			if got := exists(t, w.World, kind+"{path...}", kind+path); got != want {
				t.Errorf("%s%s exists: %v", kind, path, got)
			}
		}
	}
}
