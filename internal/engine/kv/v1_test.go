package kv_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

func TestUnversioned(t *testing.T) {
	w := open(t, nil, nil)
	w.Must(t, route.Write, "app", `{"a":"1","n":12345678901234567890}`)
	if a := w.Must(t, route.Read, "app", nil); a.Text != `{"a":"1","n":12345678901234567890}` ||
		a.TTL != 768*time.Hour {
		t.Errorf("read %s for %s", a.Text, a.TTL)
	}
	w.Must(t, route.Write, "app", `{"b":"2"}`)
	if a := w.Must(t, route.Read, "app", nil); !cmp.Equal(a.Data, fields{"b": "2"}) {
		t.Errorf("a write replaces what was there; read %v", a.Data)
	}
	for _, body := range []any{nil, `{}`} {
		w.Refused(t, route.Write, "app", body, fault.Invalid, "missing data fields")
	}
	w.Must(t, route.Delete, "app", nil)
	w.Must(t, route.Delete, "app", nil)
	if _, err := w.Do(route.Read, "app", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("reading what was deleted: %v", err)
	}
}

// TestUnversionedTTL: the field "ttl" of a secret sets the lease_duration of the answer, in any
// duration format.
func TestUnversionedTTL(t *testing.T) {
	w := open(t, nil, nil)
	for ttl, want := range map[string]time.Duration{
		`"1h"`: time.Hour, `90`: 90 * time.Second, `"90"`: 90 * time.Second, `"soon"`: 768 * time.Hour,
		`{}`: 768 * time.Hour, `""`: 768 * time.Hour,
	} {
		w.Must(t, route.Write, "app", `{"ttl":`+ttl+`}`)
		if a := w.Must(t, route.Read, "app", nil); a.TTL != want {
			t.Errorf("ttl %s: lease_duration %s, want %s", ttl, a.TTL, want)
		}
	}
}

// TestList: lists have the names directly below a folder, in order and in pages, whatever sorts
// between "a" and "a/".
func TestList(t *testing.T) {
	w := open(t, nil, nil)
	if got := w.keys(""); got != "none" {
		t.Errorf("an empty mount lists %s", got)
	}
	for _, path := range []string{"a", "a/x", "a/y/z", "a-b", "a0", "b/c/d", "ü/x"} {
		w.Must(t, route.Write, path, `{"v":"1"}`)
	}
	for _, tt := range []struct {
		path string
		more fields
		want string
	}{
		{"", nil, "a,a-b,a/,a0,b/,ü/"},
		{"a", nil, "x,y/"},
		{"a/y", nil, "z"},
		{"b", nil, "c/"},
		{"none", nil, "none"},
		{"", fields{"limit": 2}, "a,a-b"},
		{"", fields{"limit": 2, "after": "a-b"}, "a/,a0"},
		{"", fields{"limit": 9, "after": "a/"}, "a0,b/,ü/"},
		{"", fields{"after": "ü/"}, "none"},
		{"a", fields{"after": "x"}, "y/"},
	} {
		if got := w.keys(tt.path, tt.more); got != tt.want {
			t.Errorf("listing %q by %v: %s, want %s", tt.path, tt.more, got, tt.want)
		}
	}
}
