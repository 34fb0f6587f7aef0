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

// hostSettings maps the settings of libpq that would use something of the server's machine or user
// to what that is. A client that configures a connection must not reach it.
var hostSettings = map[string]string{
	"service": "a file of the server", "servicefile": "a file of the server", "passfile": "a file of the server",
	"sslcrl": "a file of the server", "sslcrldir": "files of the server", "sslkeylogfile": "a file of the server",
	"krbsrvname": "the Kerberos tickets of the server", "krbspn": "the Kerberos tickets of the server",
	"gsslib": "the Kerberos tickets of the server", "gssdelegation": "the Kerberos tickets of the server",
	"requirepeer": "the users of the server",
}

// pemSettings maps the settings for a certificate or key to the field for its text. In libpq a
// setting is the path of a file; here it may also be the text itself.
var pemSettings = map[string]string{"sslrootcert": "tls_ca", "sslcert": "tls_certificate", "sslkey": "private_key"}

// isPEM reports whether a value is a PEM text and not a path.
func isPEM(value string) bool { return strings.HasPrefix(strings.TrimSpace(value), "-----BEGIN ") }

// A fileError is an error of reading a file. Its text is for the client, its cause for the log.
type fileError struct {
	text  string
	cause error
}

func (e *fileError) Error() string { return e.text }
func (e *fileError) Unwrap() error { return e.cause }

// inline moves the certificates and the key of connection_url into the fields for them, so that
// the library gets no path to open. A field that is set wins.
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
				problems = append(problems, &fileError{text: fmt.Sprintf(
					"connection_url gives a path to %s, and %s; the field for the text is %s",
					key, fault.Message(err), field), cause: err})
				continue
			}
			value = string(file)
		}
		text[key] = value
		delete(s, key)
	}
	delete(s, "sslinline") // isPEM replaces this setting
	if c.TLSCA == "" {
		c.TLSCA = text["sslrootcert"]
	}
	if c.TLSCertificate == "" && c.PrivateKey.Empty() {
		c.TLSCertificate, c.PrivateKey = text["sslcert"], secret.Text(text["sslkey"])
	}
	return errors.Join(problems...)
}
