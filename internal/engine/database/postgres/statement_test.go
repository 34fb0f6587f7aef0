package postgres

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
)

const guide = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`

func TestSubstitute(t *testing.T) {
	values := map[string]string{"name": "v-app-1", "username": "v-app-1", "password": "p",
		"expiration": "2026-03-09 00:00:00+0000"}
	for _, test := range []struct{ name, sql, password, want string }{
		{"the guide's", guide, "abc-123",
			`CREATE ROLE "v-app-1" WITH LOGIN PASSWORD 'abc-123' VALID UNTIL '2026-03-09 00:00:00+0000'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "v-app-1";`},
		{"quote", `PASSWORD '{{password}}'`, `it's`, `PASSWORD 'it''s'`},
		{"backslash is plain", `PASSWORD '{{password}}'`, `a\'b`, `PASSWORD 'a\''b'`},
		{"escape string", `PASSWORD E'{{password}}'`, `a\'b`, `PASSWORD E'a\\''b'`},
		{"unicode string", `PASSWORD U&'{{password}}'`, `a\b`, `PASSWORD U&'a\\b'`},
		{"a word that ends in e", `PASSWORD TABLE'{{password}}'`, `a\b`, `PASSWORD TABLE'a\b'`},
		{"identifier", `COMMENT "{{password}}"`, `a"b`, `COMMENT "a""b"`},
		{"doubled quote before", `SELECT 'it''s {{password}}'`, `a'b`, `SELECT 'it''s a''b'`},
		{"dollar quote", `DO $$ {{password}} $$`, `a;b`, `DO $$ a;b $$`},
		{"tagged dollar quote", `DO $x$ '$$' {{password}} $x$`, `a`, `DO $x$ '$$' a $x$`},
		{"two dollar quotes", `SELECT $$a$$$$ it's $$ , '{{password}}'`, `it's`, `SELECT $$a$$$$ it's $$ , 'it''s'`},
		{"parameters", `SELECT $1$2 , '{{password}}' , $1$`, `it's`, `SELECT $1$2 , 'it''s' , $1$`},
		{"the first parameter", `SELECT $0$2 , '{{password}}' , $0$`, `it's`, `SELECT $0$2 , 'it''s' , $0$`},
		{"the last parameter", `SELECT $9$2 , '{{password}}' , $9$`, `it's`, `SELECT $9$2 , 'it''s' , $9$`},
		{"a tag with a digit", `DO $a1$ '{{password}}' $a1$`, `a`, `DO $a1$ 'a' $a1$`},
		{"dollar in a name", `SELECT a$b$ , '{{password}}' , c$b$`, `it's`, `SELECT a$b$ , 'it''s' , c$b$`},
		{"comment", "SELECT 1 -- {{password}} it's\n, '{{password}}'", `x'y`,
			"SELECT 1 -- {{password}} it's\n, 'x''y'"},
		{"nested comment", `/* a /* ' */ {{password}} */ '{{password}}'`, `x`, `/* a /* ' */ {{password}} */ 'x'`},
		{"unknown placeholder", `SELECT '{{other}} {{ password }}'`, `x`, `SELECT '{{other}} {{ password }}'`},
		{"bare", `ALTER ROLE {{name}} SET x = {{password}}`, `abc`, `ALTER ROLE v-app-1 SET x = abc`},
		{"verifier in a dollar quote", `DO $$ {{password}} $$`, `SCRAM-SHA-256$4096:c2FsdA==$c3Rv:c2Vy`,
			`DO $$ SCRAM-SHA-256$4096:c2FsdA==$c3Rv:c2Vy $$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			values["password"] = test.password
			got, err := substitute("creation_statements", test.sql, values)
			if err != nil || got != test.want {
				t.Errorf("substitute(%q) = %q, %v; want %q", test.sql, got, err, test.want)
			}
		})
	}
}

func TestSubstituteRefuses(t *testing.T) {
	for _, test := range []struct{ sql, password string }{
		{`SET x = {{password}}`, `a;b`},
		{`SET x = {{password}}`, `a--b`},
		{`SET x = {{password}}`, `é`},
		{`SET x = {{password}}`, `'`},
		{`SET x = {{password}}`, "a\u0080"},
		{`DO $$ {{password}} $$`, `$$; DROP TABLE t; --`},
		{`DO $$ x{{password}}$$`, `$`},
		{`DO $a$ {{password}} $a$`, `b$a$b`},
		{`DO $$ EXECUTE '{{password}}' $$`, `it's`},
		{`PASSWORD '{{password}}'`, "a\x00b"},
	} {
		got, err := substitute("creation_statements", test.sql, map[string]string{"password": test.password})
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), test.password) && len(test.password) > 1 {
			t.Errorf("substitute(%q, %q) = %q, %v; want a refusal that does not show the value", test.sql,
				test.password, got, err)
		}
	}
}

