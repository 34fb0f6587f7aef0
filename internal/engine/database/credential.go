package database

import (
	"context"
	"crypto/x509"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// credentialIn is what roles of both kinds are written with.
type credentialIn struct {
	Kind   **string                 `json:"credential_type" default:"password" doc:"What users log in with: password, rsa_private_key or client_certificate."`
	Config *map[string]secret.Value `json:"credential_config" doc:"Options of the credentials. password: password_policy. rsa_private_key: key_bits (2048, 3072, 4096), format (pkcs8). client_certificate: ca_cert and ca_private_key (never shown again), key_type (rsa, ec, ed25519), key_bits, signature_bits (256, 384, 512), common_name_template."`
}

// apply writes what was given into c, and checks what can be checked by itself. Options that are given
// replace all others; only the authority's key stays, with its certificate.
func (in *credentialIn) apply(c *credential) error {
	kind := c.kind()
	wire.Default(&kind, in.Kind, byPassword)
	if kind != "" && kind != c.kind() {
		if options[kind] == nil {
			return invalid("field \"credential_type\": there is no %q; there are password, rsa_private_key and client_certificate", clip(kind))
		}
		*c = credential{Kind: kind}
	}
	if in.Config != nil {
		if err := c.configure(*in.Config); err != nil {
			return err
		}
	}
	switch c.kind() {
	case byKey:
		return c.checkKey()
	case byCertificate:
		return c.checkCertificate()
	}
	return nil
}

func (c *credential) configure(given map[string]secret.Value) error {
	stored := c.CAKey
	*c = credential{Kind: c.Kind}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		switch {
		case !slices.Contains(options[c.kind()], name):
			return invalid("field \"credential_config\": there is no %s for credential_type %s; there is %s", called(name), c.kind(), strings.Join(options[c.kind()], ", "))
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
	if c.kind() == byCertificate && c.CAKey.Empty() {
		c.CAKey = stored
	}
	return nil
}

var optionForm = regexp.MustCompile(`^[a-z_]{1,24}$`)

// called is how errors name an option that is not there: what was pasted in the wrong place may be a key.
func called(name string) string {
	if optionForm.MatchString(name) {
		return strconv.Quote(name)
	}
	return "option of that name"
}

func (c *credential) checkKey() error {
	if err := c.oneOf("key_bits", rsaSizes...); err != nil {
		return err
	}
	return c.oneOf("format", "pkcs8")
}

// newLogin makes a password or a key. A certificate is for a name and a time, which come later.
func (b *backend) newLogin(ctx context.Context, cr *credential, c *connection) (login, error) {
	l := login{kind: cr.kind()}
	var err error
	switch l.kind {
	case byKey:
		l.word, err = newKey("rsa", cr.Config["key_bits"])
	case byCertificate:
		l.word, err = newKey(cr.Config["key_type"], cr.Config["key_bits"])
	default:
		policy := cr.Policy
		if policy == "" {
			policy = c.Policy
		}
		l.word, err = b.m.Host.Password(ctx, policy)
	}
	return l, err
}

// give takes a login apart for its reader.
func (l login) give() (given, error) {
	switch l.kind {
	case byKey:
		return given{RSA: l.word}, nil
	case byCertificate:
		chain, key, err := l.parts()
		if err != nil {
			return given{}, err
		}
		return given{Certificate: strings.TrimSpace(chain), Key: key, KeyType: keyType(l.word)}, nil
	}
	return given{Password: l.word}, nil
}

// tell is what the database may know of a login without password.
func (l login) tell() (Key, error) {
	if l.kind == byPassword {
		return Key{}, nil
	}
	signer, err := privateKey(l.word.Reveal())
	if err != nil {
		return Key{}, fault.Wrap("database.login", fault.Internal, err)
	}
	k := Key{}
	if k.Public, err = publicText(signer); err != nil || l.kind == byKey {
		return k, err
	}
	leaf, err := l.leaf()
	if err != nil {
		return k, err
	}
	k.Subject = oneLine(leaf)
	return k, nil
}

// oneLine writes a certificate's subject as OpenSSL's one-line form, by which MySQL and MariaDB compare it. It is
// one of ours: a common name, and perhaps a serial number, of letters that need no escape.
func oneLine(leaf *x509.Certificate) string {
	s := "/CN=" + leaf.Subject.CommonName
	if n := leaf.Subject.SerialNumber; n != "" {
		s += "/serialNumber=" + n
	}
	return s
}
