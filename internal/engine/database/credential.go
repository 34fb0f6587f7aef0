package database

import (
	"context"
	"crypto/x509"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// What users log in with. The password is what every kind of database has.
const (
	byPassword    = "password"
	byKey         = "rsa_private_key"
	byCertificate = "client_certificate"
)

// options of each type of credentials, in the order in which errors list them.
var options = map[string][]string{
	byPassword:    {"password_policy"},
	byKey:         {"key_bits", "format"},
	byCertificate: {"common_name_template", "ca_cert", "ca_private_key", "key_type", "key_bits", "signature_bits"},
}

// A credential is what the users of a role log in with. It is part of roles and of static roles.
type credential struct {
	Kind   string            `json:"kind,omitempty"`   // empty: a password
	Policy string            `json:"policy,omitempty"` // of passwords, before the connection's
	Config map[string]string `json:"config,omitempty"` // of the other kinds, as it was written, without secrets
	CAKey  secret.Value      `json:"-"`                // in PEM
}

func (c *credential) kind() string {
	if c.Kind == "" {
		return byPassword
	}
	return c.Kind
}

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

// shown is the configuration as it is read back.
func (c *credential) shown() map[string]string {
	out := map[string]string{}
	maps.Copy(out, c.Config)
	if c.Policy != "" {
		out["password_policy"] = c.Policy
	}
	return out
}

// oneOf checks an option whose values can be listed. What it is instead is not shown: it may be a key.
func (c *credential) oneOf(name string, values ...string) error {
	if v := c.Config[name]; v != "" && !slices.Contains(values, v) {
		return invalid("field \"credential_config\": %s cannot be that; give one of %s", name, strings.Join(values, ", "))
	}
	return nil
}

func (c *credential) checkKey() error {
	if err := c.oneOf("key_bits", rsaSizes...); err != nil {
		return err
	}
	return c.oneOf("format", "pkcs8")
}

// A login is what one user logs in with: a password, a private key in PEM, or a certificate
// followed by its private key.
type login struct {
	kind string
	word secret.Value
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

// given is what the reader of credentials gets of them.
type given struct {
	Password    secret.Value `json:"password,omitempty"`
	RSA         secret.Value `json:"rsa_private_key,omitempty"`
	Certificate string       `json:"client_certificate,omitempty"`
	Key         secret.Value `json:"private_key,omitempty"`
	KeyType     string       `json:"private_key_type,omitempty"`
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

// password is the login's, where it is one.
func (l login) password() secret.Value {
	if l.kind == byPassword {
		return l.word
	}
	return secret.Value{}
}

// ends is when the authority's certificate ends, after which none by it is taken; zero: there is none.
func (c *credential) ends(now time.Time) (time.Time, error) {
	if c.kind() != byCertificate {
		return time.Time{}, nil
	}
	ca, err := c.authority()
	if err != nil {
		return time.Time{}, err
	}
	return ca.certs[0].NotAfter, ca.alive(now)
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
