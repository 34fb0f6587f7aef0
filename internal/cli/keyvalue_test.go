package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseData(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        map[string]any
		fails       string
	}{
		{name: "nothing", want: map[string]any{}},
		{name: "first equal sign", args: []string{"a=b=c", "d="}, want: map[string]any{"a": "b=c", "d": ""}},
		{name: "text stays text", args: []string{"ttl=1h", "n=007", "on=true"},
			want: map[string]any{"ttl": "1h", "n": "007", "on": "true"}},
		{name: "spaces stay", args: []string{" a = b "}, want: map[string]any{" a ": " b "}},
		{name: "escaped at", args: []string{`a=\@b`, `c=\b`, `d=b@c`},
			want: map[string]any{"a": "@b", "c": `\b`, "d": "b@c"}},
		{name: "twice", args: []string{"a=1", "a=2", "a=3"}, want: map[string]any{"a": []any{"1", "2", "3"}}},
		{name: "value from stdin", stdin: "x=y\n", args: []string{"a=-"}, want: map[string]any{"a": "x=y\n"}},
		{name: "object from stdin", stdin: ` {"a": [1, {"b": null}], "c": 1.10} `, args: []string{"-", "d=1"},
			want: map[string]any{"a": []any{json.Number("1"), map[string]any{"b": nil}}, "c": json.Number("1.10"),
				"d": "1"}},
		{name: "stdin twice", stdin: "{}", args: []string{"-", "-"}, fails: "read by an earlier argument"},
		{name: "no equal sign", args: []string{"a"}, fails: "key=value"},
		{name: "no key", args: []string{"=a"}, fails: "no key"},
		{name: "binary", stdin: "\xff\x00", args: []string{"a=-"}, fails: "a is not UTF-8"},
		{name: "no file", args: []string{"a=@/does/not/exist"}, fails: "no such file"},
		{name: "no object", stdin: "[]", args: []string{"-"}, fails: "no object"},
		{name: "null", stdin: "null", args: []string{"-"}, fails: "no object"},
		{name: "two objects", stdin: "{}{}", args: []string{"-"}, fails: "more than one"},
		{name: "broken", stdin: "{", args: []string{"-"}, fails: "not a JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseData(strings.NewReader(c.stdin), c.args)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("got %v, %v; want an error with %q", got, err, c.fails)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// FuzzParseData checks that one argument gives exactly one field, whose key and value are the two
// sides of the argument.
func FuzzParseData(f *testing.F) {
	for _, seed := range []string{"a=b", "a=b=c", "=", "-", "@", "a=-", `a=\@`, "a=@", "", "\x00=\xff", "a"} {
		f.Add(seed, "stdin")
	}
	f.Fuzz(func(t *testing.T, arg, stdin string) {
		key, text, ok := strings.Cut(arg, "=")
		if strings.HasPrefix(arg, "@") || strings.HasPrefix(text, "@") {
			return // reads files
		}
		got, err := parseData(strings.NewReader(stdin), []string{arg})
		if arg == "-" {
			if err == nil && !json.Valid([]byte(stdin)) {
				t.Fatalf("%q was taken for JSON", stdin)
			}
			return
		}
		read := text
		if text == "-" {
			read = stdin
		}
		if wrong := !ok || key == "" || !utf8.ValidString(key) || !utf8.ValidString(read); wrong != (err != nil) {
			t.Fatalf("%q: %v, %v", arg, got, err)
		}
		if err != nil {
			return
		}
		want := text
		switch {
		case text == "-":
			want = stdin
		case strings.HasPrefix(text, `\@`):
			want = text[1:]
		}
		if len(got) != 1 || got[key] != want {
			t.Fatalf("%q gives %q, want %q: %q", arg, got, key, want)
		}
	})
}

// FuzzYAMLText checks that an unquoted scalar can only be read as text.
func FuzzYAMLText(f *testing.F) {
	for _, seed := range []string{"", "a", "Yes", "null", "1", "-", "a: b", "a #b", "\n", "~", "é", "0x1f", ".inf"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := yamlText(text)
		if strings.HasPrefix(got, `"`) {
			var back string
			if err := json.Unmarshal([]byte(got), &back); err != nil {
				t.Fatalf("%q became %s: %v", text, got, err)
			}
			return
		}
		if got != text || strings.ContainsAny(got, " :#\n\t'\"{}[],&*!|>%@`~") ||
			strings.Contains("-.0123456789/", got[:1]) {
			t.Fatalf("%q became the plain scalar %q", text, got)
		}
	})
}
