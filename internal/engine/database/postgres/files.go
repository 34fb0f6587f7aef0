package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// hostSettings are settings of libpq's that would use what the server's own machine or user has, with what that
// is: a client who writes a connection is not to reach it.
var hostSettings = map[string]string{
	"service": "a file of the server", "servicefile": "a file of the server", "passfile": "a file of the server",
	"sslcrl": "a file of the server", "sslcrldir": "files of the server", "sslkeylogfile": "a file of the server",
	"krbsrvname": "the Kerberos tickets of the server", "krbspn": "the Kerberos tickets of the server",
	"gsslib": "the Kerberos tickets of the server", "gssdelegation": "the Kerberos tickets of the server",
	"requirepeer": "the users of the server",
}

// pemSettings take a certificate or a key – in libpq the path of a file, here also the text itself – with the
// configuration's field for the text.
var pemSettings = map[string]string{"sslrootcert": "tls_ca", "sslcert": "tls_certificate", "sslkey": "private_key"}

// isPEM reports whether a value is the text itself.
func isPEM(value string) bool { return strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN ") }

// A fileError is what keeps a file from being read: its text is for the client, its cause for the log.
type fileError struct {
	text  string
	cause error
}

func (e *fileError) Error() string { return e.text }
func (e *fileError) Unwrap() error { return e.cause }

// inline moves the certificates and the key that connection_url gives into the fields for them, so that the
// library is given no path to open. Fields that are set go first.
func (s settings) inline(c *database.Config) error {
	var problems []error
	text := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(pemSettings)) {
		value, field := s[key], pemSettings[key]
		switch {
		case value == "" || key == "sslrootcert" && value == "system":
			continue
		case !isPEM(value):
			file, err := c.Files.Read(value)
			if err != nil {
				problems = append(problems, &fileError{fmt.Sprintf("connection_url gives a path to %s, and %s; the field for the text is %s", key, fault.Message(err), field), err})
				continue
			}
			value = string(file)
		}
		text[key] = value
		delete(s, key)
	}
	delete(s, "sslinline") // it says that the three are no paths, which they tell by themselves
	if c.TLSCA == "" {
		c.TLSCA = text["sslrootcert"]
	}
	if c.TLSCertificate == "" && c.PrivateKey.Empty() {
		c.TLSCertificate, c.PrivateKey = text["sslcert"], secret.Text(text["sslkey"])
	}
	return errors.Join(problems...)
}
