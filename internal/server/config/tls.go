package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// TLS says how a listener encrypts, and whom it lets in.
type TLS struct {
	Disable    bool // it serves plain HTTP, because the configuration says so
	CertFile   string
	KeyFile    string
	MinVersion uint16   // at least 1.2
	MaxVersion uint16   // 0: the newest
	Ciphers    []uint16 // of TLS 1.2; nil: Go's choice

	// ClientCAFile holds the authorities whose client certificates are
	// accepted; "" with RequireClient: those of the system. RequireClient refuses
	// clients without a certificate, and IgnoreClient asks for none.
	ClientCAFile  string
	RequireClient bool
	IgnoreClient  bool
}

// tlsKeys are the keys of TLS.
func tlsKeys(r *report, d *draft) []key {
	t := &d.listener.TLS
	var sink bool
	return []key{
		{name: "tls_cert_file", takes: "path", reload: true, set: r.words(
			&t.CertFile), doc: "The server's certificate and those that signed it, in PEM."},
		{name: "tls_cipher_suites", takes: "list of names", without: "Go's choice", reload: true,
			set: ciphers(r, &t.Ciphers),
			doc: "The cipher suites of TLS 1.2, by their names in Go. The suites of TLS 1.3 are fixed."},
		{name: "tls_client_ca_file", takes: "path", reload: true, set: r.words(&t.ClientCAFile),
			doc: "The authorities whose client certificates are accepted, in PEM."},
		{name: "tls_disable", takes: "boolean", without: "false", set: r.truth(
			&t.Disable), doc: "Whether the listener speaks plain HTTP, without TLS."},
		{name: "tls_disable_client_certs", takes: "boolean", without: "false", reload: true,
			set: r.truth(&t.IgnoreClient),
			doc: "Whether clients are not asked for a certificate."},
		{name: "tls_key_file", takes: "path", reload: true, set: r.words(
			&t.KeyFile), doc: "The certificate's key, in PEM."},
		{name: "tls_max_version", takes: "text", without: "tls13", reload: true, set: r.words(&d.maxVersion),
			doc: "The newest version of TLS that is spoken: tls12 or tls13."},
		{name: "tls_min_version", takes: "text", without: "tls12", reload: true, set: r.words(&d.minVersion),
			doc: "The oldest version of TLS that is spoken: tls12 or tls13."},
		{name: "tls_prefer_server_cipher_suites", takes: "boolean", set: r.truth(&sink),
			doc: "Accepted without effect: Go chooses the best suite that both sides know."},
		{name: "tls_require_and_verify_client_cert", takes: "boolean", without: "false", reload: true,
			set: r.truth(&t.RequireClient),
			doc: "Whether clients without a certificate are refused. Without tls_client_ca_file the system's authorities count."},
	}
}