func TestFirstWords(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{guide, []string{"CREATE ROLE", "GRANT SELECT"}},
		{"", nil},
		{" ; -- nothing\n;/* ; */", nil},
		{"select 1;commit", []string{"SELECT 1", "COMMIT"}},
		{"/* x */ select';';drop role x", []string{"SELECT", "DROP ROLE"}},
		{"DO $$ BEGIN; COMMIT; END $$; GRANT a TO b", []string{"DO", "GRANT A"}},
		{"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); DROP x", []string{"CREATE RULE", "DROP X"}},
		{"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; DROP x",
			[]string{"CREATE FUNCTION", "DROP X"}},
		{"(select 1)", []string{"SELECT 1"}},
		{"'x'", []string{"?"}},
		{"()", []string{"?"}},
		{"CREATE FUNCTION f() RETURNS int RETURN CASE WHEN true THEN 1 END; DROP x",
			[]string{"CREATE FUNCTION", "DROP X"}},
		{"CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END; DROP x", []string{"CREATE OR", "DROP X"}},
		{"ALTER FUNCTION begin(); DROP x", []string{"ALTER FUNCTION", "DROP X"}},
		{"CREATE TABLE begin (a int); DROP x", []string{"CREATE TABLE", "DROP X"}},
	} {
		if diff := cmp.Diff(test.want, firstWords(test.sql)); diff != "" {
			t.Errorf("firstWords(%q) (-want +got):\n%s", test.sql, diff)
		}
	}
}

