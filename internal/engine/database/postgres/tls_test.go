package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// selfSigned creates a certificate for a name, and its key.
func selfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}

func TestInlineTLS(t *testing.T) {
	cert, key := selfSigned(t, "h")
	_, strange := selfSigned(t, "h")
	for _, test := range []struct {
		mode, ca, cert, key string
		want                string // the mode that results, "" for a refusal
	}{
		{"", cert, "", "", "verify-full"},
		{"prefer", cert, "", "", "verify-full"},
		{"require", cert, "", "", "verify-ca"},
		{"verify-ca", cert, "", "", "verify-ca"},
		{"verify-full", cert, cert, key, "verify-full"},
		{"", "", cert, key, "require"},
		{"prefer", "", cert, key, "require"},
		{"allow", "", cert, key, "require"},
		{"verify-full", "", cert, key, "verify-full"}, // by the authorities of this machine
		{"disable", cert, "", "", ""},
		{"", "nonsense", "", "", ""},
		{"", "", cert, "", ""},
		{"", "", cert, strange, ""},
	} {
		c := config("postgresql://{{username}}@h/db?sslmode=" + test.mode)
		c.TLSCA, c.TLSCertificate, c.PrivateKey = test.ca, test.cert, secret.Text(test.key)
		p, err := prepare(c)
		if test.want == "" {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%+v: %v, want Invalid", test.mode, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := p.pool.ConnConfig
		if got.TLSConfig == nil || len(got.Fallbacks) != 0 {
			t.Errorf("mode %q with material falls back to no TLS", test.mode)
			continue
		}
		verified := handshake(t, got.TLSConfig, cert, key, "h")
		if test.ca != "" && verified != nil {
			t.Errorf("mode %q refuses the right server: %v", test.mode, verified)
		}
		// A server of the right authority, but with another name.
		elsewhere := handshake(t, got.TLSConfig, cert, key, "other")
		if (elsewhere == nil) != (test.want != "verify-full") {
			t.Errorf("mode %q with a server of another name: %v", test.mode, elsewhere)
		}
		other, otherKey := selfSigned(t, "h")
		if err := handshake(t, got.TLSConfig, other, otherKey, "h"); (err == nil) != (test.want == "require") {
			t.Errorf("mode %q with a server of another authority: %v", test.mode, err)
		}
	}
}

func handshake(t *testing.T, client *tls.Config, cert, key, name string) error {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	client = client.Clone()
	client.ServerName = name
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		c.Close()
	}
	return err
}
