package hcltext

import (
	"strings"
	"testing"
)

// A number that no variable holds ended the server that read its configuration.
func TestValuesThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\nb = 1e10000000":                       "line 2: \"1e10000000\" cannot be read",
		"a = " + strings.Repeat("9", 1000):            "line 1: \"9999999999999999999999999999999999999999\" cannot be read",
		"a = [1, 18446744073709551616]":               "line 1: \"18446744073709551616\" cannot be read",
		"a \"b\" {\n c {\n d = 1e400\n}\n}":           "line 3: \"1e400\" cannot be read",
		`{"a": [{"b": 1e400}]}`:                       "line 1: \"1e400\" cannot be read",
		`{"a": 18446744073709551616}`:                 "",
		"a = -9223372036854775808\nb = 0.1\nc = 0x10": "",
	} {
		list, err := Parse(text, Options{MaxBytes: 1 << 20})
		switch {
		case want == "" && (err != nil || list == nil):
			t.Errorf("%.60s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
}
