package database

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// backdated is how long before its issue a certificate becomes valid, for servers whose clock is
// late.
const backdated = time.Minute

// longestCommonName is the limit of X.509.
const longestCommonName = 64

var (
	rsaSizes = []string{"2048", "3072", "4096"}
	curves   = map[string]elliptic.Curve{"256": elliptic.P256(), "384": elliptic.P384(), "521": elliptic.P521()}
)

// An authority signs certificates. Its own certificate is the first of certs; the others are the
// chain to a root.
type authority struct {
	certs []*x509.Certificate
	key   crypto.Signer
}

// authority parses ca_cert and ca_private_key of a role.
func (c *credentialConfig) authority() (*authority, error) {
	a := new(authority)
	for rest := []byte(c.Config["ca_cert"]); ; {
		if rest = bytes.TrimSpace(rest); len(rest) == 0 {
			break
		}
		// Text between blocks is refused, because ca_cert is shown again and the text may be an
		// indented key.
		var block *pem.Block
		if block, rest = nextBlock(rest); block == nil {
			return nil, invalid("field \"credential_config\": ca_cert has text that is not a certificate in PEM " +
				"form; give the authority's certificate, and after it those between it " +
				"and its root, and nothing else")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, invalid("field \"credential_config\": ca_cert has a block %q that is not a certificate in "+
				"PEM form; give the authority's certificate, and after it "+
				"those between it and its root", clip(block.Type))
		}
		a.certs = append(a.certs, cert)
	}
	switch {
	case len(a.certs) == 0:
		return nil, invalid("field \"credential_config\": ca_cert is required for credential_type " +
			"client_certificate; give the certificate, in PEM form, of an authority that the database trusts")
	case c.CAKey.Empty():
		return nil, invalid("field \"credential_config\": ca_private_key is required for credential_type " +
			"client_certificate; give the private key of ca_cert, in PEM form, which is never shown again")
	}
	key, err := privateKey(c.CAKey.Reveal())
	if err != nil {
		return nil, invalid("field \"credential_config\": ca_private_key cannot be read: %s; give a key in PEM form "+
			"without a passphrase", err)
	}
	own := a.certs[0]
	public, comparable := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !comparable || !public.Equal(own.PublicKey):
		return nil, invalid("field \"credential_config\": ca_private_key is not the key of the first certificate in " +
			"ca_cert; give both of the same authority")
	case !own.BasicConstraintsValid || !own.IsCA || own.KeyUsage != 0 && own.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, invalid("field \"credential_config\": ca_cert is not the certificate of an authority (CA:TRUE, " +
			"with keyCertSign where it limits its use), so no database would accept what it signs; give one that is")
	}
	a.key = key
	return a, nil
}

// checkValid refuses an authority whose certificate has expired or is not valid yet.
func (a *authority) checkValid(now time.Time) error {
	own := a.certs[0]
	switch {
	case !now.Before(own.NotAfter):
		return invalid("field \"credential_config\": ca_cert expired at %s, and databases refuse what it signs; "+
			"give one that is valid now, with its key", own.NotAfter.Format(time.RFC3339))
	case now.Before(own.NotBefore):
		return invalid("field \"credential_config\": ca_cert is valid only from %s on, and databases refuse what it "+
			"signs before; give one that is valid now", own.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// expiry is when the authority's certificate expires, which ends what it has signed; zero: there
// is none.
func (c *credentialConfig) expiry(now time.Time) (time.Time, error) {
	if c.kind() != typeCertificate {
		return time.Time{}, nil
	}
	ca, err := c.authority()
	if err != nil {
		return time.Time{}, err
	}
	return ca.certs[0].NotAfter, ca.checkValid(now)
}

func (c *credentialConfig) checkCertificate() error {
	sizes := rsaSizes
	switch c.Config["key_type"] {
	case "":
		return invalid("field \"credential_config\": key_type is required for credential_type client_certificate; " +
			"give rsa, ec or ed25519")
	case "rsa":
	case "ec":
		sizes = []string{"256", "384", "521"} // 224 is no curve of TLS 1.3
	case "ed25519":
		sizes = []string{c.Config["key_bits"]} // ignored
	}
	for _, err := range []error{
		c.checkOption("key_type", "rsa", "ec", "ed25519"),
		c.checkOption("key_bits", sizes...),
		c.checkOption("signature_bits", "256", "384", "512"),
	} {
		if err != nil {
			return err
		}
	}
	_, err := c.expiry(time.Now())
	return err
}

// newKey generates a key in PEM. Its type and size must have been checked.
func newKey(kind, bits string) (secret.Value, error) {
	var key any
	var err error
	switch kind {
	case "ec":
		curve := curves[bits]
		if curve == nil {
			curve = elliptic.P256()
		}
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		n, cerr := strconv.Atoi(bits)
		if cerr != nil {
			n = 2048
		}
		key, err = rsa.GenerateKey(rand.Reader, n)
	}
	var der []byte
	if err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return secret.Value{}, fault.Wrap("database.newKey", fault.Internal, err)
	}
	return secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// nextBlock decodes the first block of a PEM text; nil if the text starts with something else.
func nextBlock(text []byte) (*pem.Block, []byte) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		return nil, text
	}
	block, rest := pem.Decode(text)
	if block == nil || bytes.Count(text[:len(text)-len(rest)], []byte("-----BEGIN ")) != 1 {
		return nil, text // the first was skipped
	}
	return block, rest
}

// maxKey is the longest PEM text in bytes that is parsed for a private key, because the time of
// checking a key grows with the cube of its size. An RSA key of 8192 bits has 6,500.
const maxKey = 16 << 10

// KeyPair is [tls.X509KeyPair] for texts of a client. It refuses a key that would take seconds to
// check.
func KeyPair(cert, key []byte) (tls.Certificate, error) {
	if len(cert) > MaxURL || len(key) > MaxURL {
		return tls.Certificate{}, fmt.Errorf("the certificate or the key is longer than %d bytes", MaxURL)
	}
	for rest := key; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") && len(block.Bytes) > maxKey {
			return tls.Certificate{}, fmt.Errorf("the key is longer than %d bytes", maxKey)
		}
	}
	return tls.X509KeyPair(cert, key)
}

