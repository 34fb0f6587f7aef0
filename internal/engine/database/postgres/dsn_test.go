package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

const canary = `c4n'ary@/:?#%41\ "x`

func config(url string) database.Config {
	return database.Config{URL: secret.Text(url), Username: "vault_admin", Password: secret.Text(canary)}
}

func TestParseDSN(t *testing.T) {
	long := strings.Repeat("d", database.MaxURL-len("postgresql://h/"))
	for _, test := range []struct {
		name, url string
		raw       bool
		want      settings
	}{
		{"the guide's", "postgresql://{{username}}:{{password}}@db.example.com:5432/myapp", false,
			settings{"user": "vault_admin", "password": canary, "host": "db.example.com", "port": "5432",
				"dbname": "myapp"}},
		{"parameters",
			"postgres://{{username}}:{{password}}@h/db?sslmode=disable&options=-c%20x%3D1&connect_timeout=3", false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "dbname": "db", "sslmode": "disable",
				"options": "-c x=1", "connect_timeout": "3"}},
		{"several hosts", "postgresql://{{username}}@h1:1,[::1]:2,h3/db", false,
			settings{"user": "vault_admin", "password": canary, "host": "h1,::1,h3", "port": "1,2,", "dbname": "db"}},
		{"no credentials in it", "postgresql://h", false,
			settings{"user": "vault_admin", "password": canary, "host": "h"}},
		{"its own", "postgresql://a%40b:p%2Fw@h", false, settings{"user": "a@b", "password": "p/w", "host": "h"}},
		{"an @ in its password", "postgresql://a:p@w@h", false, settings{"user": "a", "password": "p@w", "host": "h"}},
		{"pairs", `host=h port = 5433 user='{{username}}' password={{password}} dbname='my \'db\''`, false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "port": "5433", "dbname": "my 'db'"}},
		{"a scheme in its password", "host=h user=u password=a://b", false,
			settings{"user": "u", "password": "a://b", "host": "h"}},
		{"a backslash at its end", `host=h user=u password=a\`, false,
			settings{"user": "u", "password": `a\`, "host": "h"}},
		{"a host in a parameter", "postgresql:///db?host=h", false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "dbname": "db"}},
		{"nobody", "postgresql://@h/db", false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "dbname": "db"}},
		{"the longest", "postgresql://h/" + long, false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "dbname": long}},
		{"ssl=true", "postgresql://h?ssl=true", false,
			settings{"user": "vault_admin", "password": canary, "host": "h", "sslmode": "require"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config(test.url)
			got, err := parseDSN(c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedDSN(t *testing.T) {
	for url, want := range map[string]string{
		"postgresql://u:a%4@h": "does not begin an escape", "postgresql://u:a%@h": "does not begin an escape",
		"postgresql://u:a%00b@h": "does not begin an escape",
		"postgresql://u:a%+1b@h": "does not begin an escape", "postgresql://u:a%-1b@h": "does not begin an escape",
		"postgresql://u:a%zz@h":   "does not begin an escape",
		"postgresql://u:a\x00b@h": "NUL", "mysql://h": "must begin with", "h": "neither a URL",
		"postgresql://u@[::1/db":                                 "closing bracket",
		"postgresql://h/" + strings.Repeat("d", database.MaxURL): "longer than",
	} {
		if _, err := parseDSN(config(url)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want it to say %q", url, err, want)
		}
	}
}

func TestDisableEscaping(t *testing.T) {
	c := config("postgresql://{{username}}:{{password}}@h/db")
	c.DisableEscaping = true
	c.Password = secret.Text("p%40ss")
	if s, err := parseDSN(c); err != nil || s["password"] != "p@ss" {
		t.Errorf("got %q, %v; want the escape of the user undone", s["password"], err)
	}
	c.URL = secret.Text(`host=h user={{username}} password='{{password}}'`)
	c.Password = secret.Text(`it\'s`)
	if s, err := parseDSN(c); err != nil || s["password"] != "it's" {
		t.Errorf("got %q, %v; want the quoting of the user undone", s["password"], err)
	}
}

