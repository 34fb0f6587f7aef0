package database

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/username"
)

var sample = naming{installation: "5e0c", display: "token", role: "app-readonly", longest: 63,
	now: time.Unix(1772582400, 0)}

func TestOwnNames(t *testing.T) {
	for _, tt := range []struct {
		longest       int
		display, role string
		want          string
	}{
		{63, "token", "app-readonly", `^v-token-app-readonly-[a-z2-7]{20}-1772582400$`},
		{63, "userpass-ann@example.com", "a-role-with-a-name-that-is-much-too-long",
			`^v-userpass-a-role-with-a-name-t-[a-z2-7]{20}-1772582400$`},
		{63, "", "ro", `^v-token-ro-[a-z2-7]{20}-1772582400$`},
		{63, "ü/ \x00", "rö", `^v------?-r--[a-z2-7]{20}-1772582400$`},
		{32, "token", "app-readonly", `^v-app-readonly-[a-z2-7]{16}$`},
		{16, "token", "app-readonly", `^v-[a-z2-7]{14}$`},
	} {
		n := sample
		n.longest, n.display, n.role = tt.longest, tt.display, tt.role
		got, err := n.generate("")
		if err != nil || !regexp.MustCompile(tt.want).MatchString(got) || len(got) > tt.longest {
			t.Errorf("name(%d, %q, %q) = %q, %v, want %s", tt.longest, tt.display, tt.role, got, err, tt.want)
		}
	}
	a, _ := sample.generate("")
	other := sample
	other.installation = "another"
	b, _ := other.generate("")
	if !strings.Contains(a, username.Marker("5e0c")) || strings.Contains(b, username.Marker("5e0c")) {
		t.Errorf("%q and %q of two installations cannot be told apart", a, b)
	}
}

