package kv

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/storage"
)

// TestReindex moves a path between seconds, and within one second, when the old and new row are
// the same.
func TestReindex(t *testing.T) {
	at := time.Date(2026, 4, 8, 0, 0, 0, 100, time.UTC)
	within, later := at.Add(time.Millisecond), at.Add(time.Second)
	set := func(at time.Time) storage.Op { return storage.Set(nextKey(at, "a/b"), nil) }
	remove := func(at time.Time) storage.Op { return storage.Remove(nextKey(at, "a/b")) }
	for _, c := range []struct {
		name string
		old  *record
		next time.Time
		want []storage.Op
	}{
		{"new, without a time", nil, time.Time{}, nil},
		{"new", nil, at, []storage.Op{set(at)}},
		{"gets a time", &record{}, at, []storage.Op{set(at)}},
		{"loses its time", &record{Indexed: at}, time.Time{}, []storage.Op{remove(at)}},
		{"the same", &record{Indexed: at}, at, nil},
		{"within the second", &record{Indexed: at}, within, nil},
		{"later", &record{Indexed: at}, later, []storage.Op{remove(at), set(later)}},
	} {
		got := reindex("a/b", c.old, &record{Indexed: c.next})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestRotationTimesAtTheEdges: a time whose UTC form RFC 3339 cannot express is ignored.
func TestRotationTimesAtTheEdges(t *testing.T) {
	for _, text := range []string{"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"} {
		rotated, next := rotationTimes([]byte(`{"rotated_at":"`+text+`","next_rotation":"`+text+`"}`), nil)
		if !rotated.IsZero() || !next.IsZero() {
			t.Errorf("%s is %v, %v", text, rotated, next)
		}
	}
	if _, next := rotationTimes([]byte(`{"next_rotation":"9999-12-31T23:59:59+01:00"}`), nil); next.Year() != 9999 {
		t.Errorf("the last year is %v", next)
	}
}
