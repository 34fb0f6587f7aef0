package database

import (
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A static role whose user logs in with a key rotates like one with a password: the new key is
// durable before it is sent to the database, and published once a login with it has worked, where
// one can be tested.
//
// Only statements with {{subject}} invalidate the previous certificate. Without them it stays
// valid until it expires, so each certificate outlives its second rotation: it is published until
// the first, and that may fail.

// certificateMargin is how long a certificate outlives its second rotation.
const certificateMargin = time.Hour

// checkCommonNames refuses names that X.509 cannot hold, or that are ambiguous in the one-line
// form of a subject.
func (s *staticData) checkCommonNames() error {
	for _, u := range s.Users {
		if len(u) > longestCommonName {
			return invalid(
				"field \"username\": %q has %d bytes, and a certificate's common name allows %d; use another user",
				clip(u), len(u), longestCommonName)
		}
		if strings.ContainsFunc(u, func(r rune) bool { return r == '/' || r > '~' }) {
			return invalid("field \"username\": %q has a slash or a letter that is not ASCII, which databases write "+
				"differently in a certificate's subject; use another user", u)
		}
	}
	return nil
}

// login is a login by one of the role's secrets.
func (s *staticData) login(value secret.Value) login { return login{kind: s.kind(), secret: value} }

// expires is when a login expires on its own; zero: never.
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

// bindsCertificate reports whether statements bind the user to its current certificate.
func bindsCertificate(statements []string) bool {
	return slices.ContainsFunc(statements, func(text string) bool { return strings.Contains(text, "{{subject}}") })
}