// TestErrorsNeverShowThePassword puts the password where it breaks the URL, in every way that
// users do, and looks for it in every error and in the displayed URL.
func TestErrorsNeverShowThePassword(t *testing.T) {
	const pw = "SuperSecretCanary"
	for _, broken := range []string{
		"postgresql://u:%zz" + pw + "@h/db", "postgresql://u:" + pw + "/x@h/db", "postgresql://u:" + pw + "?x@h/db",
		"postgresql://u:12/" + pw + "@h/db", "postgresql://u:" + pw + ":x@h:" + pw + "/db",
		"postgres://h/db?password=" + pw + "&x",
		"host=h password='" + pw, "host=h password=" + pw + " x", pw, "mysql://u:" + pw + "@h", "postgresql://u:" + pw,
		"host=h user=u password=" + pw + " sslmode=maybe", "host=h password=" + pw + " connect_timeout=soon",
		"host=h password=" + pw + " target_session_attrs=" + pw,
		"host=h password=" + pw + " service=x", "postgresql://u:" + pw + "@h?sslrootcert=/nonexistent/" + "ca",
		"postgresql://u:" + pw + "@[::1/db", "postgresql://u:" + pw + "@/db",
		"postgresql://u:" + pw + "@h:99999/db",
		"postgresql://u:" + pw + "@h?sslpassword=" + pw + "&min_protocol_version=9",
	} {
		c := database.Config{URL: secret.Text(broken)}
		err := Provider.Check(c)
		if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
			t.Errorf("%q: got %v, want Invalid with a message", broken, err)
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if all := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(all, pw) {
				t.Errorf("%q: %s shows the password", broken, all)
			}
		}
		if shown := Provider.Display(c.URL); strings.Contains(shown, pw) &&
			!strings.Contains(broken, "target_session_attrs") {
			t.Errorf("%q is displayed as %q", broken, shown)
		}
	}
}

// TestStrayWordsOfAPassword checks that the rest of an unquoted password with spaces, which is
// parsed as a setting, is neither displayed nor logged with an error of the server.
func TestStrayWordsOfAPassword(t *testing.T) {
	c := database.Config{URL: secret.Text("host=h user=u password=Head TailCanary=OtherCanary")}
	p, err := prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	logged := p.admin.Scrub(`unrecognized configuration parameter "TailCanary", value "OtherCanary"`)
	if shown := display(c.URL); strings.Contains(shown+logged, "Canary") {
		t.Errorf("shown: %q, logged: %q", shown, logged)
	}
	for _, fine := range []string{"host=h user=u password={{password}} search_path=app",
		"postgresql://u:p@h/d?search_path=app"} {
		if shown := display(secret.Text(fine)); !strings.Contains(shown, "search_path=app") {
			t.Errorf("%q is shown as %q", fine, shown)
		}
	}
}

func TestDisplay(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"postgresql://{{username}}:{{password}}@h:5432/db?sslmode=disable",
			"postgresql://{{username}}:{{password}}@h:5432/db?sslmode=disable"},
		{"postgresql://u:secret@h:5432/db?sslmode=disable", "postgresql://u:*****@h:5432/db?sslmode=disable"},
		{"postgres://u:a@b@h", "postgres://u:*****@h"},
		{"postgres://u@h/db?password=x&sslmode=require", "postgres://u@h/db?password=*****&sslmode=require"},
		{"host=h user=u password='a b' dbname=x", "dbname=x host=h password=***** user=u"},
		{"host=h user=u password=x sslmode=disable", "host=h password=***** sslmode=disable user=u"},
		{"host=h user=u password=a://b", "host=h password=***** user=u"},
		{"host=h  user={{username}} password={{password}}", "host=h  user={{username}} password={{password}}"},
		{"postgres://u:secret%@h", "*****"},
	} {
		if got := Provider.Display(secret.Text(test.url)); got != test.want {
			t.Errorf("display(%q) = %q, want %q", test.url, got, test.want)
		}
	}
}