// privateKey parses the first private key in a PEM text. Its errors show nothing of the text.
func privateKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxKey {
		return nil, fmt.Errorf("it is longer than %d bytes", maxKey)
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("there is no private key in it")
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED ") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errors.New("it is encrypted")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if s, ok := key.(crypto.Signer); ok {
				return s, nil
			}
			return nil, errors.New("it is of a kind that cannot sign")
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		return nil, errors.New("its form is unknown")
	}
}

// publicText is the value of {{public_key}}: the body of the PEM text in one line.
func publicText(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return base64.StdEncoding.EncodeToString(der), fault.Wrap("database.publicKey", fault.Internal, err)
}

// keyType is the private_key_type of an answer.
func keyType(text secret.Value) string {
	key, _ := privateKey(text.Reveal())
	switch key.(type) {
	case *rsa.PrivateKey:
		return "rsa"
	case *ecdsa.PrivateKey:
		return "ec"
	case ed25519.PrivateKey:
		return "ed25519"
	}
	return ""
}

// certify puts a new certificate for a user before its key. The certificate expires at the given
// time, or with the authority's own. A serial number makes the subject unique among those of the
// user.
func (c *credentialConfig) certify(l login, user, serial string, until time.Time) (login, error) {
	const op = "database.certify"
	ca, err := c.authority()
	if err != nil {
		return l, err
	}
	key, err := privateKey(l.secret.Reveal())
	if err != nil {
		return l, fault.Wrap(op, fault.Internal, err)
	}
	now := time.Now()
	if err := ca.checkValid(now); err != nil {
		return l, err
	}
	if len(user) > longestCommonName {
		return l, invalid(
			"the user's name %q has %d bytes, and a certificate's common name "+
				"allows %d; use a shorter one", clip(user),
			len(user), longestCommonName)
	}
	if until = ceilSecond(until); until.After(ca.certs[0].NotAfter) {
		until = ca.certs[0].NotAfter
	}
	number := make([]byte, 16)
	_, _ = rand.Read(number) // never fails
	number[0] |= 0x40        // so that it is neither zero nor short
	number[0] &= 0x7f
	leaf := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(number), Subject: pkix.Name{CommonName: user, SerialNumber: serial},
		NotBefore: now.Add(-backdated), NotAfter: until, SignatureAlgorithm: c.signatureAlgorithm(ca.key),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.certs[0], key.Public(), ca.key)
	if err != nil {
		return l, fault.Wrap(op, fault.Internal, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, between := range ca.certs {
		if !bytes.Equal(between.RawSubject, between.RawIssuer) { // the server has the root
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between.Raw})...)
		}
	}
	l.secret = secret.New(append(text, l.secret.Reveal()...))
	return l, nil
}

// ceilSecond rounds up to a second, which is the precision of certificates.
func ceilSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// signatureAlgorithm returns zero if the type of key has only one algorithm, or for the default.
func (c *credentialConfig) signatureAlgorithm(key crypto.Signer) x509.SignatureAlgorithm {
	byBits := map[string][2]x509.SignatureAlgorithm{
		"256": {x509.SHA256WithRSA, x509.ECDSAWithSHA256},
		"384": {x509.SHA384WithRSA, x509.ECDSAWithSHA384},
		"512": {x509.SHA512WithRSA, x509.ECDSAWithSHA512},
	}[c.Config["signature_bits"]]
	switch key.(type) {
	case *rsa.PrivateKey:
		return byBits[0]
	case *ecdsa.PrivateKey:
		return byBits[1]
	}
	return x509.UnknownSignatureAlgorithm
}

// split separates a certificate and its key.
func (l login) split() (chain string, key secret.Value, err error) {
	text := l.secret.Reveal()
	at := bytes.Index(text, []byte("-----BEGIN PRIVATE KEY-----"))
	if at <= 0 {
		return "", key, fault.New("database.login", fault.Internal, "the stored certificate cannot be read")
	}
	return string(text[:at]), secret.New(text[at:]), nil
}

func (l login) leaf() (*x509.Certificate, error) {
	block, _ := pem.Decode(l.secret.Reveal())
	if block == nil {
		return nil, fault.New("database.login", fault.Internal, "the stored certificate cannot be read")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	return leaf, fault.Wrap("database.login", fault.Internal, err)
}
