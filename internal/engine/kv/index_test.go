package kv

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/rotate"
)

// TestMoveInIndex moves a path between seconds, and within one second, when the old and new row
// have one key.
func TestMoveInIndex(t *testing.T) {
	at := time.Date(2026, 4, 8, 0, 0, 0, 100, time.UTC)
	within, later := at.Add(time.Millisecond), at.Add(time.Second)
	set := func(at time.Time) string { return "set " + nextKey(at, "a/b") }
	remove := func(at time.Time) string { return "remove " + nextKey(at, "a/b") }
	for _, c := range []struct {
		name string
		old  *record
		next *age
		want []string
	}{
		{"new, without a date", nil, nil, nil},
		{"new", nil, &age{Deadline: at}, []string{set(at)}},
		{"gets a date", &record{}, &age{Deadline: at}, []string{set(at)}},
		{"loses its date", &record{Indexed: at}, nil, []string{remove(at)}},
		{"the same", &record{Indexed: at}, &age{Deadline: at}, []string{set(at)}},
		{"within the second", &record{Indexed: at}, &age{Deadline: within}, []string{set(at)}},
		{"later", &record{Indexed: at}, &age{Deadline: later}, []string{set(later), remove(at)}},
		{"a finding", &record{Indexed: at}, &age{Deadline: at, Finding: "x"}, []string{set(unjudged), remove(at)}},
	} {
		next := &record{}
		ops, err := moveInIndex("a/b", c.old, next, c.next)
		var got []string
		for _, o := range ops {
			if o.Value == nil {
				got = append(got, "remove "+o.Key)
			} else {
				got = append(got, "set "+o.Key)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
		if c.next != nil != !next.Indexed.IsZero() {
			t.Errorf("%s: the record notes %v", c.name, next.Indexed)
		}
	}
}

// TestAgeOf reads the dates of the guide's script, of custom metadata, and those that are wrong.
func TestAgeOf(t *testing.T) {
	now := time.Date(2026, 4, 8, 12, 0, 0, 0, time.UTC)
	rotated := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, c := range []struct {
		name, data string
		custom     map[string]string
		want       *age
		finding    string
	}{
		{name: "nothing", data: `{"api_key":"k"}`},
		{name: "a class of somebody else's", data: `{"a":"b"}`, custom: map[string]string{"class": "gold"}},
		{name: "the guide's", data: `{"rotated_at":"2026-03-09T00:00:00Z","next_rotation":"2026-04-08T00:00:00Z"}`,
			want: &age{Rotated: rotated, Deadline: rotated.Add(30 * day), FromData: true}},
		{name: "with a zone", data: `{"next_rotation":"2026-04-08T02:00:00+02:00"}`,
			want: &age{Deadline: rotated.Add(30 * day), FromData: true}},
		{name: "standard by default", data: `{"rotated_at":"2026-03-09T00:00:00Z"}`,
			want: &age{Rotated: rotated, Deadline: rotated.Add(60 * day), FromData: true}},
		{name: "custom metadata", data: `{"rotated_at":null}`,
			custom: map[string]string{"rotated_at": "2026-03-09T00:00:00Z", "class": "financial"},
			want:   &age{Rotated: rotated, Deadline: rotated.Add(30 * day), Class: rotate.Financial}},
		{name: "data first", data: `{"rotated_at":"2026-03-09T00:00:00Z"}`,
			custom: map[string]string{"rotated_at": "2025-03-09T00:00:00Z", "rotation_period": "7d",
				"class": "low-risk"},
			want: &age{Rotated: rotated, Deadline: rotated.Add(7 * day), Class: rotate.LowRisk, Period: 7 * day,
				FromData: true}},
		{name: "a class limits the next rotation",
			data:   `{"rotated_at":"2026-03-09T00:00:00Z","next_rotation":"2030-01-01T00:00:00Z"}`,
			custom: map[string]string{"class": "low-risk"},
			want:   &age{Rotated: rotated, Deadline: rotated.Add(90 * day), Class: rotate.LowRisk, FromData: true}},
		{name: "no date", data: `{"rotated_at":"yesterday"}`, finding: "rotated_at is not a date"},
		{name: "an object", data: `{"next_rotation":{"a":1}}`, finding: "next_rotation is not a date"},
		{name: "true", data: `{"next_rotation":true}`, finding: "next_rotation is not a date"},
		{name: "beyond the years", data: `{"next_rotation":"9999-12-31T23:59:59-01:00"}`,
			finding: "next_rotation is not"},
		{name: "before 1970", data: `{"rotated_at":"1969-12-31T23:59:59Z"}`, finding: "rotated_at is not a date"},
		{name: "the future", data: `{"rotated_at":"2026-04-08T12:02:00Z"}`, finding: "in the future"},
		{name: "a class alone", custom: map[string]string{"class": "standard"}, finding: "rotated_at is missing"},
		{name: "a period that is none", data: `{"rotated_at":"2026-03-09T00:00:00Z"}`,
			custom: map[string]string{"rotation_period": "monthly"}, finding: "rotation_period is not a duration"},
		{name: "a class that is none", data: `{"rotated_at":"2026-03-09T00:00:00Z"}`,
			custom: map[string]string{"class": "gold"}, finding: "class is none of"},
	} {
		got := ageOf([]byte(c.data), c.custom, now)
		if c.finding != "" {
			if got == nil || !strings.Contains(got.Finding, c.finding) || !got.indexedAt().Equal(unjudged) {
				t.Errorf("%s: %+v, want the finding %q", c.name, got, c.finding)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if got := ageOf([]byte(`{"next_rotation":"9999-12-31T23:59:59+01:00"}`), nil, now); got.Deadline.Year() != 9999 {
		t.Errorf("the last year is %+v", got)
	}
}
