package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS reads the listener's certificate and authorities; nil where it
// serves plain HTTP.
func (l *Listener) TLS() (*tls.Config, error) {
	if l.TLSDisable {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls_cert_file %s, tls_key_file %s: %w", l.CertFile, l.KeyFile, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   l.MinVersion,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if l.ClientCAFile == "" {
		return c, nil
	}
	text, err := os.ReadFile(l.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls_client_ca_file: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls_client_ca_file %s: it has no certificate in PEM form; name a file that has one", l.ClientCAFile)
	}
	// Vault's default: a client may have a certificate, and if it does it must be good.
	c.ClientAuth = tls.VerifyClientCertIfGiven
	if l.RequireClient {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}