// tlsVersions are the names of the versions that are spoken.
var tlsVersions = map[string]uint16{"tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13}

// tlsOf checks what a listener says of TLS as a whole, and reads its files.
func tlsOf(r *report, d *draft) {
	l := &d.listener
	good := true
	version := func(name, text string, without uint16) uint16 {
		v, ok := tlsVersions[text]
		if !ok && text != "" {
			good = false
			r.problem(l.At, "%s: want tls12 or tls13, not %q; older ones are broken", name, text)
		}
		if !ok {
			return without
		}
		return v
	}
	l.TLS.MinVersion = version("tls_min_version", d.minVersion, tls.VersionTLS12)
	l.TLS.MaxVersion = version("tls_max_version", d.maxVersion, 0)
	if why := l.TLS.contradiction(); why != "" {
		r.problem(l.At, "%s", why)
		return
	}
	if _, err := l.TLS.Config(); good && err != nil {
		r.problem(l.At, "%v", err)
	}
	if l.TLS.RequireClient && l.TLS.ClientCAFile == "" {
		r.warn(l.At,
			"tls_require_and_verify_client_cert: without tls_client_ca_file every certificate that an authority of the system has signed is accepted; name your own")
	}
}

// contradiction says what in the TLS settings cannot be meant.
func (t *TLS) contradiction() string {
	switch has := t.CertFile != "" || t.KeyFile != "" || t.ClientCAFile != "" || t.RequireClient; {
	case t.Disable && has:
		return "tls_disable is true, and other TLS settings are there: take one or the other out"
	case t.Disable:
		return ""
	case t.CertFile == "" && t.KeyFile == "":
		return "tls_cert_file and tls_key_file are missing: give them, or say tls_disable = true if everything may travel in the clear"
	case t.CertFile == "":
		return "tls_cert_file is missing; name the certificate that belongs to tls_key_file"
	case t.KeyFile == "":
		return "tls_key_file is missing; name the key that belongs to tls_cert_file"
	case t.RequireClient && t.IgnoreClient:
		return "tls_require_and_verify_client_cert and tls_disable_client_certs are both true: take one out"
	case t.MaxVersion != 0 && t.MaxVersion < t.MinVersion:
		return "tls_max_version is older than tls_min_version: take one out"
	case t.MaxVersion == tls.VersionTLS12 && t.Ciphers != nil && !slices.ContainsFunc(t.Ciphers, ofTLS12):
		return "tls_cipher_suites names no suite of TLS 1.2, and tls_max_version is tls12: add one"
	}
	return ""
}

// ciphers sets cipher suites by their names.
func ciphers(r *report, into *[]uint16) setter {
	known := map[string]uint16{}
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		known[c.Name] = c.ID
	}
	return func(item *ast.ObjectItem) {
		texts, at, ok := r.texts(item)
		if !ok {
			r.problem(r.at(item),
				"%s: want names separated by commas, such as \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"",
				label(item, 0))
		}
		for i, name := range texts {
			id, ok := known[name]
			if !ok {
				r.problem(at[i],
					"%s: there is no suite %q; https://pkg.go.dev/crypto/tls#pkg-constants has their names",
					label(item, 0), name)
				continue
			}
			if insecure(id) {
				r.warn(at[i], "%s: %s is known to be weak; take it out", label(item, 0), name)
			}
			*into = append(*into, id)
		}
	}
}

func insecure(id uint16) bool {
	return slices.ContainsFunc(tls.InsecureCipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == id })
}

// suite is what Go knows of a cipher suite.
func suite(id uint16) *tls.CipherSuite {
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func ofTLS12(id uint16) bool {
	c := suite(id)
	return c != nil && slices.Contains(c.SupportedVersions, tls.VersionTLS12)
}

// inHTTP2 reports whether HTTP/2 may be spoken with a suite (RFC 9113, appendix A
// has those that it forbids).
func inHTTP2(id uint16) bool {
	name := tls.CipherSuiteName(id)
	return !ofTLS12(id) || strings.HasPrefix(name, "TLS_ECDHE_") &&
		(strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_"))
}

// Config reads the listener's certificate and authorities; nil where it
// serves plain HTTP.
func (t *TLS) Config() (*tls.Config, error) {
	if t.Disable {
		return nil, nil
	}
	pair, err := t.keyPair()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   t.MinVersion, MaxVersion: t.MaxVersion, CipherSuites: t.Ciphers,
		NextProtos: []string{"h2", "http/1.1"},
	}
	if slices.ContainsFunc(t.Ciphers, func(id uint16) bool { return !inHTTP2(id) }) {
		// Whoever agreed on HTTP/2 and then on such a suite would be hung up on.
		c.NextProtos = []string{"http/1.1"}
	}
	switch {
	case t.IgnoreClient:
		return c, nil
	case t.RequireClient:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case t.ClientCAFile != "":
		// Vault's default: a client may have a certificate, and if it does it must be good.
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if t.ClientCAFile == "" {
		return c, nil
	}
	text, err := hostfile.ReadNamed(t.ClientCAFile, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("tls_client_ca_file: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls_client_ca_file %s: it has no certificate in PEM form; name a file that has one",
			t.ClientCAFile)
	}
	return c, nil
}

// maxPEM is more than any honest file of certificates has.
const maxPEM = hostfile.MaxSize

// keyPair reads the certificate and its key.
func (t *TLS) keyPair() (tls.Certificate, error) {
	key, err := hostfile.ReadNamed(t.KeyFile, maxPEM)
	if err == nil && bytes.Contains(key, []byte("ENCRYPTED")) {
		err = errors.New(
			"the key is encrypted, and the server cannot ask for its password; store it decrypted, readable by the server's user only")
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls_key_file %s: %w", t.KeyFile, cause(err))
	}
	cert, err := hostfile.ReadNamed(t.CertFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls_cert_file %s: %w", t.CertFile, cause(err))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("tls_cert_file %s, tls_key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	return pair, nil
}
