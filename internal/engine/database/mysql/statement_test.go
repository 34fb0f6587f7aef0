package mysql

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
)

func TestCompile(t *testing.T) {
	v := map[string]string{"word": "AZ_az$09", "name": "v-a_1", "password": `p'"\` + "`"}
	for _, tt := range []struct {
		in   []string
		want []string
	}{
		{[]string{`CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT SELECT ON *.* TO '{{name}}'@'%';`},
			[]string{`CREATE USER 'v-a_1'@'%' IDENTIFIED BY 'p''"\\` + "`'", `GRANT SELECT ON *.* TO 'v-a_1'@'%'`}},
		{[]string{`SELECT "{{password}}", ` + "`{{password}}`"}, []string{`SELECT "p'""\\` + "`\", `p'\"\\```"}},
		{[]string{"SELECT 1;", ";;", "SELECT 2"}, []string{"SELECT 1", "SELECT 2"}},
		{[]string{`SELECT ';', ";", '\';', ''';' -- ; {{password}}
; SELECT 2 # ; it's`}, []string{"SELECT ';', \";\", '\\';', ''';' -- ; {{password}}", "SELECT 2 # ; it's"}},
		{[]string{`SELECT 1--1; SELECT 2 /* ; ' */ + 3 /*! ; */`},
			[]string{"SELECT 1--1", "SELECT 2 /* ; ' */ + 3 /*!", "*/"}},
		{[]string{"DROP USER {{word}}; BEGIN; SELECT 1"}, []string{"DROP USER AZ_az$09", "BEGIN", "SELECT 1"}},
		{[]string{`BEGIN NOT ATOMIC SELECT 1; SELECT 2; END;`}, []string{`BEGIN NOT ATOMIC SELECT 1; SELECT 2; END;`}},
		{[]string{"SELECT 0; CREATE DEFINER = CURRENT_USER PROCEDURE p() BEGIN SELECT 1; END"},
			[]string{"SELECT 0", "CREATE DEFINER = CURRENT_USER PROCEDURE p() BEGIN SELECT 1; END"}},
		{[]string{"-- only a comment\n", "SELECT 1"}, []string{"SELECT 1"}},
	} {
		all, err := compile("creation_statements", tt.in, v)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		var got []string
		for _, s := range all {
			got = append(got, s.sql)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestRefusedStatements(t *testing.T) {
	v := map[string]string{"name": "v-a", "password": "a b", "foreign": "\u0080"}
	for in, want := range map[string]string{
		"SELECT 'a":              "never closed",
		"SELECT `a":              "never closed",
		"SELECT /* a":            "never closed",
		"a\x00b":                 "NUL",
		"":                       "no statement",
		" ; -- nothing":          "no statement",
		"DELIMITER //":           "DELIMITER",
		"SELECT 1; source /x":    "SOURCE, which is a command of the mysql client",
		`SELECT 1 \c`:            `"\\c" outside of quotes`,
		"DROP USER {{password}}": "cannot stand as it is",
		"DROP USER {{foreign}}":  "cannot stand as it is",
	} {
		if _, err := compile("revocation_statements", []string{in}, v); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), want) ||
			!strings.Contains(fault.Message(err), "revocation_statements") {
			t.Errorf("%q: %v, want Invalid with %q", in, err, want)
		}
	}
}

// FuzzText checks that no value can end the quotes around it.
func FuzzText(f *testing.F) {
	f.Add(`it's \ "x"`, "SELECT '{{password}}', 1")
	f.Add("`;--", "SELECT `{{password}}` # x")
	f.Fuzz(func(t *testing.T, value, statement string) {
		before, err1 := cut("f", statement)
		sql, err2 := substitute("f", statement, map[string]string{"password": value})
		if err1 != nil || err2 != nil || strings.Contains(value, "{{") {
			return
		}
		after, err := cut("f", sql)
		if err != nil || len(after) != len(before) {
			t.Errorf("%q with %q: %d statements became %d, %v", statement, value, len(before), len(after), err)
		}
		l := lexer{src: quoteText(value) + ";"}
		for l.pos < len(l.src)-1 {
			if at := l.step(); at == code {
				t.Fatalf("quoteText(%q) ends early", value)
			}
		}
	})
}

func TestInspect(t *testing.T) {
	databasetest.Inspected(t, inspect, map[string]database.Found{
		"CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT app TO '{{name}}'@'%'": {Placeholders: []string{"name", "password"}},
		"CREATE USER '{{ name }}' -- {{password}}\n IDENTIFIED BY \"{{user}}\" /* {{x}} */":    {Placeholders: []string{" name ", "user"}},
		"SELECT '{{1,2}}', `{{a,b}}`, \\N":                                                     {Queries: true},
		"SELECT f('{{name}}')":                                                                 {Placeholders: []string{"name"}, Queries: true},
	})
}

// FuzzStatementCost checks that the cost of statements is linear in their size. Once, a routine
// was scanned again at each of its semicolons.
func FuzzStatementCost(f *testing.F) {
	v := map[string]string{"name": "v-app-1", "password": `p'"`}
	costtest.Fuzz(f, costtest.Parser{Limit: database.MaxStatements, Steps: 1000, Parse: func(text string) error {
		if _, err := inspect("creation_statements", []string{text}); err != nil {
			return err
		}
		_, err := compile("creation_statements", []string{text}, v)
		return err
	}}, costtest.Shape{Head: "CREATE PROCEDURE x", Unit: ";"}, costtest.Shape{Unit: "{{"},
		costtest.Shape{Unit: "SELECT '{{name}}';"}, costtest.Shape{Unit: "/*!{{a "},
		costtest.Shape{Head: "CREATE /*", Unit: "; /* */ /*", Tail: "*/"},
		costtest.Shape{Head: "SELECT '", Unit: `\\{{name}}''`, Tail: "'"})
}