func TestCheckReportsAllProblems(t *testing.T) {
	c := config("postgresql://{{username}}@h:x/db?sslmode=maybe")
	c.PasswordAuthentication, c.ConnLifetime, c.MaxOpen = "md5", -1, 1<<20
	c.TLSCA, c.TLSCertificate = "x", "y"
	err := Provider.Check(c)
	for _, want := range []string{"port", "sslmode", "password_authentication", "max_connection_lifetime",
		"max_open_connections", "tls_ca", "private_key"} {
		if !strings.Contains(fault.Message(err), want) {
			t.Errorf("%q does not name %s", fault.Message(err), want)
		}
	}
	for _, url := range []string{"", "postgresql://{{username}}@h", "postgresql://u@h?sslrootcert=/dev/zero"} {
		if err := Provider.Check(database.Config{URL: secret.Text(url)}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q without username: %v, want Invalid", url, err)
		}
	}
}

// TestNothingComesFromTheEnvironment sets the variables that libpq reads, and checks that none is
// used.
func TestNothingComesFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{"PGHOST": "evil", "PGPORT": "1", "PGUSER": "evil", "PGDATABASE": "evil",
		"PGPASSWORD": "evil", "PGSSLMODE": "require",
		"PGAPPNAME": "evil", "PGOPTIONS": "-c evil=1", "PGTZ": "Mars", "PGSSLROOTCERT": "/nonexistent",
		"PGTARGETSESSIONATTRS": "standby", "PGPASSFILE": "/nonexistent", "PGREQUIREAUTH": "none"} {
		t.Setenv(name, value)
	}
	p, err := prepare(database.Config{URL: secret.Text("postgresql://u@h"), MaxOpen: 7, MaxIdle: 3})
	if err != nil {
		t.Fatal(err)
	}
	c := p.pool.ConnConfig
	got := fmt.Sprint(c.Host, c.Port, c.User, c.Database, c.Password, c.RequireAuth, c.ValidateConnect == nil,
		len(c.Fallbacks), p.pool.MaxConns, p.idle)
	if want := fmt.Sprint("h", 5432, "u", "u", "", "", true, 1, 7, 3); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := map[string]string{"application_name": "keyturn", "client_encoding": "UTF8",
		"standard_conforming_strings": "on"}
	if diff := cmp.Diff(want, c.RuntimeParams); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzParseDSN checks that any credentials arrive unchanged, and that neither an error nor the
// displayed URL shows a password.
func FuzzParseDSN(f *testing.F) {
	f.Add("postgresql://{{username}}:{{password}}@h/db", "u", "p@:/?#[]%'\\ ")
	f.Add("host=h user={{username}} password='{{password}}'", "u", "'\\ x=1")
	f.Add("host=h user=u password=a%zz", "", "")
	f.Fuzz(func(t *testing.T, text, username, password string) {
		c := database.Config{URL: secret.Text(text), Username: username, Password: secret.Text(password)}
		_, _ = prepare(c)
		display(c.URL)
		if strings.ContainsRune(username+password, 0) || username == "" || password == "" {
			return
		}
		for _, template := range []string{"postgresql://{{username}}:{{password}}@h/db",
			"host=h user='{{username}}' password={{password}} dbname=db"} {
			c.URL = secret.Text(template)
			p, err := prepare(c)
			if err != nil {
				t.Fatalf("%q with %q, %q: %v", template, username, password, err)
			}
			if got := p.pool.ConnConfig; got.User != username && !strings.Contains(username, "{{") ||
				got.Password != password || got.Host != "h" || got.Database != "db" {
				t.Fatalf("%q with %q, %q arrives as %q, %q at %q/%q", template, username, password, got.User,
					got.Password, got.Host, got.Database)
			}
		}
		// The same password, escaped in the URL itself.
		c.URL = secret.Text("postgresql://u:" + url.QueryEscape(password) + "@h/db")
		if shown := display(c.URL); shown != "postgresql://u:*****@h/db" {
			t.Fatalf("shown as %q", shown)
		}
	})
}
