package kv_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

func TestMetadata(t *testing.T) {
	w := open(t, two, nil)
	w.Must(t, route.Write, "metadata/app", `{"max_versions":5,"custom_metadata":{"owner":"payments","n":1}}`)
	w.put("app", "1")
	w.Must(t, route.Patch, "metadata/app", `{"custom_metadata":{"owner":null,"team":"core"}}`)
	got := w.Must(t, route.Read, "metadata/app", nil).Data
	for name, want := range map[string]any{
		"custom_metadata": fields{"n": "1", "team": "core"}, "max_versions": 5.0, "cas_required": false,
		"delete_version_after": "0s",
		"current_version":      1.0, "current_metadata_version": 1.0, "oldest_version": 0.0,
		"metadata_cas_required": false,
	} {
		if !cmp.Equal(got[name], want) {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	a := w.Must(t, route.Read, "data/app", nil)
	if !cmp.Equal(a.Data["metadata"].(fields)["custom_metadata"], fields{"n": "1", "team": "core"}) {
		t.Errorf("a read shows %s", a.Text)
	}
	w.Must(t, route.Write, "metadata/app", `{"custom_metadata":{"only":"this"}}`)
	if got := w.Must(t, route.Read, "metadata/app", nil).Data["custom_metadata"]; !cmp.Equal(got,
		fields{"only": "this"}) {
		t.Errorf("a write replaces: %v", got)
	}
	w.Must(t, route.Patch, "metadata/app", `{"custom_metadata":{}}`)
	if got := w.Must(t, route.Read, "metadata/app", nil).Data["custom_metadata"]; !cmp.Equal(got,
		fields{"only": "this"}) {
		t.Errorf("a patch of nothing: %v", got)
	}
	w.Must(t, route.Patch, "metadata/app", `{"custom_metadata":null}`)
	if got := w.Must(t, route.Read, "metadata/app", nil).Data["custom_metadata"]; got != nil {
		t.Errorf("a patch of null: %v", got)
	}
	w.Refused(t, route.Patch, "metadata/none", `{"max_versions":1}`, fault.NotFound, "")
	many := fields{}
	for n := range 65 {
		many[fmt.Sprint(n)] = "x"
	}
	for want, custom := range map[string]fields{
		"at most 64 keys": many, "1 to 128 bytes": {strings.Repeat("k", 129): "x"},
		"at most 512": {"k": strings.Repeat("x", 513)}, "must have 1": {"": "x"},
	} {
		w.Refused(t, route.Write, "metadata/app", fields{"custom_metadata": custom}, fault.Invalid, want)
	}
}

// TestDeleteMetadata: a secret with more versions than one commit can remove is removed in
// several. A crash between them leaves a secret with fewer old versions.
func TestDeleteMetadata(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for n := 0; ; n++ {
			st := faulty.New(memory.Open(), 1)
			w := open(t, two, st)
			w.Must(t, route.Write, "config", `{"max_versions":300}`)
			const versions = 200
			for i := range versions {
				w.put("a/b", fmt.Sprint(i+1))
			}
			w.Must(t, route.Write, "metadata/a/b", `{"custom_metadata":{"next_rotation":"2030-01-01T00:00:00Z"}}`)
			if w.rows("next/") != 1 {
				t.Fatal("next_rotation is not indexed")
			}
			st.CrashAfter(n, mode)
			_, err := w.Do(route.Delete, "metadata/a/b", nil)
			done := err == nil
			st.Revive()
			w.Reopen(t)
			if v, at := w.get("a/b"); at != 0 && (v != fmt.Sprint(versions) || at != versions) || at != 0 && done {
				t.Fatalf("crash %d (mode %d): the newest is %q in version %d", n, mode, v, at)
			}
			w.Must(t, route.Delete, "metadata/a/b", nil)
			if a, b, c := w.rows("m/"), w.rows("v/"), w.rows("next/"); a+b+c != 0 {
				t.Fatalf("crash %d (mode %d): left are %d records, %d versions, %d rows of the index", n, mode, a, b,
					c)
			}
			if _, err := w.Do(route.Read, "metadata/a/b", nil); !fault.Is(err, fault.NotFound) {
				t.Fatalf("crash %d: reading it: %v", n, err)
			}
			w.put("a/b", "new")
			w.wantCurrent("a/b", "new", 1)
			if done {
				break
			}
		}
	}
}
