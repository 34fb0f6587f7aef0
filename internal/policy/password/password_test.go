package password_test

import (
	"strings"
	"testing"
	"unicode"

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

func TestGenerate(t *testing.T) {
	p, err := password.Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	first := map[rune]bool{}
	for range 2000 {
		v, err := p.Generate()
		if err != nil {
			t.Fatal(err)
		}
		s := v.RevealString()
		letters, digits := 0, 0
		for _, c := range s {
			switch {
			case strings.ContainsRune("abc", c):
				letters++
			case unicode.IsDigit(c):
				digits++
			default:
				t.Fatalf("%q has %q", s, c)
			}
		}
		if len(s) != 12 || letters < 2 || digits < 3 {
			t.Fatalf("%q breaks the policy", s)
		}
		first[rune(s[0])] = true
	}
	if len(first) != 13 {
		t.Errorf("the first character was one of %d, want all 13: it is not shuffled", len(first))
	}
}

func TestDefault(t *testing.T) {
	v, err := password.Default().Generate()
	if s := v.RevealString(); err != nil || len(s) != 20 || !strings.Contains(s, "-") {
		t.Fatalf("default password %q, %v", s, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, `length = 3`, `length = 20`, `length = 1000` + "\n" + `rule "charset" { charset = "a" }`,
		`length = 4` + "\n" + `rule "charset" { charset = "a" min-chars = 5 }`, `length = 10` + "\n" + `rule "charset" { }`,
		`length = 10` + "\n" + `rule "regex" { charset = "a" }`, `length = 10` + "\n" + `rule "charset" { charset = "a" colour = 1 }`,
		`colour = 1`, `length = "x"`, `{`, `length = 10` + "\n" + `rule "charset" { charset = "a\u0001" }`,
	} {
		if _, err := password.Parse(text); err == nil {
			t.Errorf("Parse(%q) succeeded", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := password.Parse(text)
		if err != nil {
			return
		}
		if v, err := p.Generate(); err != nil || v.Len() < 4 {
			t.Fatalf("Generate by %q: %d bytes, %v", text, v.Len(), err)
		}
	})
}
