package database

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A static role whose user logs in with a key rotates as one with a password does: what is new is durable before the
// database hears of it, and given out once a login has worked, where one can be tried.
//
// A certificate can be taken back only where the database is told which one counts. Elsewhere the one before ends by
// itself, so each lives past its second turn: it is given out until the first, and that may fail.

// certificateMargin is how long a certificate lives past its second turn.
const certificateMargin = time.Hour

// checkCommonNames refuses names that would be cut, or that the one-line form of a subject does not tell from others.
func (s *staticData) checkCommonNames() error {
	for _, u := range s.Users {
		if len(u) > longestCommonName {
			return invalid("field \"username\": %q has %d bytes, and a certificate's common name takes %d; use another user", clip(u), len(u), longestCommonName)
		}
		if strings.ContainsFunc(u, func(r rune) bool { return r == '/' || r > '~' }) {
			return invalid("field \"username\": %q has a slash or a letter that is not ASCII, which databases write differently in a certificate's subject; use another user", u)
		}
	}
	return nil
}

// login is what a user of the role logs in with.
func (s *staticData) login(word secret.Value) login { return login{s.kind(), word} }

// newCredential makes what a turn sets.
func (b statics) newCredential(ctx context.Context, s *staticData, c *connection, user string) (secret.Value, error) {
	l, err := b.newLogin(ctx, &s.credentialConfig, c)
	if err != nil || l.kind != typeCertificate {
		return l.secret, err
	}
	now := time.Now()
	next := s.When.Next(now, now)
	second := s.When.Next(next, next) // a schedule's times need not lie equally far apart
	l, err = s.certify(l, user, strings.ToLower(rand.Text()), second.Add(certificateMargin))
	return l.secret, err
}

// expires is when a login ends by itself; zero: never.
func (l login) expires() (time.Time, error) {
	if l.kind != typeCertificate || l.secret.Empty() {
		return time.Time{}, nil
	}
	leaf, err := l.leaf()
	if err != nil {
		return time.Time{}, err
	}
	return leaf.NotAfter, nil
}

// bindsCertificate reports whether statements tell the database which certificate a user has.
func bindsCertificate(statements []string) bool {
	return slices.ContainsFunc(statements, func(text string) bool { return strings.Contains(text, "{{subject}}") })
}

// setKey tells the database of a key or a certificate.
func (b statics) setKey(ctx context.Context, s *staticData, conn Conn, user string, to login) error {
	const op = "database.rotate"
	keyed, ok := conn.(KeyConn)
	if !ok {
		return MarkUnchanged(fault.New(op, fault.Invalid, "users of this kind of database cannot log in by %s; delete the role, and write it with credential_type=password", to.kind))
	}
	key, err := to.publicKey()
	if err != nil {
		return MarkUnchanged(&fault.Error{Op: op, Kind: fault.Internal, Err: err})
	}
	return keyed.SetKey(ctx, user, key, s.Statements)
}

// tryKey tries to log in without password.
func tryKey(ctx context.Context, conn Conn, user string, l login) (bool, error) {
	const op = "database.login"
	keyed, ok := conn.(KeyConn)
	if !ok || l.kind != typeCertificate {
		return false, MarkUnchanged(fault.New(op, fault.Unsupported, "this server cannot test a login by %s; test one by hand", l.kind))
	}
	pair, err := tls.X509KeyPair(l.secret.Reveal(), l.secret.Reveal())
	if err != nil {
		return false, MarkUnchanged(fault.New(op, fault.Internal, "what is stored of a certificate is not one"))
	}
	return keyed.LoginCertificate(ctx, user, pair)
}
