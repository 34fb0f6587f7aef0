package wire_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

type request struct {
	Text  string            `json:"text"`
	TTL   time.Duration     `json:"ttl"`
	List  []string          `json:"list"`
	Flag  bool              `json:"flag"`
	N     int               `json:"n"`
	Maybe *int              `json:"maybe"`
	Map   map[string]string `json:"map"`
	Raw   wire.Raw          `json:"raw"`
	Pass  secret.Value      `json:"pass"`
	Other string
}

func TestDecodeLaxForms(t *testing.T) {
	for _, tt := range []struct {
		body string
		want func(*request)
	}{
		{`{"ttl":"1h"}`, func(r *request) { r.TTL = time.Hour }},
		{`{"ttl":3600}`, func(r *request) { r.TTL = time.Hour }},
		{`{"ttl":"3600"}`, func(r *request) { r.TTL = time.Hour }},
		{`{"ttl":"1d12h"}`, func(r *request) { r.TTL = 36 * time.Hour }},
		{`{"ttl":""}`, func(*request) {}},
		{`{"list":"a, b,,c"}`, func(r *request) { r.List = []string{"a", "b", "c"} }},
		{`{"list":["a,b","c"]}`, func(r *request) { r.List = []string{"a,b", "c"} }},
		{`{"list":[]}`, func(r *request) { r.List = []string{} }},
		{`{"flag":"true"}`, func(r *request) { r.Flag = true }},
		{`{"flag":1}`, func(r *request) { r.Flag = true }},
		{`{"n":"7"}`, func(r *request) { r.N = 7 }},
		{`{"n":7.0}`, func(r *request) { r.N = 7 }},
		{`{"text":5}`, func(r *request) { r.Text = "5" }},
		{`{"text":null}`, func(*request) {}},
		{`{"map":{"a":1}}`, func(r *request) { r.Map = map[string]string{"a": "1"} }},
		{`{"map":["a=b"]}`, func(r *request) { r.Map = map[string]string{"a": "b"} }},
		{`{"text":"é\n\"x"}`, func(r *request) { r.Text = "é\n\"x" }},
	} {
		var got, want request
		unknown, err := wire.Decode([]byte(tt.body), &got)
		if err != nil || len(unknown) > 0 {
			t.Errorf("Decode(%s): unknown %v, err %v", tt.body, unknown, err)
			continue
		}
		tt.want(&want)
		d := cmp.Diff(want, got, cmp.Comparer(func(a, b secret.Value) bool { return a.Equal(b) }),
			cmp.Comparer(func(a, b wire.Raw) bool { return string(a.Reveal()) == string(b.Reveal()) }))
		if d != "" {
			t.Errorf("Decode(%s): %s", tt.body, d)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, body := range []string{
		`{"ttl":"soon"}`, `{"ttl":-1}`, `{"ttl":"-1h"}`, `{"n":1.5}`, `{"n":"x"}`, `{"flag":"maybe"}`, `{"text":{}}`,
		`{"list":{}}`, `[]`, `3`,
	} {
		var r request
		if _, err := wire.Decode([]byte(body), &r); err == nil {
			t.Errorf("Decode(%s) succeeded: %+v", body, r)
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	var r request
	unknown, err := wire.Decode([]byte(`{"text":"a","zzz":1,"Other":"x"}`), &r)
	if err != nil || strings.Join(unknown, ",") != "zzz,Other" {
		t.Errorf("unknown = %v, err = %v, want zzz and Other", unknown, err)
	}
}

func TestDecodeRest(t *testing.T) {
	var in struct {
		Text string `json:"text"`
		//lint:ignore SA5008 the option is ours
		Rest map[string]wire.Raw `json:",rest"`
	}
	unknown, err := wire.Decode([]byte(`{"text":"a","zzz":1,"Other":null}`), &in)
	if err != nil || unknown != nil || in.Text != "a" || len(in.Rest) != 2 || string(in.Rest["zzz"].Reveal()) != "1" {
		t.Errorf("unknown = %v, err = %v, rest has %d", unknown, err, len(in.Rest))
	}
}

type response struct {
	Name  string         `json:"name"`
	Pass  secret.Value   `json:"pass"`
	TTL   time.Duration  `json:"ttl"`
	When  time.Time      `json:"when"`
	Raw   wire.Raw       `json:"raw"`
	Nil   *int           `json:"nil"`
	Empty []string       `json:"empty"`
	Map   map[string]int `json:"map"`
	Omit  string         `json:"omit,omitempty"`
	Plain string         `json:"plain" audit:"clear"`
}

var sample = response{
	Name: "a<b>\"", Pass: secret.Text("s3cr3t"), TTL: 90 * time.Second,
	When: time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC),
	Raw:  wire.RawOf([]byte(`{"k":"canary","n":12345678901234567890, "deep":[true,null,"x"]}`)),
	Map:  map[string]int{"b": 2, "a": 1}, Plain: "seen",
}

func TestAppend(t *testing.T) {
	want := `{"name":"a<b>\"","pass":"s3cr3t","ttl":90,"when":"2026-03-09T00:00:00Z","raw":{"k":"canary","n":12345678901234567890, "deep":[true,null,"x"]},"nil":null,"empty":null,"map":{"a":1,"b":2},"plain":"seen"}`
	if got := string(wire.Append(nil, sample)); got != want {
		t.Errorf("Append:\n got %s\nwant %s", got, want)
	}
}

// Every leaf of a secret payload is replaced: strings, numbers and booleans.
func TestAppendAudit(t *testing.T) {
	got := string(wire.AppendAudit(nil, sample, func(dst, plain []byte) []byte { return append(dst, `"#"`...) }))
	want := `{"name":"#","pass":"#","ttl":"#","when":"#","raw":{"k":"#","n":"#","deep":["#",null,"#"]},"nil":null,"empty":null,"map":{"a":"#","b":"#"},"plain":"seen"}`
	if got != want {
		t.Errorf("AppendAudit:\n got %s\nwant %s", got, want)
	}
	got = string(wire.AppendAudit(nil, sample.Raw, func(dst, plain []byte) []byte { return append(dst, `"#"`...) },
		"n"))
	if want := `{"k":"#","n":12345678901234567890,"deep":["#",null,"#"]}`; got != want {
		t.Errorf("AppendAudit with a clear member:\n got %s\nwant %s", got, want)
	}
}

func TestCheck(t *testing.T) {
	l := wire.Limits{Depth: 3, Entries: 3, Elements: 3, StringLen: 8}
	for body, ok := range map[string]bool{
		`{}`: true, `{"a":{"b":1}}`: true, `[[[1]]]`: true, `[[[[1]]]]`: false, `{"a":[[[1]]]}`: false,
		`{"a":1,"a":2}`: false, `{"a":1,"\u0061":2}`: false,
		`{"a":1,"b":2,"c":3,"d":4}`: false, `[1,2,3,4]`: false, `"123456789"`: false, `{"a"}`: false,
		`{"a":01}`: false, `nul`: false,
		`{"a":"` + "\x01" + `"}`: false, `{} {}`: false, ``: false, `-`: false, `1e`: false, `"\x"`: false,
		`"` + "\xff" + `"`: false, `1.5e+3`: true,
	} {
		if err := wire.Check([]byte(body), l); (err == nil) != ok {
			t.Errorf("Check(%q) = %v, want ok %v", body, err, ok)
		}
	}
}

// What Check accepts, encoding/json accepts, and the other way round, but for
// limits and repeated keys.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,true,null,"x\u00e9"]}`, `[`, `{"a":1,"a":2}`, `1e5`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := wire.Check(b, wire.DefaultLimits)
		if err == nil && !json.Valid(b) {
			t.Fatalf("Check accepts %q, encoding/json does not", b)
		}
		if err != nil {
			return
		}
		var r request
		_, _ = wire.Decode(b, &r) // must not panic
		out := wire.AppendAudit(nil, wire.RawOf(b), func(dst, _ []byte) []byte { return append(dst, `"#"`...) })
		if !json.Valid(out) {
			t.Fatalf("AppendAudit of %q is not JSON: %q", b, out)
		}
		var x, y any
		if json.Unmarshal(b, &x) == nil && json.Unmarshal(wire.Append(nil, x), &y) == nil && !cmp.Equal(x, y) {
			t.Fatalf("Append does not round-trip %q: %v", b, cmp.Diff(x, y))
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{
		"1h", "3600", "7d", "1d12h", "-1h", "1e3", "NaN", "9999999999d", "9223372036.854775807",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := wire.ParseDuration(s); err == nil && d < 0 {
			t.Fatalf("ParseDuration(%q) = %v", s, d)
		}
	})
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, time.Millisecond: 1, time.Second: 1, 1999 * time.Millisecond: 1, time.Minute - 1: 59, -time.Second: -1,
	} {
		if got := wire.Seconds(d); got != want {
			t.Errorf("Seconds(%v) = %d, want %d", d, got, want)
		}
	}
}
