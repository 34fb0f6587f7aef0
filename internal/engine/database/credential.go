package database

import (
	"context"
	"crypto/x509"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// credentialIn are fields of roles and static roles.
type credentialIn struct {
	Kind   **string                 `json:"credential_type" default:"password" doc:"What users log in with: password, rsa_private_key or client_certificate."`
	Config *map[string]secret.Value `json:"credential_config" doc:"Options of the credentials. password: password_policy. rsa_private_key: key_bits (2048, 3072, 4096), format (pkcs8). client_certificate: ca_cert and ca_private_key (never shown again), key_type (rsa, ec, ed25519), key_bits, signature_bits (256, 384, 512), common_name_template."`
}

// apply changes c by a write, and checks what needs no connection. Written options replace all
// others, except that the authority's key stays if none is written.
func (in *credentialIn) apply(c *credentialConfig) error {
	kind := c.kind()
	wire.Default(&kind, in.Kind, typePassword)
	if kind != "" && kind != c.kind() {
		if optionsByType[kind] == nil {
			return invalid(
				"field \"credential_type\": there is no %q; there are password, rsa_private_key and "+
					"client_certificate", clip(kind))
		}
		*c = credentialConfig{Kind: kind}
	}
	if in.Config != nil {
		if err := c.setOptions(*in.Config); err != nil {
			return err
		}
	}
	switch c.kind() {
	case typeRSAKey:
		return c.checkKey()
	case typeCertificate:
		return c.checkCertificate()
	}
	return nil
}

func (c *credentialConfig) setOptions(given map[string]secret.Value) error {
	stored := c.CAKey
	*c = credentialConfig{Kind: c.Kind}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		switch {
		case !slices.Contains(optionsByType[c.kind()], name):
			return invalid("field \"credential_config\": there is no %s for credential_type %s; there is %s",
				optionName(name), c.kind(), strings.Join(optionsByType[c.kind()], ", "))
		case name == "password_policy":
			c.Policy = value.RevealString()
		case name == "ca_private_key":
			c.CAKey = value
		default:
			if c.Config == nil {
				c.Config = map[string]string{}
			}
			c.Config[name] = value.RevealString()
		}
	}
	if c.kind() == typeCertificate && c.CAKey.Empty() {
		c.CAKey = stored
	}
	return nil
}

var optionForm = regexp.MustCompile(`^[a-z_]{1,24}$`)

// optionName is how errors name an unknown option. A long name is not repeated, because it may be
// a key that was pasted in the wrong place.
func optionName(name string) string {
	if optionForm.MatchString(name) {
		return strconv.Quote(name)
	}
	return "option of that name"
}

func (c *credentialConfig) checkKey() error {
	if err := c.checkOption("key_bits", rsaSizes...); err != nil {
		return err
	}
	return c.checkOption("format", "pkcs8")
}

// newLogin generates a password or a key. The certificate is signed later, when its name and
// expiry are known.
func newLogin(ctx context.Context, m *engine.Mount, cr *credentialConfig, c *connection) (login, error) {
	l := login{kind: cr.kind()}
	var err error
	switch l.kind {
	case typeRSAKey:
		l.secret, err = newKey("rsa", cr.Config["key_bits"])
	case typeCertificate:
		l.secret, err = newKey(cr.Config["key_type"], cr.Config["key_bits"])
	default:
		policy := cr.Policy
		if policy == "" {
			policy = c.Policy
		}
		l.secret, err = m.Host.Password(ctx, policy)
	}
	return l, err
}

// out is the login as its reader gets it.
func (l login) out() (loginOut, error) {
	switch l.kind {
	case typeRSAKey:
		return loginOut{RSA: l.secret}, nil
	case typeCertificate:
		chain, key, err := l.split()
		if err != nil {
			return loginOut{}, err
		}
		return loginOut{Certificate: strings.TrimSpace(chain), Key: key, KeyType: keyType(l.secret)}, nil
	}
	return loginOut{Password: l.secret}, nil
}

// publicKey is what the database gets of a login without password.
func (l login) publicKey() (Key, error) {
	if l.kind == typePassword {
		return Key{}, nil
	}
	signer, err := privateKey(l.secret.Reveal())
	if err != nil {
		return Key{}, fault.Wrap("database.login", fault.Internal, err)
	}
	k := Key{}
	if k.Public, err = publicText(signer); err != nil || l.kind == typeRSAKey {
		return k, err
	}
	leaf, err := l.leaf()
	if err != nil {
		return k, err
	}
	k.Subject = oneLine(leaf)
	return k, nil
}

// oneLine writes a certificate's subject in OpenSSL's one-line form, which MySQL and MariaDB
// compare. Our subjects are a common name and perhaps a serial number, which need no escape.
func oneLine(leaf *x509.Certificate) string {
	s := "/CN=" + leaf.Subject.CommonName
	if n := leaf.Subject.SerialNumber; n != "" {
		s += "/serialNumber=" + n
	}
	return s
}
