package seal

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

func sample(t testing.TB) *Record {
	t.Helper()
	c := NewCopy("people", "", Split{2, 2})
	for i := range 2 {
		c.AddCheck([]byte{byte(i)})
	}
	if err := c.Lock([]byte("key"), NewRootKey()); err != nil {
		t.Fatal(err)
	}
	d := NewCopy("machine", "k1", Split{})
	if err := d.Lock([]byte("key"), NewRootKey()); err != nil {
		t.Fatal(err)
	}
	return &Record{Version: recordVersion, Copies: []Copy{c, d}}
}

func TestRecordRoundTrip(t *testing.T) {
	r := sample(t)
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Errorf("decoded (-want +got):\n%s", d)
	}
	if c, err := got.Copy("machine"); err != nil || c.KeyID != "k1" {
		t.Errorf("Copy(machine) = %q, %v", c.KeyID, err)
	}
	left := got.Without("machine")
	if len(left.Copies) != 1 || left.Copies[0].Seal != "people" || len(got.Copies) != 2 {
		t.Errorf("Without(machine) left %d copies, and %d in the one it was called on", len(left.Copies),
			len(got.Copies))
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(m map[string]any, first map[string]any)) string {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		f(m, m["copies"].([]any)[0].(map[string]any))
		b, _ := json.Marshal(m)
		return string(b)
	}
	for name, tt := range map[string]struct {
		text string
		kind fault.Kind
	}{
		"empty":         {"", fault.Internal},
		"no JSON":       {"\x01\x02", fault.Internal},
		"more":          {string(good) + "{}", fault.Internal},
		"garbage after": {string(good) + "x", fault.Internal},
		"newer":         {change(func(m, _ map[string]any) { m["version"] = 2; m["new"] = true }), fault.Invalid},
		"no version":    {change(func(m, _ map[string]any) { delete(m, "version") }), fault.Internal},
		"unknown field": {change(func(m, _ map[string]any) { m["new"] = true }), fault.Internal},
		"no copies":     {change(func(m, _ map[string]any) { m["copies"] = []any{} }), fault.Internal},
		"no name":       {change(func(_, c map[string]any) { c["seal"] = "" }), fault.Internal},
		"one twice":     {change(func(_, c map[string]any) { c["seal"] = "machine" }), fault.Internal},
		"no key":        {change(func(_, c map[string]any) { c["wrapped"] = "" }), fault.Internal},
		"threshold":     {change(func(_, c map[string]any) { c["threshold"] = 3 }), fault.Internal},
		"no threshold":  {change(func(_, c map[string]any) { c["threshold"] = 0 }), fault.Internal},
		"many shares":   {change(func(_, c map[string]any) { c["shares"] = 256 }), fault.Internal},
		"checks":        {change(func(_, c map[string]any) { c["checks"] = []any{"AAAAAAAAAAA="} }), fault.Internal},
		"short check":   {change(func(_, c map[string]any) { c["checks"] = []any{"AAA=", "AAA="} }), fault.Internal},
	} {
		if _, err := Decode([]byte(tt.text)); !fault.Is(err, tt.kind) || fault.Message(err) == "" {
			t.Errorf("%s: Decode = %v, want %s with a message", name, err, tt.kind)
		}
	}
	if _, err := (&Record{}).Encode(); err == nil {
		t.Error("an empty record was encoded")
	}
}

// TestFixture opens a record that version 1 wrote.
func TestFixture(t *testing.T) {
	b, err := os.ReadFile("testdata/record-1.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	root, err := r.Copies[0].Unlock([]byte("the key of the fixture"))
	if want := secret.Text("the root key of the fixture, 32b"); err != nil || !root.Equal(want) {
		t.Errorf("Unlock = another key, %v", err)
	}
	if !r.Copies[0].Check(1, []byte("share one")) || r.Copies[0].Check(2, []byte("share one")) ||
		r.Copies[0].Check(3, nil) || r.Copies[0].Check(0, nil) {
		t.Error("the fixture's shares are not recognised")
	}
}

func TestParseShare(t *testing.T) {
	want := bytes.Repeat([]byte{0xfb, 0xef, 0xff}, 11)
	v := secret.New(want)
	url := strings.NewReplacer("+", "-", "/", "_").Replace(Base64(v).RevealString())
	for _, text := range []string{Hex(v).RevealString(), strings.ToUpper(Hex(v).RevealString()), Base64(v).
		RevealString(), url, "\t" + url + "\n"} {
		if got, err := ParseShare(secret.Text(text)); err != nil || !got.Equal(v) {
			t.Errorf("ParseShare(%q) = another share, %v", text, err)
		}
	}
	for _, text := range []string{"", "  ", "not a key!", strings.Repeat("ab", 600)} {
		if _, err := ParseShare(secret.Text(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseShare(%q) = %v, want invalid", text, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := os.ReadFile("testdata/record-1.json")
	if err != nil {
		f.Fatal(err)
	}
	known, err := Decode(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"copies":[{"seal":"a","wrapped":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("a decoded record does not encode: %v", err)
		}
		r2, err := Decode(again)
		if err != nil {
			t.Fatalf("an encoded record does not decode: %v", err)
		}
		for i, c := range r2.Copies {
			if c.Seal != r.Copies[i].Seal || !bytes.Equal(c.Wrapped, r.Copies[i].Wrapped) {
				t.Errorf("copy %d changed", i)
			}
			_, err := c.Unlock([]byte("the key of the fixture"))
			k := known.Copies[0]
			if (err == nil) != (bytes.Equal(c.Wrapped, k.Wrapped) && bytes.Equal(c.bound(), k.bound())) {
				t.Errorf("copy %d: Unlock = %v", i, err)
			}
		}
	})
}

func FuzzParseShare(f *testing.F) {
	f.Add("00ff")
	f.Add("AP8=")
	f.Add("AP8")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseShare(secret.Text(text))
		if err != nil {
			return
		}
		if got, err := ParseShare(Hex(v)); v.Len() > 0 && v.Len() <= maxShareText/2 && (err != nil || !got.Equal(v)) {
			t.Errorf("%q is parsed, and its hexadecimal form not: %v", text, err)
		}
	})
}

// FuzzShareCost: a share is short.
func FuzzShareCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxShareText, Parse: func(text string) error {
		_, err := ParseShare(secret.Text(text))
		return err
	}}, costtest.Shape{Unit: "a"}, costtest.Shape{Unit: "="}, costtest.Shape{Unit: "-_"})
}
