package database

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// What operators paste as an authority is refused in words, or can sign; its key is in no error.
func FuzzAuthority(f *testing.F) {
	key, err := newKey("ec", "256")
	if err != nil {
		f.Fatal(err)
	}
	pem := key.RevealString()
	for _, cert := range []string{"", "x", pem, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"} {
		for _, text := range []string{"", "x", pem, strings.Replace(pem, "M", "N", 1),
			strings.ReplaceAll(pem, "PRIVATE", "RSA PRIVATE")} {
			f.Add(cert, text)
		}
	}
	f.Fuzz(func(t *testing.T, cert, key string) {
		c := credentialConfig{Kind: typeCertificate, Config: map[string]string{"ca_cert": cert, "key_type": "ec"},
			CAKey: secret.Text(key)}
		a, err := c.authority()
		if err == nil && (a.key == nil || len(a.certs) == 0) {
			t.Error("an authority that cannot sign was taken")
		}
		if err != nil && (!fault.Is(err, fault.Invalid) || len(key) > 40 && strings.Contains(err.Error(), key)) {
			t.Errorf("error %v", err)
		}
	})
}
