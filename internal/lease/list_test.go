package lease

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// withFailing returns a manager with leases of these IDs, each of which fails.
func withFailing(t testing.TB, ids ...string) *Manager {
	t.Helper()
	m := NewManager(Config{Barrier: barriertest.Open(t, memory.Open())})
	for _, id := range ids {
		l := Lease{ID: id, State: Ending, Data: json.RawMessage("{}")}
		row, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.view.Commit(t.Context(), storage.Set(Prefix+id, row),
			storage.Set(FailingPrefix+id, nil)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestList: a list has each name directly below a prefix once, in order, for every page size.
func TestList(t *testing.T) {
	ids := []string{
		"aws/creds/ci/1", "aws/creds/ci/2", "db/creds/a", "db/creds/a/1", "db/creds/a/2", "db/creds/a0",
		"db/creds/b/1", "db/creds/c", "db/x/1",
	}
	m := withFailing(t, ids...)
	for prefix, want := range map[string]string{
		"": "aws/ db/", "aws/creds/": "ci/", "aws/creds/ci/": "1 2", "db/": "creds/ x/", "db/creds/": "a a/ a0 b/ c",
		"none/": "",
	} {
		for limit := range 7 {
			var got []string
			for after := ""; ; after = got[len(got)-1] {
				page, err := m.List(t.Context(), prefix, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				if limit > 0 && len(page) > limit {
					t.Errorf("%d names, and the limit is %d", len(page), limit)
				}
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
			}
			if diff := cmp.Diff(strings.Fields(want), got); diff != "" && !(want == "" && got == nil) {
				t.Errorf("below %q, %d at once (-want +got):\n%s", prefix, limit, diff)
			}
		}
	}
	for limit := 1; limit < 11; limit++ {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := m.Failing(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if want := min(limit, len(ids)-len(got)); len(page) != want {
				t.Fatalf("behind %q are %d that fail, want %d of at most %d", after, len(page), want, limit)
			}
			if len(page) == 0 {
				break
			}
			for _, l := range page {
				got = append(got, l.ID)
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("those that fail, %d at once: %q", limit, got)
		}
	}
}

// TestListIsBounded: a page has at most MaxNames names, even if the caller wants more.
func TestListIsBounded(t *testing.T) {
	m := withFailing(t)
	var ops []storage.Op
	for n := range MaxNames + 1 {
		ops = append(ops, storage.Set(fmt.Sprintf("%sdb/%06d", Prefix, n), nil))
		if len(ops) == storage.MaxOps || n == MaxNames {
			if _, err := m.view.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	for _, limit := range []int{0, MaxNames + 1} {
		if names, err := m.List(t.Context(), "db/", "", limit); len(names) != MaxNames || err != nil {
			t.Errorf("limit %d: %d names, %v; want %d", limit, len(names), err, MaxNames)
		}
	}
}
