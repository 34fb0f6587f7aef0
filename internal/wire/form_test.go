package wire_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// loud is a text whose one form is in lower case.
type loud string

func (l loud) Canonical() string { return strings.ToLower(string(l)) }

type formed struct {
	TTL   time.Duration     `json:"ttl" alias:"lease,old"`
	Names []loud            `json:"names" alias:"name"`
	One   *loud             `json:"one"`
	Plain *[]int            `json:"plain" also:"names"`
	Token secret.Value      `json:"token"`
	Map   map[string]string `json:"map"`
	Whole wire.Raw          `json:",whole"`
	Empty []wire.Raw        `json:"raws"`
}

func TestForm(t *testing.T) {
	f := wire.FormOf(reflect.TypeFor[formed]())
	for name, want := range map[string]wire.Shape{
		"ttl": wire.Scalar, "names": wire.List, "one": wire.Scalar, "plain": wire.List, "token": wire.Scalar,
		"map": wire.Other, "raws": wire.Other, "nobody": wire.Other,
	} {
		if got := f.Shape(name); got != want {
			t.Errorf("Shape(%s) = %v, want %v", name, got, want)
		}
	}
	for _, tt := range []struct{ got, want any }{
		{f.Names("ttl"), []string{"ttl", "lease", "old"}}, {f.Names("map"), []string{"map"}}, {f.First("old"), "ttl"},
		{f.First("x"), "x"},
		{f.Also("plain"), []string{"names"}}, {f.Spell("names", "AbC"), "abc"}, {f.Spell("one", "AbC"), "abc"},
		{f.Spell("token", "AbC"), "AbC"},
	} {
		if d := cmp.Diff(tt.want, tt.got); d != "" {
			t.Error(d)
		}
	}
	for name, want := range map[string]wire.Kind{
		"ttl": wire.KindDuration, "names": wire.KindText, "one": wire.KindText, "plain": wire.KindNumber,
		"token": wire.KindText, "map": wire.KindUnknown, "nobody": wire.KindUnknown,
	} {
		if got := f.Kind(name); got != want {
			t.Errorf("Kind(%s) = %v, want %v", name, got, want)
		}
	}
	var none *wire.Form
	if b, err := none.Rename([]byte(`{"lease":1}`)); err != nil || string(b) != `{"lease":1}` ||
		none.First("a") != "a" || len(none.Names("a")) != 1 ||
		none.Also("a") != nil || none.Shape("a") != wire.Other || none.Kind("a") != wire.KindUnknown ||
		none.Spell("a", "B") != "B" || wire.FormOf(reflect.TypeFor[int]()) != nil {
		t.Errorf("no form: %s, %v", b, err)
	}
}

func TestRename(t *testing.T) {
	f := wire.FormOf(reflect.TypeFor[formed]())
	for body, want := range map[string]string{
		``: ``, `{}`: `{}`, `{"ttl":1}`: `{"ttl":1}`, `{ "x" : 1 }`: `{ "x" : 1 }`, `{"lease":1}`: `{"ttl":1}`,
		`{"l\u0065ase":1}`:                        `{"ttl":1}`,
		`{"a":{"lease":1},"old":"2h","z":[1, 2]}`: `{"a":{"lease":1},"ttl":"2h","z":[1, 2]}`,
		`{"ttl":"","lease":"2h"}`:                 `{"ttl":"2h"}`, `{"lease":null,"ttl":"2h"}`: `{"ttl":"2h"}`,
		`{"ttl":"2h","lease":""}`:              `{"ttl":"2h"}`,
		`{"ttl":"2h","lease":"2h","old":null}`: `{"ttl":"2h"}`, `{"ttl":"2h","lease":"3h"}`: "",
		`{"lease":1,"old":2}`: "", `{"lease":1,"old":2,"ttl":1}`: "",
	} {
		got, err := f.Rename([]byte(body))
		if want == "" && body != "" {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s became %s, %v", body, got, err)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, %v, want %s", body, got, err, want)
		}
	}
}

// TestRenameIsLinear: a body of as many members as are let in costs no more than its size.
func TestRenameIsLinear(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"lease":1`)
	for i := range wire.DefaultLimits.Entries - 1 {
		fmt.Fprintf(&b, `,"k%d":0`, i)
	}
	body := b.String() + "}"
	start := time.Now()
	_, err := wire.FormOf(reflect.TypeFor[formed]()).Rename([]byte(body))
	if err != nil || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestFormIsWhatIsDecoded: what a form tells of a body is what the decoder makes of it.
func TestFormIsWhatIsDecoded(t *testing.T) {
	f := wire.FormOf(reflect.TypeFor[formed]())
	for _, names := range []string{`"A,b , C,,"`, `["A","b"]`, `""`, `"A"`, `[]`, `5`} {
		var in formed2
		if _, err := wire.Decode([]byte(`{"names":`+names+`}`), &in); err != nil {
			t.Fatal(err)
		}
		var text string
		var want []string
		if json.Unmarshal([]byte(names), &want) != nil {
			if json.Unmarshal([]byte(names), &text) != nil {
				text = names
			}
			want = wire.SplitList(text)
		}
		for i := range want {
			want[i] = f.Spell("names", want[i])
		}
		got := []string{}
		for _, n := range in.Names {
			got = append(got, string(n))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s is decoded to %q, and judged as %q", names, got, want)
		}
	}
}

type formed2 struct {
	Names []loud `json:"names"`
}

func TestKey(t *testing.T) {
	sets := [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a,b"}, {"a",
		"b,c"}, {"a,b", "c"}, {"a\x01b"}, {"\x01a"}, {strings.Repeat("x", 300)}}
	seen := map[string][]string{}
	for _, s := range sets {
		k := wire.Key(s...)
		if other, twice := seen[k]; twice {
			t.Errorf("%q and %q have one key", s, other)
		}
		seen[k] = s
	}
}

func TestSecondsOfTheLongest(t *testing.T) {
	if got := wire.Seconds(math.MaxInt64); got != 9223372036 {
		t.Errorf("%d", got)
	}
}
