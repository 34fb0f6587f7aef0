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

// TLS has the TLS settings of a listener.
type TLS struct {
	Disable    bool // serve plain HTTP
	CertFile   string
	KeyFile    string
	MinVersion uint16   // at least 1.2
	MaxVersion uint16   // 0: the newest
	Ciphers    []uint16 // of TLS 1.2; nil: Go's choice

	// ClientCAFile contains the authorities whose client certificates are accepted; "" with
	// RequireClient: those of the system. RequireClient refuses clients without a certificate, and
	// IgnoreClient asks for none.
	ClientCAFile  string
	RequireClient bool
	IgnoreClient  bool
}

// tlsKeys are the keys of TLS.
func tlsKeys(r *report, t *TLS) []key {
	t.MinVersion = tls.VersionTLS12
	var ignored bool
	return []key{
		{name: "tls_cert_file", kind: "path", reload: true, set: r.text(&t.CertFile),
			doc: "The server's certificate and those that signed it, in PEM."},
		{name: "tls_cipher_suites", kind: "list of names", byDefault: "Go's choice", reload: true,
			set: ciphers(r, &t.Ciphers),
			doc: "The cipher suites of TLS 1.2, by their names in Go. The suites of TLS 1.3 are fixed."},
		{name: "tls_client_ca_file", kind: "path", reload: true, set: r.text(&t.ClientCAFile),
			doc: "The authorities whose client certificates are accepted, in PEM."},
		{name: "tls_disable", kind: "boolean", byDefault: "false", set: r.boolean(&t.Disable),
			doc: "Whether the listener speaks plain HTTP, without TLS."},
		{name: "tls_disable_client_certs", kind: "boolean", byDefault: "false", reload: true,
			set: r.boolean(&t.IgnoreClient), doc: "Whether clients are not asked for a certificate."},
		{name: "tls_key_file", kind: "path", reload: true, set: r.text(&t.KeyFile),
			doc: "The certificate's key, in PEM."},
		{name: "tls_max_version", kind: "text", byDefault: "tls13", reload: true, set: tlsVersion(r, &t.MaxVersion),
			doc: "The newest version of TLS that is spoken: tls12 or tls13."},
		{name: "tls_min_version", kind: "text", byDefault: "tls12", reload: true, set: tlsVersion(r, &t.MinVersion),
			doc: "The oldest version of TLS that is spoken: tls12 or tls13."},
		{name: "tls_prefer_server_cipher_suites", kind: "boolean", set: r.boolean(&ignored),
			doc: "Accepted without effect: Go chooses the best suite that both sides know."},
		{name: "tls_require_and_verify_client_cert", kind: "boolean", byDefault: "false", reload: true,
			set: r.boolean(&t.RequireClient),
			doc: "Whether clients without a certificate are refused. Without tls_client_ca_file the system's " +
				"authorities count."},
	}
}

// tlsVersion sets a version of TLS by its name.
func tlsVersion(r *report, into *uint16) setter {
	var name string
	return then(r.text(&name), func(item *ast.ObjectItem) {
		switch name {
		case "":
		case "tls12":
			*into = tls.VersionTLS12
		case "tls13":
			*into = tls.VersionTLS13
		default:
			r.problem(r.at(item), "%s: want tls12 or tls13, not %q; older versions are insecure", label(item, 0), name)
		}
	})
}

// checkTLS checks the TLS settings of a listener as a whole, and reads its files.
func checkTLS(r *report, at Position, t *TLS) {
	if why := t.contradiction(); why != "" {
		r.problem(at, "%s", why)
		return
	}
	if _, err := t.Config(); err != nil {
		r.problem(at, "%v", err)
	}
	if t.RequireClient && t.ClientCAFile == "" {
		r.warn(at,
			"tls_require_and_verify_client_cert: without tls_client_ca_file, certificates of all authorities that "+
				"the system trusts are accepted; name your own")
	}
}

// contradiction returns what is missing or contradictory; "": nothing.
func (t *TLS) contradiction() string {
	switch has := t.CertFile != "" || t.KeyFile != "" || t.ClientCAFile != "" || t.RequireClient; {
	case t.Disable && has:
		return "tls_disable is true, but there are other TLS settings; remove one or the other"
	case t.Disable:
		return ""
	case t.CertFile == "" && t.KeyFile == "":
		return "tls_cert_file and tls_key_file are missing; set both, or tls_disable = true to serve everything " +
			"unencrypted"
	case t.CertFile == "":
		return "tls_cert_file is missing; name the certificate that belongs to tls_key_file"
	case t.KeyFile == "":
		return "tls_key_file is missing; name the key that belongs to tls_cert_file"
	case t.RequireClient && t.IgnoreClient:
		return "tls_require_and_verify_client_cert and tls_disable_client_certs are both true; remove one"
	case t.MaxVersion != 0 && t.MaxVersion < t.MinVersion:
		return "tls_max_version is older than tls_min_version; remove one"
	case t.MaxVersion == tls.VersionTLS12 && t.Ciphers != nil && !slices.ContainsFunc(t.Ciphers, ofTLS12):
		return "tls_cipher_suites names no suite of TLS 1.2, and tls_max_version is tls12; add one"
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
		texts, at, ok := r.elements(item)
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
				r.warn(at[i], "%s: %s is weak; remove it", label(item, 0), name)
			}
			*into = append(*into, id)
		}
	}
}

func insecure(id uint16) bool {
	return slices.ContainsFunc(tls.InsecureCipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == id })
}

func ofTLS12(id uint16) bool {
	return slices.ContainsFunc(slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()),
		func(c *tls.CipherSuite) bool {
			return c.ID == id && slices.Contains(c.SupportedVersions, tls.VersionTLS12)
		})
}

// inHTTP2 reports whether HTTP/2 allows a suite (RFC 9113, appendix A).
func inHTTP2(id uint16) bool {
	name := tls.CipherSuiteName(id)
	return !ofTLS12(id) || strings.HasPrefix(name, "TLS_ECDHE_") &&
		(strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_"))
}

// Config reads the listener's certificate and authorities; nil: it serves plain HTTP.
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
		// A client that negotiated HTTP/2 and such a suite would be disconnected.
		c.NextProtos = []string{"http/1.1"}
	}
	switch {
	case t.IgnoreClient:
		return c, nil
	case t.RequireClient:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case t.ClientCAFile != "":
		// Vault's default: a client certificate is optional, but must be valid.
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

// maxPEM limits files of certificates.
const maxPEM = hostfile.MaxSize

// keyPair reads the certificate and its key.
func (t *TLS) keyPair() (tls.Certificate, error) {
	key, err := hostfile.ReadNamed(t.KeyFile, maxPEM)
	if err == nil && bytes.Contains(key, []byte("ENCRYPTED")) {
		err = errors.New(
			"the key is encrypted, and the server cannot ask for its password; store it decrypted, readable by the " +
				"server's user only")
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
