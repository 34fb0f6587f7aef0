package database

import (
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/secret"
)

// A login is what one user logs in with: a password, a private key in PEM, or a certificate
// followed by its private key.
type login struct {
	kind   string
	secret secret.Value
}

// loginOut is a login in an answer.
type loginOut struct {
	Password    secret.Value `json:"password,omitempty"`
	RSA         secret.Value `json:"rsa_private_key,omitempty"`
	Certificate string       `json:"client_certificate,omitempty"`
	Key         secret.Value `json:"private_key,omitempty"`
	KeyType     string       `json:"private_key_type,omitempty"`
}

// password is empty if the login is by a key or a certificate.
func (l login) password() secret.Value {
	if l.kind == typePassword {
		return l.secret
	}
	return secret.Value{}
}

// A credentialConfig says how the users of a role or a static role log in.
type credentialConfig struct {
	Kind   string            `json:"kind,omitempty"`   // empty: a password
	Policy string            `json:"policy,omitempty"` // of passwords; empty: the connection's
	Config map[string]string `json:"config,omitempty"` // of the other kinds, as written, without secrets
	CAKey  secret.Value      `json:"-"`                // in PEM
}

func (c *credentialConfig) kind() string {
	if c.Kind == "" {
		return typePassword
	}
	return c.Kind
}

// optionsByType has the options of each type of credentials, in the order in which errors list
// them.
var optionsByType = map[string][]string{
	typePassword:    {"password_policy"},
	typeRSAKey:      {"key_bits", "format"},
	typeCertificate: {"common_name_template", "ca_cert", "ca_private_key", "key_type", "key_bits", "signature_bits"},
}

// Types of credentials. Every kind of database supports passwords.
const (
	typePassword    = "password"
	typeRSAKey      = "rsa_private_key"
	typeCertificate = "client_certificate"
)

// checkOption refuses other values of an option. Errors do not repeat the value, because it may
// be a key that was pasted in the wrong place.
func (c *credentialConfig) checkOption(name string, values ...string) error {
	if v := c.Config[name]; v != "" && !slices.Contains(values, v) {
		return invalid("field \"credential_config\": the value of %s is not supported; give one of %s", name,
			strings.Join(values, ", "))
	}
	return nil
}

// configOut is credential_config in an answer.
func (c *credentialConfig) configOut() map[string]string {
	out := map[string]string{}
	maps.Copy(out, c.Config)
	if c.Policy != "" {
		out["password_policy"] = c.Policy
	}
	return out
}
