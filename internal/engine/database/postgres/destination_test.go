package postgres

import (
	"net/url"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestDestination checks which changes of connection_url may send the password to another server,
// or with less protection.
func TestDestination(t *testing.T) {
	const base = "postgresql://{{username}}:{{password}}@db.example.com:5432/app?sslmode=require"
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
		{"postgresql://{{username}}:{{password}}@db.example.com,evil.example.com:5432/app?sslmode=require", nil,
			false},
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
		to := databasetest.ByURL(tt.url)
		if tt.edit != nil {
			tt.edit(&to)
		}
		databasetest.Leads(t, Provider, databasetest.ByURL(base), to, tt.same)
	}
	testCA, _ := selfSigned(t, "h")
	destinationOf := func(url, ca string) (database.Destination, bool) {
		c := databasetest.ByURL(url)
		c.TLSCA = ca
		return Provider.Destination(c)
	}
	inURL := "postgresql://{{username}}:{{password}}@h/app?sslrootcert=" + url.PathEscape(testCA)
	byURL, ok := destinationOf(inURL, "")
	if w, ok2 := destinationOf(inURL+"&sslmode=require", ""); !ok || !ok2 || w.Place != byURL.Place ||
		w.Guard >= byURL.Guard {
		t.Errorf("a CA in the URL verifies names, with require it does not: %+v, then %+v", byURL, w)
	}
	if d, ok := destinationOf("postgresql://h/app?sslrootcert=/etc/ssl/ca.pem", ""); ok {
		t.Errorf("the content of a file may change, but the destination is %+v", d)
	}
	ca, _ := destinationOf("postgresql://{{username}}:{{password}}@h/app", testCA)
	weaker, ok := destinationOf("postgresql://{{username}}:{{password}}@h/app?sslmode=require", testCA)
	if !ok || weaker.Place != ca.Place || weaker.Guard >= ca.Guard {
		t.Errorf("a CA without sslmode verifies names, with require it does not: %+v, then %+v", ca, weaker)
	}
}

// TestCertificateInPlaceOfPassword checks that a URL with {{password}} needs no password if there
// is a certificate.
func TestCertificateInPlaceOfPassword(t *testing.T) {
	c := database.Config{URL: secret.Text("postgresql://{{username}}:{{password}}@h/app?sslmode=verify-full"),
		Username: "admin"}
	if _, err := parseDSN(c); err == nil {
		t.Error("there is neither a password nor a certificate")
	}
	c.TLSCertificate = "PEM"
	if s, err := parseDSN(c); err != nil || s["password"] != "" || s["user"] != "admin" {
		t.Errorf("with a certificate: %v", err)
	}
}