func TestCompile(t *testing.T) {
	values := map[string]string{"name": "v"}
	s, err := compile("creation_statements", []string{`CREATE ROLE "{{name}}" -- ours`, "GRANT a TO b;"}, values)
	if want := "CREATE ROLE \"v\" -- ours\n;\nGRANT a TO b;\n;\n"; err != nil || s.sql != want {
		t.Errorf("got %q, %v; want %q", s.sql, err, want)
	}
	if s.resets() {
		t.Error("CREATE and GRANT ask for a session's reset")
	}
	for _, sql := range []string{"SET ROLE x; CREATE ROLE y", "SELECT set_config('role', 'x', false)", "DO $$ $$",
		"LISTEN x"} {
		if s, err := compile("f", []string{sql}, values); err != nil || !s.resets() {
			t.Errorf("%q: resets() = %v, %v; want true", sql, s.resets(), err)
		}
	}
	for _, test := range []struct{ sql, want string }{
		{"", "no statement"},
		{"-- nothing", "no statement"},
		{"SELECT 'x", "a '"},
		{`SELECT "x`, `a "`},
		{"SELECT $a$ $b$", "dollar quote"},
		{"SELECT /* /* */", "a /*"},
		{"SELECT E'\\'", "a '"},
		{"SELECT 1; COMMIT", "COMMIT"},
		{"begin", "BEGIN"},
		{"start transaction", "START"},
		{"PREPARE TRANSACTION 'x'", "PREPARE"},
		{"SELECT \x00", "NUL"},
		{"\\c app\nCREATE ROLE x", `\c, which is a command of psql`},
		{"SELECT 1 \\gexec", `\gexec, which`},
		{`SELECT 1 \` + strings.Repeat("a", 40), `has \` + strings.Repeat("a", 15) + ", which"},
	} {
		_, err := compile("creation_statements", []string{test.sql}, values)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), test.want) ||
			!strings.HasPrefix(fault.Message(err), "creation_statements") {
			t.Errorf("compile(%q): %v; want Invalid naming the field and %q", test.sql, err, test.want)
		}
	}
}

// FuzzSubstitute checks that no value can end the quotes around it.
func FuzzSubstitute(f *testing.F) {
	for _, seed := range []string{`it's`, `\`, `$$`, `$a$`, `";--`, "\n", `*/`, `'`, `{{name}}`, `é`} {
		f.Add(seed)
	}
	texts := []string{guide, `SELECT '{{password}}', E'{{password}}', "{{password}}"; DROP x`,
		`DO $$ {{password}} $$; DROP x`, `DO $a$ {{password}}$a$; DROP x`, "SELECT 1 -- {{password}}\n; DROP x",
		`SET x = {{password}}; DROP x`}
	f.Fuzz(func(t *testing.T, password string) {
		for _, text := range texts {
			values := map[string]string{"name": "v", "password": "x", "expiration": "e"}
			plain, err := substitute("f", text, values)
			if err != nil {
				t.Fatal(err)
			}
			values["password"] = password
			got, err := substitute("f", text, values)
			if err != nil {
				continue
			}
			if len(firstWords(got)) != len(firstWords(plain)) {
				t.Fatalf("%q with %q has %d statements, want %d: %q", text, password, len(firstWords(got)),
					len(firstWords(plain)), got)
			}
			if err := checkText("f", got); err != nil {
				t.Fatalf("%q with %q: %v", text, password, err)
			}
		}
	})
}

// FuzzLexer checks that any text is scanned to its end.
func FuzzLexer(f *testing.F) {
	f.Add(guide, "x")
	f.Add("E'\\", "'")
	f.Add("$", "$")
	f.Fuzz(func(t *testing.T, text, value string) {
		_ = checkText("f", text)
		firstWords(text)
		_, _ = compile("f", []string{text}, map[string]string{"name": value})
	})
}

func TestInspect(t *testing.T) {
	databasetest.Inspected(t, inspect, map[string]database.Found{
		guide: {Placeholders: []string{"name", "password", "expiration"}},
		`CREATE ROLE "{{ name }}" PASSWORD '{{user}}' -- {{password}}`: {Placeholders: []string{" name ", "user"}},
		`DO $$ BEGIN PERFORM '{{.Name}}'; END $$`:                      {Placeholders: []string{".Name"}},
		`SELECT '{{1,2},{3,4}}'::int[], E'\\c', '\c'`:                  {Queries: true},
		`SELECT create_user('{{name}}')`:                               {Placeholders: []string{"name"}, Queries: true},
	})
}

// FuzzStatementCost checks that the cost of statements is linear in their size. Once, the search
// for the end of each pair of braces went to the end of the text.
func FuzzStatementCost(f *testing.F) {
	v := map[string]string{"name": "v-app-1", "password": `p'"`}
	costtest.Fuzz(f, costtest.Parser{Limit: database.MaxStatements, Steps: 3000, Parse: func(text string) error {
		if _, err := inspect("creation_statements", []string{text}); err != nil {
			return err
		}
		_, err := compile("creation_statements", []string{text}, v)
		return err
	}}, costtest.Shape{Unit: "{{"}, costtest.Shape{Unit: "SELECT '{{name}}';"}, costtest.Shape{Unit: "$"},
		costtest.Shape{Head: "SELECT $a", Unit: "a"}, costtest.Shape{Unit: "$a "},
		costtest.Shape{Head: "CREATE FUNCTION f() BEGIN ATOMIC ", Unit: "CASE;"},
		costtest.Shape{Head: "SELECT $a$ ", Unit: "$a", Tail: "$a$"}, costtest.Shape{Unit: "/*"},
		costtest.Shape{Unit: "U&'\\'"})
}
