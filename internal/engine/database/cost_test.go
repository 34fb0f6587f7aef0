package database

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/wire"
)

// FuzzCertificateCost: reading an authority, certificates and key, costs a bounded number of steps
// for each byte.
func FuzzCertificateCost(f *testing.F) {
	key, err := newKey("ed25519", "")
	if err != nil {
		f.Fatal(err)
	}
	costtest.Fuzz(f, costtest.Parser{Limit: wire.MaxFieldBytes, Steps: 2000, Parse: func(text string) error {
		c := credentialConfig{Kind: typeCertificate, Config: map[string]string{"ca_cert": text}, CAKey: key}
		if _, err := c.authority(); err != nil {
			return err
		}
		return nil
	}}, costtest.Shape{Unit: "-----BEGIN "}, costtest.Shape{Unit: "-----BEGIN CERTIFICATE-----\n"},
		costtest.Shape{Unit: "-----BEGIN A-----\n-----END B-----\n"},
		costtest.Shape{Head: "-----BEGIN CERTIFICATE-----\n", Unit: "MIIB\n", Tail: "-----END CERTIFICATE-----\n"},
		costtest.Shape{Head: "-----BEGIN CERTIFICATE-----\n", Unit: "a: b\n", Tail: "-----END CERTIFICATE-----\n"},
		costtest.Shape{Unit: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
		costtest.Shape{Unit: "\n"}, costtest.Shape{Unit: "-----END "})
}

// FuzzKeyCost: so does reading a private key, of whatever size it says that it is.
func FuzzKeyCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxKey, Steps: 50_000, Parse: func(text string) error {
		_, err := privateKey([]byte(text))
		if _, again := privateKey(
			pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte(text)})); err == nil {
			err = again
		}
		return err
	}}, costtest.Shape{Unit: "-----BEGIN PRIVATE KEY-----\n"},
		costtest.Shape{Unit: "-----BEGIN A-----\nMIIB\n-----END A-----\n"},
		costtest.Shape{Head: "\x30\x82\x10\x00\x02\x01\x00\x02\x82\x0f\x00", Unit: "\xff"})
}

// FuzzNameCost: making a user's name costs a bounded number of steps.
func FuzzNameCost(f *testing.F) {
	n := naming{installation: "sample", display: "token", role: "role", longest: 63, now: time.Unix(0, 0)}
	costtest.Fuzz(f, costtest.Parser{Limit: 1024, Steps: 10_000, Parse: func(text string) error {
		_, err := n.fromTemplate("username_template", text)
		return err
	}}, costtest.Shape{Unit: "{{random 100}}"},
		costtest.Shape{Head: "{{", Unit: "print .RoleName | ", Tail: "print}}"})
}

// A key that takes seconds to be checked is refused: the time grows with the cube of its size.
func TestLongKeysAreRefused(t *testing.T) {
	long := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: make([]byte, maxKey+1)})
	if _, err := KeyPair(long, long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a pair: %v", err)
	}
	if _, err := privateKey(long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a key: %v", err)
	}
	if _, err := KeyPair(make([]byte, MaxURL+1), nil); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a certificate: %v", err)
	}
}

// FuzzPairCost: reading a pair costs a bounded number of steps for each byte.
func FuzzPairCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: MaxURL, Steps: 2000, Parse: func(text string) error {
		_, err := KeyPair([]byte(text), []byte(text))
		return err
	}}, costtest.Shape{Unit: "-----BEGIN A-----\n"},
		costtest.Shape{Unit: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
		costtest.Shape{Unit: "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"})
}

// FuzzSettingCost: so does the text of a kind's own setting.
func FuzzSettingCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: wire.MaxFieldBytes, Steps: 500, Parse: func(text string) error {
		if _, ok := scalarText(wire.RawOf([]byte(text))); !ok {
			return errors.New("no text")
		}
		return nil
	}}, costtest.Shape{Head: `"`, Unit: "a", Tail: `"`}, costtest.Shape{Head: `"`, Unit: `\u00e9`, Tail: `"`})
}
