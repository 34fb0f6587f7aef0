package kv_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

func TestOptions(t *testing.T) {
	one := map[string]string{"version": "1"}
	for _, tt := range []struct {
		was, want map[string]string
		marks     bool   // the commit ends writes of version 1
		wrong     string // "": accepted
		warnings  int
	}{
		{nil, nil, false, "", 0},
		{nil, one, false, "", 0},
		{nil, two, true, "", 0},
		{one, two, true, "", 0},
		{two, two, false, "", 0},
		{map[string]string{"version": "3"}, two, true, "", 0}, // older servers accepted it
		{two, one, false, "cannot be made unversioned", 0},
		{two, nil, false, "cannot be made unversioned", 0},
		{one, map[string]string{"version": "3"}, false, `not "3"`, 0},
		{one, map[string]string{"version": ""}, false, `not ""`, 0},
		{nil, map[string]string{"version": "2", "max_versions": "5", "type": "kv-v2"}, true, "", 2},
	} {
		got, err := kv.Type.Options(tt.was, tt.want)
		if tt.wrong != "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), tt.wrong) {
				t.Errorf("%v → %v: %v, want it refused with %q", tt.was, tt.want, err, tt.wrong)
			}
			continue
		}
		if err != nil || len(got.Stored) != len(tt.want) || (len(got.Along) > 0) != tt.marks ||
			len(got.Warnings) != tt.warnings {
			t.Errorf("%v → %v: %+v, %v", tt.was, tt.want, got, err)
		}
	}
}

// TestUpgrade: the data of version 1 is the first version of each secret, whether it is migrated
// on access or in the background.
func TestUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, nil, nil)
		for n := range 40 {
			w.Must(t, route.Write, fmt.Sprintf("app/%02d", n), fmt.Sprintf(`{"v":"%d"}`, n))
		}
		w.Must(t, route.Write, "rotated", `{"v":"k","next_rotation":"2030-01-01T00:00:00Z"}`)
		w.Tune(t, two)
		w.wantCurrent("app/39", "39", 1) // before its turn
		if got := w.keys("metadata"); got != "app/,rotated" {
			t.Errorf("listed are %s", got)
		}
		w.Must(t, route.Patch, "data/app/38", `{"data":{"more":"x"}}`)
		w.wantCurrent("app/38", "38", 2)
		w.Must(t, route.Delete, "metadata/app/37", nil)
		synctest.Wait()
		if n := w.rows("d/"); n != 0 {
			t.Errorf("%d secrets of version 1 are left", n)
		}
		w.wantCurrent("app/37", "", 0)
		if n := w.rows("next/"); n != 1 {
			t.Errorf("%d rows in the index of next rotations, want that of the one that has a time", n)
		}
		w.Reopen(t)
		for n := range 37 {
			w.wantCurrent(fmt.Sprintf("app/%02d", n), fmt.Sprint(n), 1)
		}
		w.Stop()
	})
}

// TestUpgradeKeepsHistory: a mount that an old server changed from version 2 to 1 has data of
// both. A secret that was written in version 1 meanwhile gets one more version; its history is
// kept.
func TestUpgradeKeepsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.Open()
		w := open(t, two, st)
		w.put("both", "1")
		w.put("both", "2")
		w.put("old", "1")
		w.Stop()
		if _, err := w.View.Commit(t.Context(), storage.Remove(root+"upgraded"), // as it was before that row
			storage.Set(root+"d/both", []byte(`{"v":"3"}`)),
			storage.Set(root+"d/new", []byte(`{"v":"n"}`))); err != nil {
			t.Fatal(err)
		}
		w = open(t, two, st)
		w.wantCurrent("both", "3", 3)
		w.wantCurrent("old", "1", 1)
		w.wantCurrent("new", "n", 1)
		if a := w.Must(t, route.Read, "data/both", `{"version":1}`); a.Data["data"].(fields)["v"] != "1" {
			t.Errorf("version 1 is %s", a.Text)
		}
		w.Stop()
	})
}

// TestOutdatedEngine: a server that does not know of the upgrade yet writes nothing, and does not
// report migrated secrets as absent. Its clients are told to retry.
func TestOutdatedEngine(t *testing.T) {
	st := memory.Open()
	outdated, w := open(t, nil, st), open(t, nil, st)
	outdated.Must(t, route.Write, "app", `{"v":"1"}`)
	w.Tune(t, two)
	w.put("app", "2")
	for _, tt := range []struct {
		op   route.Op
		path string
		body any
	}{
		{route.Write, "app", `{"v":"lost"}`}, {route.Write, "data/app", `{"data":{"v":"lost"}}`},
		{route.Delete, "app", nil},
		{route.Read, "app", nil}, {route.Read, "data/app", nil}, {route.List, "", nil}, {route.List, "metadata", nil},
	} {
		outdated.Refused(t, tt.op, tt.path, tt.body, fault.Unavailable,
			"has just become versioned; send the request again")
	}
	for _, r := range outdated.Engine.Routes() {
		if r.Exists != nil {
			if _, err := r.Exists(t.Context(), &route.Request{}); !fault.Is(err, fault.Unavailable) {
				t.Errorf("whether it exists: %v", err)
			}
		}
	}
	w.wantCurrent("app", "2", 2)
	if n := w.rows("d/"); n != 0 {
		t.Errorf("%d rows at version 1's place", n)
	}
}

