package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// checkTLS parses the fields for TLS and combines them with the URL. It returns nil if there is no
// TLS. If a field is set, no connection is made without TLS, and the server is verified unless
// tls_skip_verify is set.
func checkTLS(c database.Config, d *mysql.Config) (*tls.Config, error) {
	skip, name := c.Extra["tls_skip_verify"] == "true", c.Extra["tls_server_name"]
	if d == nil { // connection_url is invalid, which parseDSN reports
		d = &mysql.Config{}
	}
	t := d.TLS
	if t == nil {
		t = &tls.Config{}
	}
	if t = t.Clone(); !requiresTLS(c) {
		if d.TLS == nil {
			return nil, nil
		}
		t.MinVersion = tls.VersionTLS12
		return t, nil
	}
	var problems []error
	if d.TLSConfig == "false" {
		problems = append(problems,
			errors.New("a field for TLS is given, but connection_url says tls=false: remove one of them"))
	}
	t.MinVersion, t.InsecureSkipVerify = tls.VersionTLS12, skip
	if t.ServerName = name; name == "" {
		t.ServerName, _, _ = net.SplitHostPort(d.Addr)
	}
	if c.TLSCA != "" {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM([]byte(c.TLSCA)) {
			problems = append(problems, errors.New("tls_ca has no certificate in PEM form in it"))
		}
	}
	pair, err := clientPair(c)
	if t.Certificates = nil; pair != nil {
		t.Certificates = []tls.Certificate{*pair}
	}
	return t, errors.Join(append(problems, err)...)
}

// requiresTLS reports whether a field requires TLS.
func requiresTLS(c database.Config) bool {
	return c.TLSCA != "" || !c.Hidden["tls_certificate_key"].Empty() || c.TLSCertificate != "" ||
		!c.PrivateKey.Empty() || c.Extra["tls_skip_verify"] == "true" || c.Extra["tls_server_name"] != ""
}

// clientPair returns the client's certificate and key, from one bundle, as in Vault, or from two
// fields.
func clientPair(c database.Config) (*tls.Certificate, error) {
	bundle := c.Hidden["tls_certificate_key"]
	cert, key := []byte(c.TLSCertificate), c.PrivateKey.Reveal()
	switch {
	case !bundle.Empty() && len(cert)+len(key) > 0:
		return nil, errors.New(
			"tls_certificate_key holds both certificate and key: leave out tls_certificate and private_key")
	case !bundle.Empty():
		cert, key = bundle.Reveal(), bundle.Reveal()
	case len(cert)+len(key) == 0:
		return nil, nil
	}
	pair, err := database.KeyPair(cert, key)
	if err != nil {
		return nil, errors.New("the client's certificate and key are not a matching pair in PEM form: " +
			"tls_certificate_key has both, or tls_certificate the one and private_key the other")
	}
	return &pair, nil
}
