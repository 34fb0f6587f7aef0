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

// loginOut is what the reader of credentials gets of them.
type loginOut struct {
	Password    secret.Value `json:"password,omitempty"`
	RSA         secret.Value `json:"rsa_private_key,omitempty"`
	Certificate string       `json:"client_certificate,omitempty"`
	Key         secret.Value `json:"private_key,omitempty"`
	KeyType     string       `json:"private_key_type,omitempty"`
}

// password is the login's, where it is one.
func (l login) password() secret.Value {
	if l.kind == typePassword {
		return l.secret
	}
	return secret.Value{}
}

// A credential is what the users of a role log in with. It is part of roles and of static roles.
type credentialConfig struct {
	Kind   string            `json:"kind,omitempty"`   // empty: a password
	Policy string            `json:"policy,omitempty"` // of passwords, before the connection's
	Config map[string]string `json:"config,omitempty"` // of the other kinds, as it was written, without secrets
	CAKey  secret.Value      `json:"-"`                // in PEM
}

func (c *credentialConfig) kind() string {
	if c.Kind == "" {
		return typePassword
	}
	return c.Kind
}

// credentialOptions of each type of credentials, in the order in which errors list them.
var optionsByType = map[string][]string{
	typePassword:    {"password_policy"},
	typeRSAKey:      {"key_bits", "format"},
	typeCertificate: {"common_name_template", "ca_cert", "ca_private_key", "key_type", "key_bits", "signature_bits"},
}

// What users log in with. The password is what every kind of database has.
const (
	typePassword    = "password"
	typeRSAKey      = "rsa_private_key"
	typeCertificate = "client_certificate"
)

// checkOption checks an option whose values can be listed. What it is instead is not shown: it may be a key.
func (c *credentialConfig) checkOption(name string, values ...string) error {
	if v := c.Config[name]; v != "" && !slices.Contains(values, v) {
		return invalid("field \"credential_config\": %s cannot be that; give one of %s", name, strings.Join(values, ", "))
	}
	return nil
}

// shown is the configuration as it is read back.
func (c *credentialConfig) configOut() map[string]string {
	out := map[string]string{}
	maps.Copy(out, c.Config)
	if c.Policy != "" {
		out["password_policy"] = c.Policy
	}
	return out
}
