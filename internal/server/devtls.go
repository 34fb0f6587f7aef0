package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/config"
)

// The files that -dev-tls writes, named as Vault names them.
const (
	devCA   = "vault-ca.pem"
	devCert = "vault-cert.pem"
	devKey  = "vault-key.pem"
)

// devLife is how long the certificates of -dev-tls are good: longer than a
// process in memory is likely to live, and not for ever.
const devLife = 30 * 24 * time.Hour

// devTLS makes an authority and a certificate for names, writes them into a
// folder, and returns the listener's settings and the authority's file. Nobody
// keeps the authority's key.
func devTLS(folder string, names []string) (config.TLS, string, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return config.TLS{}, "", fmt.Errorf("-dev-tls-cert-dir: %w", err)
	}
	now := time.Now()
	serial := func() *big.Int { return new(big.Int).SetBytes([]byte(rand.Text())) }
	ca := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Keyturn development authority"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(devLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "keyturn"}, NotBefore: ca.NotBefore,
		NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return config.TLS{}, "", err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return config.TLS{}, "", err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return config.TLS{}, "", err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		return config.TLS{}, "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return config.TLS{}, "", err
	}
	t := config.TLS{
		CertFile: filepath.Join(folder, devCert), KeyFile: filepath.Join(folder, devKey), MinVersion: tls.VersionTLS12,
	}
	authority := filepath.Join(folder, devCA)
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	leafPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	err = errors.Join(
		os.WriteFile(authority, caPEM, 0o644),
		os.WriteFile(t.CertFile, bytes.Join([][]byte{leafPEM, caPEM}, nil), 0o644),
		writePrivate(t.KeyFile, secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))),
	)
	if err != nil {
		return config.TLS{}, "", fmt.Errorf("writing the files of -dev-tls: %w", err)
	}
	return t, authority, nil
}

// devNames are the names of the certificate: this machine's, the one that is
// listened on, and those that were asked for.
func devNames(listen string, more []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		names = append(names, host)
	}
	return append(names, more...)
}
