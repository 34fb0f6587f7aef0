package mysql

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestParseDSN(t *testing.T) {
	long := strings.Repeat("d", database.MaxURL-len("tcp(h:1)/"))
	for _, tt := range []struct{ url, user, password, net, addr, db string }{
		{"{{username}}:{{password}}@tcp(db.example.com:3306)/", "root", `p@ss/w:o)rd?&%`, "tcp", "db.example.com:3306",
			""},
		{"{{username}}:{{password}}@tcp(db.example.com)/app", "root", `p@ss/w:o)rd?&%`, "tcp", "db.example.com:3306",
			"app"},
		{"tcp([::1]:3307)/app?timeout=5s", "root", `p@ss/w:o)rd?&%`, "tcp", "[::1]:3307", "app"},
		{"other:a@b:c@tcp(h:1)/", "other", "a@b:c", "tcp", "h:1", ""},
		{"/app", "root", `p@ss/w:o)rd?&%`, "tcp", "127.0.0.1:3306", "app"},
		{"tcp(h:1)/" + long, "root", `p@ss/w:o)rd?&%`, "tcp", "h:1", long},
		{"other@tcp(h:1)/", "other", `p@ss/w:o)rd?&%`, "tcp", "h:1", ""},
		{"{{username}}:{{password}}@unix(/run/mysqld.sock)/", "root", `p@ss/w:o)rd?&%`, "unix", "/run/mysqld.sock",
			""},
	} {
		d, err := parseDSN(
			database.Config{URL: secret.Text(tt.url), Username: "root", Password: secret.Text(`p@ss/w:o)rd?&%`)})
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if d.User != tt.user || d.Passwd != tt.password || d.Net != tt.net || d.Addr != tt.addr || d.DBName != tt.db {
			t.Errorf("%s: got %q %q %q %q %q", tt.url, d.User, d.Passwd, d.Net, d.Addr, d.DBName)
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	const url = "{{username}}:{{password}}@tcp(h:3306)/"
	full := database.Config{URL: secret.Text(url), Username: "root", Password: secret.Text("Canary-password")}
	for want, edit := range map[string]func(*database.Config){
		"connection_url is empty": func(c *database.Config) { c.URL = secret.Value{} },
		"not a URL with a scheme": func(c *database.Config) { c.URL = secret.Text("mysql://root:Canary@h/") },
		"must have the form":      func(c *database.Config) { c.URL = secret.Text("root:Canary@tcp(h:3306)") },
		"NUL byte":                func(c *database.Config) { c.URL = secret.Text("root\x00:Canary@tcp(h:3306)/") },
		`"allowAllFiles"`:         func(c *database.Config) { c.URL = secret.Text(url + "?allowAllFiles=true") },
		`"sql_mode"`:              func(c *database.Config) { c.URL = secret.Text(url + "?sql_mode=ANSI") },
		`"serverPubKey"`:          func(c *database.Config) { c.URL = secret.Text(url + "?serverPubKey=x") },
		"charset":                 func(c *database.Config) { c.URL = secret.Text(url + "?charset=gbk") },
		`the parameter "timeout"`: func(c *database.Config) { c.URL = secret.Text(url + "?timeout=Canary") },
		"unknown protocol":        func(c *database.Config) { c.URL = secret.Text("root:Canary@pipe(h:3306)/") },
		"a placeholder outside": func(c *database.Config) {
			c.URL = secret.Text("root:Canary@tcp({{username}}:1)/")
		},
		"username is empty":       func(c *database.Config) { c.Username = "" },
		"password is empty":       func(c *database.Config) { c.Password = secret.Value{} },
		"password_authentication": func(c *database.Config) { c.PasswordAuthentication = "scram-sha-256" },
		"max_connection_lifetime": func(c *database.Config) { c.ConnLifetime = -1 },
		"max_open_connections":    func(c *database.Config) { c.MaxOpen = 1 << 20 },
		"tls_ca":                  func(c *database.Config) { c.TLSCA = "none" },
		"tls=false": func(c *database.Config) {
			c.URL, c.Extra = secret.Text(url+"?tls=false"), map[string]string{"tls_skip_verify": "true"}
		},
		"not a matching pair": func(c *database.Config) {
			c.Hidden = map[string]secret.Value{"tls_certificate_key": secret.Text("Canary")}
		},
		"names none": func(c *database.Config) { c.URL = secret.Text("@tcp(h:1)/") },
		"longer than": func(c *database.Config) {
			c.URL = secret.Text("tcp(h:1)/" + strings.Repeat("d", database.MaxURL))
		},
		"no host and port": func(c *database.Config) { c.URL = secret.Text("tcp(:3306)/") },
		"leave out tls_certificate and": func(c *database.Config) {
			c.PrivateKey, c.Hidden = secret.Text(
				"x"), map[string]secret.Value{"tls_certificate_key": secret.Text("Canary")}
		},
		"certificate and key are not a": func(c *database.Config) {
			c.TLSCertificate, c.PrivateKey = "xx",
				secret.Text("yy")
		},
		"leave out tls_certificate": func(c *database.Config) {
			c.TLSCertificate, c.Hidden = "x", map[string]secret.Value{"tls_certificate_key": secret.Text("Canary")}
		},
	} {
		c := full
		edit(&c)
		err := Provider.Check(c)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("got %v, want Invalid with %q", err, want)
		}
		if strings.Contains(err.Error(), "Canary") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	if err := Provider.Check(full); err != nil {
		t.Error(err)
	}
	many := full
	for n, want := range map[int]int{2: 2, maxProblems: maxProblems, 20: maxProblems} {
		many.URL = secret.Text(url + "?timeout=1s" + strings.Repeat("&sql_mode=x", n))
		if got := strings.Count(fault.Message(Provider.Check(many)), "sql_mode"); got != want {
			t.Errorf("of %d problems, the error names %d, want %d", n, got, want)
		}
	}
}

// TestErrorsNeverShowThePassword puts the password where it breaks the URL, and looks for it and
// its parts in the errors and in the displayed URL.
func TestErrorsNeverShowThePassword(t *testing.T) {
	const head, tail = "HeadCanary", "TailCanary"
	for _, broken := range []string{
		"u:" + head + "/x?" + tail + "@tcp(h:3306)", "u:" + head + "/x?" + tail + "=1@tcp(h:3306)",
		"u:" + head + "?" + tail + "@tcp(h:3306)", "u:" + head + "/" + tail + "@tcp(h:3306)",
		"u:" + head + "/x?" + tail, "u:" + head + "/x?" + tail + "&y", head + "/x?" + tail,
		"u:" + head + "@" + tail + "/db?" + tail, "u:" + head + "/@tcp(h)/x?" + tail,
		"u:" + head + ")/x?" + tail + "@tcp(h:3306)", "u:" + head + "(/x?" + tail + "=@unix(/x)",
		"u:" + head + "@tcp(h:3306)x/" + tail + "?a=b", "mysql://u:" + head + "/" + tail + "@h/",
		"u:" + head + "@pipe(" + tail + ")/", "u:" + head + "@tcp(h:1)/?timeout=" + tail,
		"u:" + head + "@tcp(h:1)/?" + tail + "=1",
	} {
		c := database.Config{URL: secret.Text(broken)}
		err := Provider.Check(c)
		if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
			t.Errorf("%q: got %v, want Invalid with a message", broken, err)
			continue
		}
		if strings.Contains(err.Error(), "Canary") {
			t.Errorf("%q: %v shows the password", broken, err)
		}
		if shown := Provider.Display(c.URL); strings.Contains(shown, head) {
			t.Errorf("%q is displayed as %q", broken, shown)
		}
	}
}

// TestNoParameterReadsAFile gives a path to each parameter, and checks that the answer is the same
// for an existing file, a missing file, and a device that never ends.
func TestNoParameterReadsAFile(t *testing.T) {
	for _, name := range append(slices.Clone(accepted), known...) {
		answers := map[string]bool{}
		for _, path := range []string{os.Args[0], os.Args[0] + ".absent", "/dev/zero"} {
			err := Provider.Check(database.Config{URL: secret.Text("u:p@tcp(h:3306)/?" + name + "=" + path)})
			answers[strings.ReplaceAll(fmt.Sprint(err), path, "PATH")] = true
			if err == nil && !slices.Contains(accepted, name) {
				t.Errorf("%s is accepted", name)
			}
		}
		if len(answers) > 1 {
			t.Errorf("%s gives different answers: %v", name, answers)
		}
	}
	p, err := prepare(database.Config{URL: secret.Text("u:p@tcp(h:3306)/")})
	if err != nil || p.driver.AllowAllFiles {
		t.Errorf("the server may ask for files of this machine: %v", err)
	}
}

func TestDisplay(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"{{username}}:{{password}}@tcp(h:1)/app?tls=true": "{{username}}:{{password}}@tcp(h:1)/app?tls=true",
		"root:secret@tcp(h:1)/app":                        "root:*****@tcp(h:1)/app",
		"root:se@c/r:et@tcp(h:1)/?x=y":                    "root:*****@tcp(h:1)/?x=y",
		"root@tcp(h:1)/":                                  "root@tcp(h:1)/",
		"root:secret@tcp(h:1)":                            "*****",
		"secret":                                          "*****",
		"root:secret@odd(/":                               "*****",
	} {
		if got := display(secret.Text(in)); got != want {
			t.Errorf("display(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzDisplay(f *testing.F) {
	f.Add("root:", "@tcp(h:1)/app?x=y")
	f.Add("a:b/", "@/")
	f.Fuzz(func(t *testing.T, before, after string) {
		const canary = "CaNaRy0815"
		if !strings.Contains(before, ":") || strings.ContainsAny(after, ":") && strings.Contains(after, "@") ||
			strings.Contains(before, canary) {
			t.Skip()
		}
		d, err := split(before + canary + after)
		if err == nil && !strings.Contains(d.password.RevealString(), canary) {
			t.Skip() // the canary is not the password
		}
		if out := display(secret.Text(before + canary + after)); strings.Contains(out, canary) {
			t.Errorf("shown: %q", out)
		}
	})
}

func TestNameLengths(t *testing.T) {
	for plugin, want := range map[string]int{"mysql-database-plugin": 32, "mysql-rds-database-plugin": 32,
		"mysql-aurora-database-plugin": 32, legacy: 16} {
		if got := Provider.LongestName(plugin); got != want {
			t.Errorf("%s: %d, want %d", plugin, got, want)
		}
	}
}
