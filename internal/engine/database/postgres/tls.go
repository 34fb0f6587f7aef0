package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// material is the checked TLS configuration of the fields.
type material struct {
	roots *x509.CertPool
	certs []tls.Certificate
	mode  string // the sslmode that results
}

// checkTLS parses the fields for TLS and combines them with the URL's sslmode. If there is a CA,
// no connection is made that does not verify the server.
func checkTLS(c database.Config, mode string) (material, error) {
	m := material{mode: mode}
	if c.TLSCA == "" && c.TLSCertificate == "" && c.PrivateKey.Empty() {
		return m, nil
	}
	var problems []error
	if mode == "disable" {
		problems = append(problems, errors.New("tls_ca, tls_certificate or private_key is given, but connection_url "+
			"says sslmode=disable: remove one of them"))
	}
	if c.TLSCA != "" {
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM([]byte(c.TLSCA)) {
			problems = append(problems, errors.New("tls_ca has no certificate in PEM form in it"))
		}
	}
	if (c.TLSCertificate == "") != c.PrivateKey.Empty() {
		problems = append(problems, errors.New("tls_certificate and private_key belong together: give both or none"))
	} else if c.TLSCertificate != "" {
		pair, err := database.KeyPair([]byte(c.TLSCertificate), c.PrivateKey.Reveal())
		if err != nil {
			problems = append(problems,
				errors.New("tls_certificate and private_key are not a matching pair in PEM form"))
		}
		m.certs = []tls.Certificate{pair}
	}
	switch {
	case m.roots != nil && mode == "require":
		m.mode = "verify-ca" // as libpq does with a root certificate
	case m.roots != nil && !slices.Contains([]string{"verify-ca", "verify-full"}, mode):
		m.mode = "verify-full"
	case m.roots == nil && (mode == "" || mode == "prefer" || mode == "allow"):
		m.mode = "require"
	}
	return m, errors.Join(problems...)
}

// apply sets the material in the configuration and its fallbacks.
func (m material) apply(c *pgconn.Config) {
	m.set(c.TLSConfig)
	for _, f := range c.Fallbacks {
		m.set(f.TLSConfig)
	}
}

func (m material) set(t *tls.Config) {
	if t == nil {
		return
	}
	t.MinVersion = tls.VersionTLS12
	if m.certs != nil {
		t.Certificates = m.certs
	}
	if m.roots == nil {
		return
	}
	t.RootCAs = m.roots
	if m.mode == "verify-ca" {
		t.InsecureSkipVerify = true // skips only the name, because VerifyConnection checks the chain
		t.VerifyPeerCertificate = nil
		t.VerifyConnection = m.verifyChain
	}
}

func (m material) verifyChain(s tls.ConnectionState) error {
	intermediates := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: intermediates})
	return err
}
