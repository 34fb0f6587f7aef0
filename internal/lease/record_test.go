package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// TestRecord: records are read back as they were encoded, to the millisecond, also in the old
// format.
func TestRecord(t *testing.T) {
	full := Lease{
		ID: "db/creds/a/1", Version: 7, Namespace: "ns", Mount: "m", Target: "t", Kind: "user",
		Data: []byte(`{"f":1}`), Owner: "o", Entity: "e",
		State: Ending, Attempt: "a", Late: at("2026-01-02T03:04:05.006Z"), Issued: at("2026-01-02T03:04:06.007Z"),
		Expires: at("2026-01-02T03:04:07Z"),
		Max:     at("2026-01-02T03:04:08Z"), Renewed: at("2026-01-02T03:04:09Z"), Renewable: true,
		Due: at("2026-01-02T03:04:10.001Z"), Tries: 3,
		Failing: at("2026-01-02T03:04:11Z"), Error: "er", Note: "no", Granted: true, Force: true,
	}
	sound := full // its data has a field of the name that marks a failing record
	sound.Failing = time.Time{}
	for _, want := range []Lease{full, sound, {ID: "x", Data: []byte("{}"), State: Reserved}} {
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(storage.Entry{Key: Prefix + want.ID, Version: want.Version, Value: b})
		if err != nil || !cmp.Equal(*got, want) {
			t.Errorf("read back: %v\n%s", err, cmp.Diff(got, &want))
		}
		if Failing(b) == want.Failing.IsZero() {
			t.Errorf("Failing is %v", Failing(b))
		}
	}
	old := `{"m":"m","d":{},"o":"o","s":"g","a":"a","i":"2026-01-02T03:04:06.007Z","e":"2026-01-02T04:04:07+01:00","du":"2026-01-02T03:04:10.001Z","f":"2026-01-02T03:04:11Z"}`
	got, err := Decode(storage.Entry{Key: Prefix + "x", Value: []byte(old)})
	if err != nil || !got.Issued.Equal(full.Issued) || !got.Expires.Equal(full.Expires) || !got.Due.Equal(full.Due) ||
		!Failing([]byte(old)) {
		t.Errorf("the form of old is read as %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"m":"m","d":{},"i":1,"e":"2026-01-02T03:04:06Z","du":-5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(storage.Entry{Key: Prefix + "x", Value: b})
		if err != nil {
			if !fault.Is(err, fault.Internal) {
				t.Errorf("%v is not Internal", err)
			}
			return
		}
		again, err := l.encode()
		if err != nil {
			return // nil data cannot be encoded
		}
		back, err := Decode(storage.Entry{Key: Prefix + "x", Value: again})
		if err != nil || !back.Due.Equal(l.Due) || back.State != l.State {
			t.Errorf("%q is read back as %+v, %v", again, back, err)
		}
	})
}
