package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestVerifierAgainstRFC7677 checks the ClientProof and the ServerSignature of RFC 7677, section
// 3, against our StoredKey and ServerKey.
func TestVerifierAgainstRFC7677(t *testing.T) {
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v, err := verifierWith(secret.Text("pencil"), decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$(.*):(.*)$`).FindStringSubmatch(
		v.RevealString())
	if m == nil {
		t.Fatalf("unexpected form %q", v.RevealString())
	}
	auth := "n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got, want := mac(decode(m[2]), auth), decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); !hmac.Equal(got,
		want) {
		t.Errorf("ServerSignature %x, want %x", got, want)
	}
	signature := mac(decode(m[1]), auth)
	proof := decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	for i := range proof {
		proof[i] ^= signature[i]
	}
	if got := sha256.Sum256(proof); !bytes.Equal(got[:], decode(m[1])) {
		t.Errorf("the proof's key hashes to %x, want StoredKey %s", got, m[1])
	}
}

func TestVerifierIsSaltedAndRefusesWhatItCannotNormalise(t *testing.T) {
	a, err1 := verifier(secret.Text("correct horse"))
	b, err2 := verifier(secret.Text("correct horse"))
	if err1 != nil || err2 != nil || a.Equal(b) || strings.Contains(a.RevealString(), "horse") {
		t.Errorf("verifiers %q and %q, %v, %v; want two different ones", a.RevealString(), b.RevealString(), err1,
			err2)
	}
	if _, err := verifier(secret.Text(" !~")); err != nil {
		t.Errorf("the first and last printable characters: %v", err)
	}
	for _, bad := range []string{"\x1f", "\x7f"} {
		if _, err := verifier(secret.Text(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, want Invalid", bad, err)
		}
	}
	if _, err := verifier(secret.Text("pässword")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a password that would need normalising: %v, want Invalid", err)
	}
}
