package password_test

import (
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy/password"
)

const sample = `length = 12
rule "charset" {
  charset = "abc"
  min-chars = 2
}
rule "charset" {
  charset = "0123456789"
  min-chars = 3
}`

func parse(t testing.TB, text string) *password.Policy {
	t.Helper()
	p, err := password.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return p
}

func generate(t testing.TB, p *password.Policy) string {
	t.Helper()
	v, err := p.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return v.RevealString()
}

func TestGenerate(t *testing.T) {
	// HCL and JSON, in each form that JSON may have, mean the same.
	for name, text := range map[string]string{
		"HCL":          sample,
		"JSON list":    `{"length": 12, "rule": [{"charset": {"charset": "abc", "min-chars": 2}}, {"charset": {"charset": "0123456789", "min-chars": 3}}]}`,
		"JSON lists":   `{"length": 12, "rule": [{"charset": [{"charset": "abc", "min-chars": 2}]}, {"charset": [{"charset": "0123456789", "min-chars": 3}]}]}`,
		"JSON objects": `{"length": "12", "rule": {"charset": [{"charset": "cbaabc", "min-chars": 2}, {"charset": "0123456789", "min_chars": 3}]}}`,
	} {
		p := parse(t, text)
		first := map[rune]bool{}
		for range 2000 {
			s := generate(t, p)
			letters, digits := 0, 0
			for _, c := range s {
				switch {
				case strings.ContainsRune("abc", c):
					letters++
				case unicode.IsDigit(c):
					digits++
				default:
					t.Fatalf("%s: %q has %q", name, s, c)
				}
			}
			if len(s) != 12 || letters < 2 || digits < 3 {
				t.Fatalf("%s: %q breaks the policy", name, s)
			}
			first[rune(s[0])] = true
		}
		if len(first) != 13 {
			t.Errorf("%s: the first character was one of %d, want all 13: it is not shuffled", name, len(first))
		}
	}
}

// TestUniform: without required characters, each character of the union is equally likely at each
// place, even if two sets have it.
func TestUniform(t *testing.T) {
	p := parse(t, `length = 8
rule "charset" { charset = "abcde" }
rule "charset" { charset = "cdefgghij" }`)
	const rounds = 5000
	count := map[rune]int{}
	at := map[int]int{}
	for range rounds {
		for i, c := range generate(t, p) {
			count[c]++
			if c == 'c' {
				at[i]++
			}
		}
	}
	far := func(got int, want, deviations float64) bool {
		return math.Abs(float64(got)-want) > deviations*math.Sqrt(want)
	}
	if len(count) != 10 {
		t.Fatalf("%d characters came, want 10: %v", len(count), count)
	}
	for c, n := range count {
		if far(n, rounds*8/10, 6) {
			t.Errorf("%q came %d times, want about %d", c, n, rounds*8/10)
		}
	}
	for i, n := range at {
		if far(n, rounds/10, 6) {
			t.Errorf("%q came %d times at place %d, want about %d", 'c', n, i, rounds/10)
		}
	}
}

func TestDefault(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := generate(t, password.Default())
		has := func(f func(rune) bool) bool { return strings.ContainsFunc(s, f) }
		if len(s) != 20 || !strings.Contains(s, "-") || !has(unicode.IsUpper) || !has(unicode.IsLower) ||
			!has(unicode.IsDigit) || seen[s] {
			t.Fatalf("default password %q", s)
		}
		seen[s] = true
	}
}

// TestOtherScripts: a length counts characters, not bytes.
func TestOtherScripts(t *testing.T) {
	p := parse(t, `length = 10
rule "charset" { charset = "äöü€ж日" min-chars = 10 }`)
	if s := generate(t, p); utf8.RuneCountInString(s) != 10 || !utf8.ValidString(s) {
		t.Errorf("%q does not have ten characters", s)
	}
}

func TestLongest(t *testing.T) {
	if s := generate(t, parse(t, `length = 128
rule "charset" { charset = "ab" min-chars = 128 }`)); len(s) != 128 {
		t.Errorf("it has %d characters", len(s))
	}
}

func TestParseRefuses(t *testing.T) {
	ten := "length = 10\n"
	for text, want := range map[string]string{
		``:                                      "length is missing",
		`rule "charset" { charset = "a" }`:      "length is missing",
		`length = 20`:                           "at least one rule",
		"length = 3\n":                          "line 1: length must be a number from 4 to 128",
		"length = 129\n":                        "from 4 to 128",
		`length = "x"`:                          "length must be",
		`length = [20]`:                         "length must be",
		`length "a" { }`:                        "unknown key",
		ten + ten:                               "already set",
		`{"length": 10, "length": 11}`:          `line 1: the key "length" is given twice`,
		"\ncolour = 1":                          `line 2: unknown key "colour"`,
		`{`:                                     "valid JSON",
		ten + `rule "charset" { }`:              "line 2: charset is missing",
		ten + `rule "charset" "b" { }`:          "want rule",
		ten + `rule = 5`:                        "want rule",
		ten + `rule "regex" { charset = "a" }`:  `line 2: unknown rule "regex"`,
		ten + `rule "charset" { colour = 1 }`:   `unknown key "colour"`,
		ten + `rule "charset" { charset = "" }`: "1 to 1024 printable",
		ten + `rule "charset" { charset = [] }`: "printable",
		ten + "rule \"charset\" { charset = \"a\\u0001\" }":                      "printable",
		ten + "rule \"charset\" { charset = \"a\\u200b\" }":                      "printable",
		ten + "rule \"charset\" { charset = \"a\\u0301\" }":                      "printable",
		ten + "rule \"charset\" { charset = \"a\xff\" }":                         "",
		ten + `rule "charset" { charset = "` + strings.Repeat("a", 1025) + `" }`: "1 to 1024",
		ten + `rule "charset" { charset = "a" min-chars = 11 }`:                  "demand 11 characters together",
		ten + `rule "charset" { charset = "a" min-chars = -1 }`:                  "min-chars must be a number from 0 to 128",
		ten + `rule "charset" { charset = "a" min-chars = "x" }`:                 "min-chars must be",
		ten +
			"rule \"charset\" { charset = \"a\"\n min-chars = 1\n min_chars = 2 }": "line 4: \"min-chars\" is given twice",
		ten + strings.Repeat("rule \"charset\" { charset = \"a\" min-chars = 4611686018427387904 }\n",
			2): "min-chars must be a number from 0 to 128",
		ten + strings.Repeat("rule \"charset\" { charset = \"a\" min-chars = 6 }\n",
			2): "demand 12 characters together",
		strings.Repeat("rule {", 10_000): "deeper than 16",
		strings.Repeat("#", 1<<17):       "longer than 65536 bytes",
	} {
		_, err := password.Parse(text)
		m := fault.Message(err)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(m, want) || !strings.HasPrefix(m, `field "policy": `) {
			t.Errorf("Parse(%.200q) = %v, want it to say %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add(`{"length": 12, "rule": [{"charset": {"charset": "abc", "min-chars": 2}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := password.Parse(text)
		if err != nil {
			if fault.Message(err) == "" {
				t.Fatalf("an error without words: %v", err)
			}
			return
		}
		if n := utf8.RuneCountInString(generate(t, p)); n < 4 || n > 128 {
			t.Fatalf("a password of %d characters by %q", n, text)
		}
	})
}

func BenchmarkGenerate(b *testing.B) {
	p := password.Default()
	for b.Loop() {
		if _, err := p.Generate(); err != nil {
			b.Fatal(err)
		}
	}
}
