package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// The server's own defaults for a verifier.
const (
	scramIterations = 4096
	scramSalt       = 16
)

// verifier computes what PostgreSQL stores for a password (RFC 5802, RFC 7677), so that the
// password itself is never sent. Passwords must be ASCII, which the normalisation of the RFC does
// not change.
func verifier(password secret.Value) (secret.Value, error) {
	for _, b := range password.Reveal() {
		if b < 0x20 || b > 0x7e {
			return secret.Value{},
				fault.New("postgres.verifier", fault.Invalid, "password_authentication=scram-sha-256 accepts only "+
					"printable ASCII passwords: change the password policy")
		}
	}
	salt := make([]byte, scramSalt)
	if _, err := rand.Read(salt); err != nil {
		return secret.Value{}, fault.Wrap("postgres.verifier", fault.Internal, err)
	}
	return verifierWith(password, salt, scramIterations)
}

func verifierWith(password secret.Value, salt []byte, iterations int) (secret.Value, error) {
	salted, err := pbkdf2.Key(sha256.New, password.RevealString(), salt, iterations, sha256.Size)
	if err != nil {
		return secret.Value{}, fault.Wrap("postgres.verifier", fault.Internal, err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return secret.Text(fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]),
		b64(mac(salted, "Server Key")))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
