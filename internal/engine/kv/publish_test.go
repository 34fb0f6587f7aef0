package kv_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

func publication(turn, key string, cas int) engine.Publication {
	return engine.Publication{
		Turn: turn, Key: "stripe", Fields: map[string]secret.Value{"api_key": secret.Text(key)},
		Plain:  map[string]string{"rotated_at": "2026-03-09T00:00:00Z"},
		Custom: map[string]string{"key_id": "k-" + turn}, Period: 30 * 24 * time.Hour,
		Next: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), ReadTTL: time.Minute, CAS: cas,
	}
}

// TestPublish: a rotated credential becomes one version for each rotation, and keeps the users'
// fields.
func TestPublish(t *testing.T) {
	w := open(t, two, nil)
	kv := w.Engine.(engine.Versioned)
	w.Must(t, route.Write, "data/stripe", `{"data":{"note":"a user's","n":12345678901234567890}}`)
	for range 3 { // the same rotation
		if n, err := kv.Publish(t.Context(), "stripe", publication("t1", "sk_1", 1)); n != 2 || err != nil {
			t.Fatalf("published as version %d, %v", n, err)
		}
	}
	a := w.Must(t, route.Read, "data/stripe", nil)
	want := `"data":{"api_key":"sk_1","n":12345678901234567890,"note":"a user's","rotated_at":"2026-03-09T00:00:00Z"}`
	if !strings.Contains(a.Text, want) {
		t.Errorf("it holds %s, want %s", a.Text, want)
	}
	if a.Data["rotation_period"] != float64(30*24*3600) || a.Data["ttl"].(float64) < 54 ||
		a.Data["ttl"].(float64) > 60 {
		t.Errorf("readers are told %v and %v", a.Data["rotation_period"], a.Data["ttl"])
	}
	if got := a.Data["metadata"].(fields)["custom_metadata"]; !cmp.Equal(got, fields{"key_id": "k-t1"}) {
		t.Errorf("custom metadata %v", got)
	}
	got, err := kv.Published(t.Context(), "stripe")
	if err != nil || got.Version != 2 || got.Turn != "t1" || got.Fields["api_key"].RevealString() != "sk_1" ||
		got.Fields["note"].RevealString() != "a user's" {
		t.Errorf("published is %+v, %v", got, err)
	}
	if _, err := kv.Publish(t.Context(), "stripe", publication("t2", "sk_2", 1)); !fault.Is(err, fault.Conflict) ||
		!strings.Contains(fault.Message(err), "is at version 2 and not at 1") {
		t.Errorf("over a version that somebody else wrote: %v", err)
	}
	if n, err := kv.Publish(t.Context(), "stripe", publication("t2", "sk_2", -1)); n != 3 || err != nil {
		t.Errorf("over any version: %d, %v", n, err)
	}
	if w.rows("next/") != 0 {
		t.Error("a secret that a key publishes is in the index, although the key's record says when it is late")
	}
	// A version that a user wrote belongs to no rotation: readers get no hints.
	w.put("stripe", "mine")
	if a := w.Must(t, route.Read, "data/stripe", nil); a.Data["rotation_period"] != nil || a.Data["ttl"] != nil {
		t.Errorf("of a user's version: %s", a.Text)
	}
}

func TestPublishToNothing(t *testing.T) {
	w := open(t, two, nil)
	kv := w.Engine.(engine.Versioned)
	if got, err := kv.Published(t.Context(), "none"); got != nil || err != nil {
		t.Errorf("published at nothing: %+v, %v", got, err)
	}
	if n, err := kv.Publish(t.Context(), "new", publication("t1", "sk_1", 0)); n != 1 || err != nil {
		t.Errorf("published as version %d, %v", n, err)
	}
	w.Must(t, route.Delete, "data/new", nil)
	if got, err := kv.Published(t.Context(), "new"); err != nil || got.Version != 1 || got.Turn != "" ||
		got.Fields != nil {
		t.Errorf("of a deleted version: %+v, %v", got, err)
	}
	p := publication("t2", "sk_2", -1)
	p.Next = time.Time{}
	if n, err := kv.Publish(t.Context(), "new", p); n != 2 || err != nil {
		t.Errorf("published as version %d, %v", n, err)
	}
	if a := w.Must(t, route.Read, "data/new", nil); strings.Contains(a.Text, "sk_1") || w.rows("next/") != 0 {
		t.Errorf("what was deleted is back: %s; %d rows of the index", a.Text, w.rows("next/"))
	}
}

// TestPublishIdempotent: if the answer to a publication is lost, repeating it creates no second
// version.
func TestPublishIdempotent(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		st := faulty.New(memory.Open(), 1)
		w := open(t, two, st)
		kv := w.Engine.(engine.Versioned)
		w.put("app", "1")
		st.Inject(faulty.Fault{Mode: mode})
		if _, err := kv.Publish(t.Context(), "app", publication("t1", "sk_1", 1)); err == nil {
			t.Fatal("the fault was not injected")
		}
		if n, err := kv.Publish(t.Context(), "app", publication("t1", "sk_1", 1)); n != 2 || err != nil {
			t.Errorf("mode %d: made again, it is version %d, %v", mode, n, err)
		}
		if n := w.rows("v/app"); n != 2 {
			t.Errorf("mode %d: %d versions, want 2", mode, n)
		}
	}
}

// TestPublishAlong: a publication and its extra operations are stored together, or neither is.
func TestPublishAlong(t *testing.T) {
	w := open(t, two, nil)
	kv := w.Engine.(engine.Versioned)
	w.put("app", "1")
	p := publication("t1", "sk_1", 1)
	p.Along = []storage.Op{storage.Set("record", []byte("new")).If(7)}
	if _, err := kv.Publish(t.Context(), "app", p); !fault.Is(err, fault.Unavailable) || w.rows("v/app") != 1 {
		t.Errorf("behind a record that has changed: %v, and %d versions", err, w.rows("v/app"))
	}
	p.Along = []storage.Op{storage.Set("record", []byte("new")).If(0)}
	if n, err := kv.Publish(t.Context(), "app", p); n != 2 || err != nil {
		t.Errorf("published as version %d, %v", n, err)
	}
	if row, err := w.View.Get(t.Context(), "record"); err != nil || string(row.Value) != "new" {
		t.Errorf("what joined it is %q, %v", row.Value, err)
	}
}

// TestTTLHint: the ttl in answers ends before the next rotation, and is at least one second.
func TestTTLHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, two, nil)
		kv := w.Engine.(engine.Versioned)
		for name, tt := range map[string]struct {
			read, next time.Duration
			low, high  float64
		}{
			"default":       {0, time.Hour, 54, 60},
			"given":         {30 * time.Second, time.Hour, 27, 30},
			"at most 300 s": {time.Hour, 24 * time.Hour, 270, 300},
			"next is near":  {time.Minute, 10 * time.Second, 9, 10},
			"next is past":  {time.Minute, -time.Second, 1, 1},
		} {
			p := publication("t-"+name, "k", -1)
			p.ReadTTL, p.Next = tt.read, time.Now().Add(tt.next)
			if _, err := kv.Publish(t.Context(), "app", p); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if ttl := w.Must(t, route.Read, "data/app", nil).Data["ttl"].(float64); ttl < tt.low || ttl > tt.high {
					t.Errorf("%s: ttl %v, want %v to %v", name, ttl, tt.low, tt.high)
				}
			}
		}
		w.Stop()
	})
}