func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		`{{ printf "v-%s-%s-%s-%s" (.DisplayName | truncate 8) (.RoleName | truncate 8) (random 20) (unix_time) | truncate 63 }}`: `^v-token-app-read-[a-z2-7]{20}-1772582400$`,
		`{{.RoleName | replace "-" "_" | uppercase}}.{{random 5}}`:                                                                `^APP_READONLY\.[a-z2-7]{5}$`,
		`x{{"AbC" | lowercase}}{{sha256 "a" | truncate 6}}{{random 8}}`:                                                           `^xabcca9781[a-z2-7]{8}$`,
		`{{"averyveryverylongname" | truncate_sha256 12}}{{uuid | truncate 13}}`:                                                  `^aver[0-9a-f]{8}[0-9a-f]{8}-[0-9a-f]{4}$`,
		`{{if (eq .RoleName "x")}}{{else}}no{{end}}{{random 9}}`:                                                                  `^no[a-z2-7]{9}$`,
		`{{timestamp "20060102"}}-{{unix_time_millis}}-{{random 20}}`:                                                             `^20260304-1772582400000-[a-z2-7]{20}$`,
		`{{"ab" | base64 | truncate 2}}{{random 9}}`:                                                                              `^YW[a-z2-7]{9}$`,
	} {
		got, err := sample.generate(text)
		if err != nil || !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("name(%s) = %q, %v, want %s", text, got, err, want)
		}
		if err := checkTemplate(new(route.Request), "username_template", text, 63); err != nil {
			t.Errorf("checkTemplate(%s) = %v", text, err)
		}
	}
	for _, text := range []string{
		"{{", "{{nonesuch}}", "{{.Nonesuch}}", `{{random 0}}`, `{{random 1000}}`, `{{random 80}}`, `a b{{random 9}}`,
		`{{truncate 0 "x"}}`,
		`{{truncate_sha256 3 "x"}}`, `{{range 1000000000}}{{end}}`, `{{if true}}{{range 9}}{{end}}{{end}}{{random 9}}`,
		`{{template "username"}}`, `{{printf "%999999d" 1}}`,
		`{{printf "%*d" 99999 1}}`, `{{print}}`, `{{call .RoleName}}`, strings.Repeat("x", 2000),
		`{{html .RoleName}}{{random 9}}`,
		`{{$a := .RoleName}}` + strings.Repeat(`{{$a = print $a $a}}`, 40),
		`{{.RoleName` + strings.Repeat(` | base64`, 90) + `}}`,
		`{{.RoleName` + strings.Repeat(` | replace "" "aaaaaaaa"`, 30) + `}}`,
	} {
		if err := checkTemplate(new(route.Request), "username_template", text, 63); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), `field "username_template"`) {
			t.Errorf("checkTemplate(%.60s) = %v, want it refused", text, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("token", "app-readonly", "id", 63, "")
	f.Add("userpass-ann@example.com", "", "", 16, "{{.RoleName}}-{{random 20}}")
	f.Add("\xff\x00/", strings.Repeat("r", 300), "id", 1, "{{printf \"%s\" .DisplayName | truncate 8}}{{random 12}}")
	f.Add("", "..", "x", -5, "{{uuid}}")
	f.Fuzz(func(t *testing.T, display, role, installation string, longest int, template string) {
		n := naming{installation: installation, display: display, role: role, longest: longest,
			now: time.Unix(1772582400, 0)}
		room := longest
		if room <= 0 || room > 63 {
			room = 63
		}
		got, err := n.generate(template)
		if err != nil {
			if template == "" || !fault.Is(err, fault.Invalid) {
				t.Fatalf("name(%q): %v", template, err)
			}
			return
		}
		if !ValidName(got) || len(got) > room {
			t.Fatalf("name(%q) = %q, at most %d", template, got, room)
		}
		if template != "" || room < 16 {
			return
		}
		if again, _ := n.generate(""); again == got || !strings.HasPrefix(got, "v-") ||
			!strings.Contains(got, username.Marker(installation)) {
			t.Fatalf("names %q and %q of %q", got, again, installation)
		}
	})
}

// A name fits into what its kind of database takes, and shortens first what tells least.
func TestNamesFit(t *testing.T) {
	n := naming{installation: "i", display: "verylong", role: "abcdefg", now: time.Unix(1_700_000_000, 0)}
	for longest := range 64 {
		n.longest = longest
		name, err := n.generate("")
		if fits := len(name) <= longest || longest == 0; err != nil || !fits ||
			!strings.HasPrefix(name, "v-"[:min(2, max(longest, 1))]) {
			t.Errorf("of %d bytes: %q, %v", longest, name, err)
		}
		if timed := strings.HasSuffix(name, "-1700000000"); timed != (longest >= 45 || longest == 0) {
			t.Errorf("of %d bytes: %q has a time: %v", longest, name, timed)
		}
		if plain := strings.Count(name, "-") == 1; longest > 2 && plain != (longest < 24) {
			t.Errorf("of %d bytes: %q is random alone: %v", longest, name, plain)
		}
	}
	for longest, want := range map[int]string{0: "v-verylong-abcdefg-", 45: "v-ver-abcdefg-", 46: "v-very-abcdefg-"} {
		if n.longest = longest; longest != 0 {
			if name, _ := n.generate(""); !strings.HasPrefix(name, want) || len(name) != longest {
				t.Errorf("of %d bytes: %q, want %s…", longest, name, want)
			}
			continue
		}
		if name, _ := n.generate(""); !strings.HasPrefix(name, want) {
			t.Errorf("unbounded: %q, want %s…", name, want)
		}
	}
	n.role = "abcdefgh"
	if n.longest = 45; true {
		if name, _ := n.generate(""); !strings.HasPrefix(name, "v-abcdefgh-") {
			t.Errorf("with no room for three letters of the client: %q", name)
		}
	}
	for longest, fits := range map[int]bool{11: false, 12: true} {
		n.longest = longest
		if _, err := n.generate("twelve-bytes"); (err == nil) != fits {
			t.Errorf("twelve bytes of %d: %v", longest, err)
		}
	}
	for template, want := range map[string]bool{"": false, "v-{{random 20}}": false, "v-x": true, "{{": false} {
		n.longest = 63
		if got := n.repeats(template); got != want {
			t.Errorf("%q makes a name again: %v", template, got)
		}
	}
}
