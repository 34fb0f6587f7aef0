package rotate

import (
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
)

// TestOldLook: a row of an earlier version keeps the look that it owes.
func TestOldLook(t *testing.T) {
	row := storage.Entry{Key: "r/demo", Version: 7, Value: []byte(`{"name":"demo","current":{"id":"k1"},` +
		`"due":"2026-12-01T10:00:00Z","look":"2026-12-01T10:00:00Z","looks":2,"wrote":"bob","data":{}}`)}
	r := Record{Name: "demo"}
	if _, err := (&Kind{}).decode(row, &r); err != nil {
		t.Fatal(err)
	}
	if r.Look.Failed != 2 || r.Look.By != "bob" || r.Look.At != r.Due {
		t.Errorf("the next look is %+v", r.Look)
	}
}