// TestUpgradeOfTwoServers: two servers migrate the same secrets at once, while both serve them.
func TestUpgradeOfTwoServers(t *testing.T) {
	st := memory.Open()
	a, b := open(t, nil, st), open(t, nil, st)
	const secrets = 200
	for n := range secrets {
		a.Must(t, route.Write, fmt.Sprintf("%03d", n), fmt.Sprintf(`{"v":"%d"}`, n))
	}
	a.Tune(t, two)
	b.Tune(t, two)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range secrets {
			a.wantCurrent(fmt.Sprintf("%03d", n), fmt.Sprint(n), 1)
		}
	}()
	for n := secrets - 1; n >= 0; n-- {
		b.wantCurrent(fmt.Sprintf("%03d", n), fmt.Sprint(n), 1)
	}
	<-done
	if names := strings.Split(a.keys("metadata"), ","); len(names) != secrets {
		t.Errorf("%d names are listed, want %d", len(names), secrets)
	}
}

// TestUpgradeFails: if the store fails, reading a secret that is not migrated yet is an error, not
// absent. The migration continues later.
func TestUpgradeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := faulty.New(memory.Open(), 1)
		w := open(t, nil, st)
		w.Must(t, route.Write, "a", `{"v":"1"}`)
		w.Must(t, route.Write, "b", `{"v":"2"}`)
		st.Inject(faulty.Fault{Prefix: root + "m/", Times: -1})
		w.Tune(t, two)
		synctest.Wait()
		w.Refused(t, route.Read, "data/a", nil, fault.Unavailable, "")
		w.Refused(t, route.Write, "data/a", `{"data":{"v":"x"}}`, fault.Unavailable, "")
		if got := w.keys("metadata"); got != "a,b" {
			t.Errorf("listed are %s", got)
		}
		st.Clear()
		time.Sleep(2 * time.Minute) // longer than the longest pause of the migration
		if n := w.rows("d/"); n != 0 {
			t.Errorf("%d secrets are left", n)
		}
		w.wantCurrent("a", "1", 1)
		w.wantCurrent("b", "2", 1)
		w.Stop()
	})
}

// TestUpgradeOfTheLargest: a secret that does not fit into one commit with its record is migrated
// in two. A crash between them loses nothing.
func TestUpgradeOfTheLargest(t *testing.T) {
	largest := func(w *fixture, path string) string { // the longest value that version 1 accepts
		low, high := 0, storage.MaxBytes
		for low+1 < high {
			mid := (low + high) / 2
			if _, err := w.Do(route.Write, path, `{"v":"`+strings.Repeat("x", mid)+`"}`); err != nil {
				high = mid
			} else {
				low = mid
			}
		}
		return strings.Repeat("x", low-20) // a version's key is longer than version 1's
	}
	for crash := range 4 {
		synctest.Test(t, func(t *testing.T) {
			st := faulty.New(memory.Open(), 1)
			w := open(t, nil, st)
			value := largest(w, "big")
			w.Must(t, route.Write, "big", `{"v":"`+value+`"}`)
			w.Must(t, route.Write, "small", `{"v":"s"}`)
			st.CrashAfter(crash+1, faulty.NotStored) // the first is the upgrade's own
			w.Tune(t, two)
			synctest.Wait()
			st.Revive()
			w.Reopen(t)
			synctest.Wait()
			if v, n := w.get("big"); v != value || n != 1 {
				t.Errorf("crash %d: %d bytes in version %d, want %d in 1", crash, len(v), n, len(value))
			}
			w.wantCurrent("small", "s", 1)
			if n := w.rows("d/"); n != 0 {
				t.Errorf("crash %d: %d secrets are left", crash, n)
			}
			w.Stop()
		})
	}
}

// TestUpgradeOfADamagedRow: a secret that cannot be read does not block others, and is not
// reported as absent.
func TestUpgradeOfADamagedRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.Open()
		w := open(t, nil, st)
		w.Must(t, route.Write, "bad", `{"v":"1"}`)
		w.Must(t, route.Write, "good", `{"v":"2"}`)
		e, err := st.Get(t.Context(), root+"d/good")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(),
			storage.Batch{Ops: []storage.Op{storage.Set(root+"d/bad", e.Value)}}); err != nil {
			t.Fatal(err)
		}
		w.Tune(t, two)
		synctest.Wait()
		w.wantCurrent("good", "2", 1)
		if n := w.rows("m/"); n != 1 {
			t.Errorf("%d secrets were carried over, want the one that can be read", n)
		}
		if _, err := w.Do(route.Read, "data/bad", nil); err == nil || fault.Is(err, fault.NotFound) {
			t.Errorf("reading the damaged one: %v", err)
		}
		w.Stop()
	})
}
