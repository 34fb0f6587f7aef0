package database

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/fault"
)

func TestPlaceholder(t *testing.T) {
	for rest, want := range map[string]string{
		"{{name}}":                         "name",
		"{{name}} and more":                "name",
		"{{ name }}":                       " name ",
		"{{user}}":                         "user",
		"{{zone}}":                         "zone",
		"{{.Name}}":                        ".Name",
		"{{name | quote}}":                 "name | quote",
		"{{name}\"":                        "name}",
		"{{name":                           "name",
		"{{name\n}}":                       "name",
		"{name}}":                          "",
		"{{":                               "",
		"{{}}":                             "",
		"{{1,2},{3,4}}":                    "",
		"{{a,b},{c,d}}":                    "",
		"{{a},{b}}":                        "",
		`{{"a"}}`:                          "",
		"{{a{":                             "",
		"{{" + strings.Repeat("a", 70):     strings.Repeat("a", 64),
		"{{{name}}}":                       "",
		"{" + "{{name}}"[1:] + "{{other}}": "name",
	} {
		name, found := Placeholder(rest)
		if name != want || found != (want != "") {
			t.Errorf("%q has %q, %v; want %q", rest, name, found, want)
		}
	}
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// Statements come as a list, as a text, as a list in JSON, and in base64 of the last two.
func TestStatementForms(t *testing.T) {
	for _, tt := range []struct {
		in            any
		list, written []string
	}{
		{"CREATE; GRANT", []string{"CREATE; GRANT"}, nil},
		{[]string{"CREATE", " ", "GRANT"}, []string{"CREATE", "GRANT"}, nil},
		{`["CREATE", "", "GRANT"]`, []string{"CREATE", "GRANT"}, nil},
		{b64("CREATE; GRANT"), []string{"CREATE; GRANT"}, []string{b64("CREATE; GRANT")}},
		{b64(`["CREATE", "GRANT"]`), []string{"CREATE", "GRANT"}, []string{b64(`["CREATE", "GRANT"]`)}},
		{[]string{`["CREATE", "GRANT"]`}, []string{"CREATE", "GRANT"}, []string{`["CREATE", "GRANT"]`}},
		{[]string{"SELECT 1", b64("SELECT 2")}, []string{"SELECT 1", "SELECT 2"},
			[]string{"SELECT 1", b64("SELECT 2")}},
		{b64(b64("CREATE")), []string{b64("CREATE")}, []string{b64(b64("CREATE"))}}, // once
		{"[not a list", []string{"[not a list"}, nil},
		{"ROLLBACK", []string{"ROLLBACK"}, nil}, // base64 by chance, of no text
		{"+get", []string{"+get"}, nil},
		{"/////w==", []string{"/////w=="}, nil}, // of no UTF-8
		{"", nil, nil},
		{[]string{}, nil, nil},
	} {
		body, err := json.Marshal(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		var s statements
		if err := s.UnmarshalJSON(body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(tt.list, s.list); diff != "" {
			t.Errorf("%s is run as (-want +got):\n%s", body, diff)
		}
		if diff := cmp.Diff(tt.written, s.written); diff != "" {
			t.Errorf("%s is shown as (-want +got):\n%s", body, diff)
		}
	}
	for _, in := range []string{`7`, `[7]`, `{"a": 1}`, `"x`} {
		if err := new(statements).UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
}

// A write that does not name a field keeps the form of its statements; one in another form forgets
// the old one.
func TestStatementFormIsKept(t *testing.T) {
	var f statementForm
	var list []string
	give := func(field string, s *statements) {
		t.Helper()
		if err := f.set(field, &list, s); err != nil {
			t.Fatal(err)
		}
	}
	give("creation_statements", &statements{list: []string{"A"}, written: []string{"QQ=="}})
	before := f
	give("creation_statements", nil)
	give("renew_statements", &statements{list: []string{"B"}})
	if got := f.out("creation_statements", []string{"A"}); !cmp.Equal(got, []string{"QQ=="}) {
		t.Errorf("shown as %q", got)
	}
	give("creation_statements", &statements{list: []string{"C"}})
	if got := f.out("creation_statements", []string{"C"}); f != nil || !cmp.Equal(got, []string{"C"}) ||
		len(before) != 1 {
		t.Errorf("shown as %q; %v, and %v before", got, f, before)
	}
	long := &statements{list: []string{strings.Repeat("a", MaxStatements), "b"}}
	if err := f.set("creation_statements", &list, long); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Message(err), "more than 64 KiB") {
		t.Errorf("too long statements: %v", err)
	}
}

func TestFoundCheck(t *testing.T) {
	for _, tt := range []struct{ field, name, want string }{
		{"creation_statements", "name", ""},
		{"creation_statements", "expiration", ""},
		{"renew_statements", "expiration", ""},
		{"creation_statements", " name ", "{{ name }} is not a placeholder; write {{name}}"},
		{"creation_statements", ".password", "write {{password}}"},
		{"creation_statements", "name}", "write {{name}}"},
		{"creation_statements", "user", "{{user}} is not a placeholder there; use {{name}}"},
		{"revocation_statements", "password", "{{password}} is not a placeholder there"},
		{"rotation_statements", "expiration", "{{expiration}} is not a placeholder there"},
	} {
		err := Found{field: tt.field, Placeholders: []string{"username", tt.name}}.checkPlaceholders()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(fault.Message(err), tt.want) {
			t.Errorf("%s in %s: %v, want %q", tt.name, tt.field, err, tt.want)
		}
	}
}

func TestStatementsAreBounded(t *testing.T) {
	for size, want := range map[int]bool{0: true, MaxStatements: true, MaxStatements + 1: false} {
		half := strings.Repeat("x", size/2)
		if err := CheckSize("creation_statements",
			[]string{half, half + strings.Repeat("x", size%2)}); (err == nil) != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// FuzzStatementsCost: what a client sends as statements is read in one go, in every form.
func FuzzStatementsCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: 8 * MaxStatements, Steps: 400, Parse: func(text string) error {
		var s statements
		if err := s.UnmarshalJSON([]byte(text)); err == nil && s.oversized {
			return fmt.Errorf("too long")
		}
		return nil
	}}, costtest.Shape{Head: "[", Unit: `"a",`, Tail: `"b"]`},
		costtest.Shape{Head: `"[`, Unit: `\"a\",`, Tail: `\"b\"]"`},
		costtest.Shape{Head: `"`, Unit: "QUFB", Tail: `"`},
		costtest.Shape{Head: `["`, Unit: `["`}, costtest.Shape{Unit: "["})
}

// TestIdentifierByte checks the bytes of identifiers against the scanners of PostgreSQL and MySQL.
func TestIdentifierByte(t *testing.T) {
	const ascii = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$"
	for i := range 256 {
		if b := byte(i); IdentifierByte(b) != (b >= 0x80 || strings.IndexByte(ascii, b) >= 0) {
			t.Errorf("%q: %v", b, IdentifierByte(b))
		}
	}
}
