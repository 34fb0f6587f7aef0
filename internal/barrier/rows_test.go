package barrier_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

type color struct {
	Name string `json:"name"`
}

func TestRows(t *testing.T) {
	const colors barrier.Rows[color] = "color/"
	ctx := t.Context()
	_, b := initialized(t)
	v := b.View("mount/x/")
	got, version, err := colors.Get(ctx, v, "red")
	if got != nil || version != 0 || err != nil {
		t.Fatalf("Get of no row = %v, %d, %v", got, version, err)
	}
	op, err := colors.Set("red", color{Name: "crimson"})
	if err != nil || op.Key != "color/red" || string(op.Value) != `{"name":"crimson"}` {
		t.Fatalf("Set = %s at %q, %v", op.Value, op.Key, err)
	}
	stored, err := v.Commit(ctx, op.If(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := colors.Put(ctx, v, "blue", color{Name: "navy"}); err != nil {
		t.Fatal(err)
	}
	got, version, err = colors.Get(ctx, v, "red")
	if err != nil || version != stored || *got != (color{Name: "crimson"}) {
		t.Errorf("Get = %v, %d, %v, want version %d", got, version, err, stored)
	}
	names, err := v.Names(ctx, string(colors))
	if diff := cmp.Diff([]string{"blue", "red"}, names); diff != "" || err != nil {
		t.Errorf("Names (-want +got), %v:\n%s", err, diff)
	}
	if err := v.Delete(ctx, colors.Key("red")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"red": false, "blue": true} {
		if there, err := v.Has(ctx, colors.Key(name)); there != want || err != nil {
			t.Errorf("Has(%s) = %v, %v, want %v", name, there, err, want)
		}
	}
}

// TestDamagedRow: the error says which row is damaged.
func TestDamagedRow(t *testing.T) {
	const single barrier.Rows[color] = "config"
	_, b := initialized(t)
	v := b.View("mount/x/")
	if _, err := v.Commit(t.Context(), storage.Set("config", []byte(`{"name":1}`))); err != nil {
		t.Fatal(err)
	}
	got, _, err := single.Get(t.Context(), v, "")
	if got != nil || !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), `the row "config" is damaged`) {
		t.Errorf("Get of a damaged row = %v, %v", got, err)
	}
}

// TestRowsThatCannotBeEncoded: nothing is stored.
func TestRowsThatCannotBeEncoded(t *testing.T) {
	const broken barrier.Rows[unencodable] = "x/"
	_, b := initialized(t)
	v := b.View("")
	if err := broken.Put(t.Context(), v, "a", unencodable{}); !fault.Is(err, fault.Internal) {
		t.Errorf("Put = %v", err)
	}
	if there, err := v.Has(t.Context(), "x/a"); there || err != nil {
		t.Errorf("Has = %v, %v", there, err)
	}
}

type unencodable struct{}

func (unencodable) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }
