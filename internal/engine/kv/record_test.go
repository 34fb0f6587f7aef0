package kv

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRecordEncode: encode writes every record like json.Marshal.
func TestRecordEncode(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	some := func() bool { return random.IntN(2) == 0 }
	at := func() time.Time {
		return time.Unix(random.Int64N(4e9), random.Int64N(1e9)*random.Int64N(2)).
			In(time.FixedZone("", random.IntN(3)*3600))
	}
	for range 500 {
		m := &record{
			Created: at(), Updated: at(), Current: random.IntN(50), Oldest: random.IntN(3), MetaVer: random.IntN(2),
		}
		for n := range random.IntN(12) {
			v := version{N: n + 1, Created: at(), Destroyed: some()}
			if some() {
				v.Deleted, v.Next = at(), at()
			}
			if some() {
				v.Turn = &turn{ID: "id\"\n<ü>", Key: "k", Period: time.Hour, ReadTTL: time.Duration(random.IntN(2))}
			}
			m.Versions = append(m.Versions, v)
		}
		if some() {
			m.Versions, m.Settings = []version{}, settings{MaxVersions: 3, CASRequired: some(), DeleteVersionAfter: -1}
		}
		if some() {
			m.Custom, m.Indexed = map[string]string{"a<b": "ü\"\\", "b": ""}, at()
		}
		got, err := m.encode()
		want, werr := json.Marshal(m)
		if err != nil || werr != nil || string(got) != string(want) {
			t.Fatalf("got  %s, %v\nwant %s, %v", got, err, want, werr)
		}
		back, err := decodeRecord(got)
		if err != nil || !cmp.Equal(back, m, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })) &&
			len(m.Custom)+len(m.Versions) > 0 {
			t.Fatalf("read back: %v\n%s", err, cmp.Diff(back, m))
		}
	}
	if _, err := (&record{Created: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}).encode(); err == nil {
		t.Error("a time that cannot be read back was written")
	}
}
