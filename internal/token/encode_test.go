package token

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/internal/secret"
)

// TestEncode: a record is read back as it was, whether encode or json.Marshal has written it,
// because stores contain both.
func TestEncode(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		return []string{"", "a", `q"\\`, "<é&>", "tab\tand\nline", "\xff", "\u2028"}[rng.IntN(7)]
	}
	when := func() time.Time {
		if rng.IntN(2) == 0 {
			return time.Time{}
		}
		return time.Unix(rng.Int64N(1<<36), rng.Int64N(1e9)).UTC()
	}
	yes := func() bool { return rng.IntN(2) == 0 }
	number := func() int64 { return []int64{0, -1, 1, 1 << 40}[rng.IntN(4)] }
	for range 2000 {
		e := &Entry{
			Namespace: text(), Accessor: text(), Parent: text(), Path: text(), DisplayName: text(),
			Uses: int(number()), Created: when(),
			TTL: time.Duration(number()), Expires: when(), Renewed: when(), Period: time.Duration(number()),
			ExplicitMax: time.Duration(number()),
			EntityID:    text(), Role: text(), Mount: text(), Batch: yes(), Renewable: yes(), Wrapping: yes(),
			State: State{Revoking: yes(), SpareChildren: yes(), UsedUp: when()}, Chosen: secret.Text("never stored"),
		}
		for range rng.IntN(3) {
			e.policies = append(e.policies, text())
		}
		if yes() {
			e.Meta = map[string]string{text(): text(), "k": text()}
			e.BoundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		}
		b, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		other, err := json.Marshal(record{e, e.policies})
		if err != nil {
			t.Fatal(err)
		}
		var members, wantMembers map[string]any
		if err := errors.Join(json.Unmarshal(b, &members), json.Unmarshal(other, &wantMembers)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantMembers, members); diff != "" {
			t.Fatalf("members (-json.Marshal +encode):\n%s", diff)
		}
		got, err := decode("id", 1, b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		want, err := decode("id", 1, other)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(State{}, Entry{}), cmpopts.IgnoreFields(State{}, "size"),
			cmpopts.IgnoreFields(Entry{}, "Chosen"), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Fatalf("%s\n%s\n(-json.Marshal +encode):\n%s", other, b, diff)
		}
	}
	for year, want := range map[int]bool{-1: false, 0: true, 9999: true, 10_000: false} {
		e := &Entry{Expires: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
		b, err := e.encode()
		if want != (err == nil) {
			t.Errorf("a token that expires in the year %d: %v", year, err)
		}
		if !want {
			continue
		}
		if back, err := decode("id", 1, b); err != nil || !back.Expires.Equal(e.Expires) {
			t.Errorf("the year %d is read back as %v, %v", year, back, err)
		}
	}
}

// TestEncodeLeavesOutNothing: encode also writes fields that are added to Entry later.
func TestEncodeLeavesOutNothing(t *testing.T) {
	e := &Entry{
		Namespace: "a", Accessor: "b", Parent: "c", policies: []string{"d"}, Path: "e", DisplayName: "f",
		Meta: map[string]string{"g": "h"},
		Uses: 1, Created: time.Unix(1, 0).UTC(), TTL: 1, Expires: time.Unix(2, 0).UTC(),
		Renewed: time.Unix(3, 0).UTC(), Period: 2, ExplicitMax: 3,
		EntityID: "i", Role: "j", Mount: "k", BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Batch: true, Renewable: true, Wrapping: true,
		State: State{Revoking: true, SpareChildren: true, UsedUp: time.Unix(4, 0).UTC()},
	}
	r := record{e, e.policies}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[record]()) {
		if tag := f.Tag.Get("json"); tag != "" && tag != "-" && reflect.ValueOf(r).FieldByIndex(f.Index).IsZero() {
			t.Errorf("the test leaves out %s", f.Name)
		}
	}
	b, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any // the order of the members does not matter
	if err := errors.Join(json.Unmarshal(b, &got), json.Unmarshal(plain, &want)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-json.Marshal +encode):\n%s", d)
	}
}
