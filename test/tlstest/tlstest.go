// Package tlstest creates a certificate authority, and a certificate for servers and clients, for
// tests of servers that are processes.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files are the paths of the parts, which any user of the machine may read.
type Files struct {
	CA, Cert, Key string
	PEM           string // the certificate of the authority
}

// Certificates creates the files for the address 127.0.0.1. They are removed at the end of the
// test.
func Certificates(t testing.TB) Files {
	t.Helper()
	dir, err := os.MkdirTemp("", "kt-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: root.NotBefore,
		NotAfter:    root.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	write := func(name, kind string, der []byte, err error) (path string, text []byte) {
		t.Helper()
		text = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		path = filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path, text
	}
	var f Files
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	path, text := write("ca.pem", "CERTIFICATE", der, err)
	f.CA, f.PEM = path, string(text)
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key)
	f.Cert, _ = write("cert.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	f.Key, _ = write("key.pem", "PRIVATE KEY", der, err)
	return f
}
