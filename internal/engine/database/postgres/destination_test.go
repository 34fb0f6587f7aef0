package postgres

import (
	"net/url"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestDestination: a connection_url that sends the password nowhere else is told from one that may show it to somebody.
func TestDestination(t *testing.T) {
	const base = "postgresql://{{username}}:{{password}}@db.example.com:5432/app?sslmode=require"
	told := func(url string, edit func(*database.Config)) (database.Destination, bool) {
		c := database.Config{URL: secret.Text(url), Username: "admin", Password: secret.Text("Canary")}
		if edit != nil {
			edit(&c)
		}
		return Provider.Destination(c)
	}
	was, _ := told(base, nil)
	for _, tt := range []struct {
		url  string
		edit func(*database.Config)
		same bool
	}{
		{base, nil, true},
		{"postgres://{{username}}:{{password}}@db.example.com:5432/app?sslmode=require", nil, true},
		{"postgres://{{username}}:{{password}}@db.example.com/app?sslmode=verify-full&application_name=keyturn&connect_timeout=3", nil, true},
		{"host=db.example.com dbname=app user={{username}} password={{password}} sslmode=verify-ca", nil, true},
		{"postgresql://db.example.com:5432/app?sslmode=require", nil, true},
		{"postgresql://%7B%7Busername%7D%7D:{{password}}@db.example.com:5432/%61pp?sslmode=require", nil, true},
		{"postgresql://{{username}}:{{password}}@db.example.com:5432/app", nil, false}, // prefer
		{"postgresql://{{username}}:{{password}}@db.example.com:5432/app?sslmode=disable", nil, false},
		{"postgresql://{{username}}:{{password}}@db.example.com:5433/app?sslmode=require", nil, false},
		{"postgresql://{{username}}:{{password}}@evil.example.com:5432/app?sslmode=require", nil, false},
		{"postgresql://{{username}}:{{password}}@db.example.com,evil.example.com:5432/app?sslmode=require", nil, false},
		{"postgresql://{{username}}:{{password}}@db.example.com:5432/other?sslmode=require", nil, false},
		{"postgresql://other:{{password}}@db.example.com:5432/app?sslmode=require", nil, false},
		{base + "&hostaddr=192.0.2.1", nil, false},
		{base + "&options=-c%20log_statement%3Dall", nil, false},
		{base + "&application_name={{password}}", nil, false},
		{base + "&connect_timeout=%7B%7Bpassword%7D%7D", nil, false},
		{base, func(c *database.Config) { c.DisableEscaping = true }, false},
		{"redis://x", nil, false},
		{"", nil, false},
	} {
		is, ok := told(tt.url, tt.edit)
		if got := ok && is.Place == was.Place && is.Guard >= was.Guard; got != tt.same {
			t.Errorf("%q leads to the same place, as well guarded: %v (%+v from %+v), want %v", tt.url, got, is, was, tt.same)
		}
	}
	testCA, _ := selfSigned(t, "h")
	inURL := "postgresql://{{username}}:{{password}}@h/app?sslrootcert=" + url.PathEscape(testCA)
	byURL, ok := told(inURL, nil)
	if w, ok2 := told(inURL+"&sslmode=require", nil); !ok || !ok2 || w.Place != byURL.Place || w.Guard >= byURL.Guard {
		t.Errorf("a CA in the URL verifies names, with require it does not: %+v, then %+v", byURL, w)
	}
	if d, ok := told("postgresql://h/app?sslrootcert=/etc/ssl/ca.pem", nil); ok {
		t.Errorf("what a file holds may change, and it leads to %+v", d)
	}
	ca, _ := told("postgresql://{{username}}:{{password}}@h/app", func(c *database.Config) { c.TLSCA = testCA })
	weaker, ok := told("postgresql://{{username}}:{{password}}@h/app?sslmode=require", func(c *database.Config) { c.TLSCA = testCA })
	if !ok || weaker.Place != ca.Place || weaker.Guard >= ca.Guard {
		t.Errorf("a CA without sslmode verifies names, with require it does not: %+v, then %+v", ca, weaker)
	}
}

// TestCertificateInPlaceOfPassword: {{password}} may stand in the URL where a certificate does the work.
func TestCertificateInPlaceOfPassword(t *testing.T) {
	c := database.Config{URL: secret.Text("postgresql://{{username}}:{{password}}@h/app?sslmode=verify-full"), Username: "admin"}
	if _, err := parseDSN(c); err == nil {
		t.Error("there is neither a password nor a certificate")
	}
	c.TLSCertificate = "PEM"
	if s, err := parseDSN(c); err != nil || s["password"] != "" || s["user"] != "admin" {
		t.Errorf("with a certificate: %v", err)
	}
}
