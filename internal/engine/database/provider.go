// Package database is the engine that issues users of databases: a user with a random name and
// password that lives as long as its lease.
//
// This file is the contract of a kind of database. An implementation is a subfolder that exports
// one [Provider] and passes databasetest.
package database

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Provider is a kind of database. Its functions are safe for concurrent use.
type Provider struct {
	// Name is the name in metrics and logs, and of the folder: "postgresql".
	Name string

	// Plugins are the values of plugin_name.
	Plugins []string

	// NameMax is the longest user name in bytes. Names also match [ValidName].
	NameMax int

	// NameMaxOf has the plugins whose users have even shorter names.
	NameMaxOf map[string]int

	// Settings are the fields of a configuration that only this kind has.
	Settings []Setting

	// DefaultCreation is for roles without creation_statements. Empty: a role must have some.
	DefaultCreation []string

	// Logins are the types of credentials that users can have besides passwords:
	// "rsa_private_key", "client_certificate".
	Logins []string

	// BindsSubject: a user without password must be bound to the subject of its certificate.
	// Otherwise it can log in without one.
	BindsSubject bool

	// Check checks a configuration without any I/O. One error of kind Invalid has all problems.
	Check func(c Config) error

	// Rules: statements are rules for users, without their names and passwords.
	Rules bool

	// CheckStatements checks one or more statements without any I/O. It refuses quotes that are
	// never closed, and commands that cannot run in our transaction, or that only a command line
	// has. The error of kind Invalid names the field.
	CheckStatements func(field string, statements []string) (Found, error)

	// Display returns a connection URL for answers: a password in it is masked, placeholders stay.
	Display func(url secret.Value) string

	// Destination returns where a configuration sends the administrator's password; false if that
	// is unknown. It does no I/O. If it is nil, any change of URL, Extra or Hidden changes the
	// destination.
	Destination func(c Config) (Destination, bool)

	// Connect checks c and returns a connection to it. It does no I/O; the first call, or Verify,
	// does. What Connect starts ends with Close, not with ctx.
	Connect func(ctx context.Context, c Config) (Conn, error)
}

// MaxURL is the longest connection_url in bytes. A kind of database refuses a longer one before
// it parses it. A URL may contain certificates.
const MaxURL = 64 << 10

// A Destination is where a password is sent, and how it is protected on the way.
type Destination struct {
	// Place is equal for all configurations that send the same user's password to the same
	// database of the same servers, however the URL is written. It contains no password.
	Place string

	// Guard orders configurations of one place by the protection of the password: more is
	// stricter.
	Guard int
}

// sameDestination reports whether a changed configuration sends the password to the same place,
// and protects it no less.
func (p *Provider) sameDestination(was, is Config) bool {
	if p.Destination == nil {
		return false
	}
	from, ok1 := p.Destination(was)
	to, ok2 := p.Destination(is)
	return ok1 && ok2 && from.Place == to.Place && from.Guard <= to.Guard
}

// A Setting is a field of a configuration that only some kinds have. Unless Destination says
// otherwise, a setting may decide where the administrator's password is sent, so that a write that
// changes it must send the password again.
type Setting struct {
	Name    string // "tls_server_name"
	Form    Form
	Default string // in words
	Doc     string // what it is for, one sentence
}

// PEM returns a text in PEM form, or "" for none. HashiCorp's Terraform provider sends "0" for
// none.
func PEM(text string) string {
	if strings.TrimSpace(text) == "0" {
		return ""
	}
	return text
}

// A Form is the type of a setting's value.
type Form uint8

// The forms. A setting that is not sent has its form's zero value.
const (
	Text Form = iota
	Flag
	Number
	Secret // text that is never shown
)

// A Config says how to reach one database server as its administrator. Zero
// values mean the provider's defaults.
type Config struct {
	// URL is the connection string, in any form that the database supports, with {{username}} and
	// {{password}} as placeholders of the two fields below. Their values are escaped as the form
	// requires, unless DisableEscaping is set. URL is a secret because it may contain a password.
	URL             secret.Value
	Username        string
	Password        secret.Value
	DisableEscaping bool

	MaxOpen      int           // connections at most; 0: 4, negative: no limit
	MaxIdle      int           // connections kept idle; 0: as MaxOpen, negative: none
	ConnLifetime time.Duration // a connection is closed when it is this old; 0: never

	// PasswordAuthentication is how a new user's password is sent to the server: "" and
	// "password" send it in plain text, "scram-sha-256" sends only a verifier, so that the
	// server's log never has a password.
	PasswordAuthentication string

	// TLS material as PEM text, all optional. With a CA, the server's certificate is verified,
	// even if the URL does not say so.
	TLSCA          string
	TLSCertificate string
	PrivateKey     secret.Value

	// Extra are the kind's own settings: a text, "true" for a flag that is set, a number in
	// digits. Zero values are absent. Hidden are those of form Secret.
	Extra  map[string]string
	Hidden map[string]secret.Value

	// Dial opens every connection; nil means outbound.Anywhere's. It enforces the operator's
	// outbound rules, because a client that may configure a database may not be allowed to reach
	// every address.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Files reads the files of this machine that a client may name. The zero value allows none.
	// No path of a client is passed to a library that would open it.
	Files hostfile.Folders
	Log   *slog.Logger // nil: none
}

// A Conn creates and removes users of one database server. It is safe for concurrent use and has
// its own pool.
//
// Every call returns soon after its context ends, and then has tried to cancel what runs on the
// server. No call waits longer than its context for a connection of the pool. Calls fail while the
// server is down, and succeed when it is up again, without reopening the Conn.
//
// Errors are [fault.Error]s. The message for the client names the field, the cause and the next
// step; it is our own text without words of the server, and is not redacted. The cause is
// redacted of every secret that the call knew. Kinds:
//
//	Invalid      the name, a statement or the configuration; nothing was sent
//	NotFound     there is no such user (Renew, SetPassword)
//	Conflict     there is such a user already (Create)
//	Denied       the outbound rules forbid the address
//	Upstream     the database refused, or cannot be reached
//	Timeout      the context's deadline passed
//	Unavailable  the Conn was closed, or the context canceled
//
// Warnings of the server during a call go to the listener of [OnWarning].
//
// An error for which [Refused] reports true is from a server that was reached, accepted the login
// and still answers: it refuses only this user or these statements. Drop must mark such errors,
// so that a role whose statements fail does not delay users of other roles.
//
// The error of a call that the server itself refused has the server's code, which [CodeOf]
// returns.
//
// A call whose error [Unchanged] reports surely had no effect on the database, and none will come.
// After any other error of Create the user may exist, now or later: see SettleAttempt.
type Conn interface {
	// Verify tests that the server can be reached and accepts the credentials.
	Verify(ctx context.Context) error

	// Create creates a user by statements, all or nothing. It is called once for an attempt and
	// is not repeatable: if a user of that name exists, it fails with Conflict and does not
	// change that user. If the database has no transactions, or for statements outside of one,
	// rollback runs after statements have failed.
	Create(ctx context.Context, u User, statements, rollback []string) error

	// Renew makes the user's credentials valid until expires. Without statements it uses the
	// database's own expiry, if there is one. Repeatable.
	Renew(ctx context.Context, name string, expires time.Time, statements []string) error

	// Disable prevents logins of a user at once, whatever would make Drop wait or fail. It runs
	// no statement of the role, and takes seconds at most. Open sessions continue, unless they
	// block even Disable. It succeeds if the user does not exist. Repeatable.
	Disable(ctx context.Context, name string) error

	// Drop removes a user that was disabled before. It succeeds if the user does not exist,
	// whatever the statements do then, so Drop is repeatable. Without statements it uses the
	// database's own way. The administrator becomes the owner of what the user owned; nothing is
	// deleted. If statements fail because of what the user still has, or leave some of it, Drop
	// removes that, runs them again, and reports it. A user whose absence would break what others
	// use is kept: the error, for which Refused reports true, names what depends on it.
	Drop(ctx context.Context, name string, o DropOptions) (Report, error)

	// SetPassword changes the password of an existing user, by statements or, without them, in
	// the database's own way. Afterwards the user has no other password. Repeatable, also while
	// it is unknown whether an earlier call took effect. The user may be the administrator: then
	// the Conn continues with its open sessions, and the caller replaces it by one with the new
	// password.
	SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error

	// Login tests a user's name and password on a connection of its own, which it closes at once.
	// False without an error: the server has refused them. Unsupported: the server accepts no
	// password of this user from here, so that the test proves nothing.
	Login(ctx context.Context, name string, password secret.Value) (bool, error)

	// Exists reports whether there is a user of this name.
	Exists(ctx context.Context, name string) (bool, error)

	// SettleAttempt makes sure that a Create whose outcome is unknown (its reply was lost, or its
	// caller died) can have no effect any more. It cancels the Create if it still runs, and
	// returns true once the Create can have no effect: a user that does not exist then will not
	// appear. So undo is SettleAttempt until true, then Drop. It may be called on another Conn,
	// in another process, any number of times, and for attempts that never ran. It never waits
	// long: false means that the caller asks again, at the earliest at the attempt's deadline.
	SettleAttempt(ctx context.Context, a Attempt) (bool, error)

	// Close cancels running calls, and closes all connections. It returns within a second.
	// Closing twice is harmless.
	Close() error
}

// A KeyConn is a Conn of a kind whose static users may log in without password. Its contract on
// errors and contexts is Conn's.
type KeyConn interface {
	Conn

	// SetKey registers the key or certificate of a user with the database, by statements. Without
	// statements it only checks that the user exists: NotFound. Repeatable, as SetPassword.
	SetKey(ctx context.Context, name string, key Key, statements []string) error

	// LoginCertificate is Login by a certificate. Unsupported: this server cannot test it.
	LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error)
}

// NotTaken reports whether an error of TLS says that the server refused the client's certificate,
// because it does not trust its authority, or the certificate has expired. With TLS 1.3 the
// client often sees only a closed connection; with 1.2 the server refuses during the handshake.
func NotTaken(text string) bool {
	_, alert, ok := strings.Cut(text, "remote error: tls: ")
	return ok && strings.Contains(alert, "certificate")
}

// An Attempt identifies one call of Create. It is part of the reservation that is durable before
// the call.
type Attempt struct {
	// ID is 1 to 48 of A-Z a-z 0-9 . _ - and unique.
	ID string
	// Deadline is the latest time at which the call may take effect; a create that reaches the
	// server later fails. Both here and in SettleAttempt the server's clock decides, so a wrong
	// clock causes a delay, but no wrong result.
	Deadline time.Time
}

// A User is a user to create.
type User struct {
	Name     string
	Password secret.Value // empty, where there is a key
	Key      Key
	Expires  time.Time
	Attempt  Attempt
}

// A Key is the public part of a login without password, which is all that the database gets.
type Key struct {
	Public  string // {{public_key}}: the body of its PEM text, in one line
	Subject string // {{subject}}: of the certificate, in OpenSSL's one-line form
}

// Fill adds the values of its placeholders.
func (k Key) Fill(values map[string]string) {
	for name, value := range map[string]string{"public_key": k.Public, "subject": k.Subject} {
		if value != "" {
			values[name] = value
		}
	}
}

// DropOptions are options of Drop.
type DropOptions struct {
	Statements []string
	// TerminateSessions ends the user's open sessions, too.
	TerminateSessions bool
}

// A Report says what a Drop had to do beyond running the statements.
type Report struct {
	// Notes are sentences for the lease's lookup and the log, without secrets.
	// None is the normal case.
	Notes []string
	// Insufficient: the role's own statements failed or were incomplete, and Drop had to do more.
	// Notes say what, and are stored with the role.
	Insufficient bool
	// Remains: the role's own statements succeeded, but the user still exists.
	Remains bool
}

var (
	existingNameForm = regexp.MustCompile("^[^\\x00-\\x20\\x7f'\"`\\\\;%{}]{1,128}$")
	nameForm         = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)
	attemptForm      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,48}$`)
)

// ValidName reports whether Keyturn may have generated a user name. Other names are refused
// before they reach SQL, quoted or not.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// CheckGivenName returns the error of kind Invalid for a name that no user may have. It is for
// SetPassword and Login, whose names people have chosen.
func CheckGivenName(op, name string) error {
	if utf8.ValidString(name) && existingNameForm.MatchString(name) {
		return nil
	}
	return unchanged(fault.New(op, fault.Invalid, "username %q is refused: it must be 1 to 128 bytes without "+
		"spaces, quotes, backslashes, backticks, semicolons, percent signs and braces", clip(name)))
}

// LongestName is the longest user name of a plugin in bytes.
func (p *Provider) LongestName(plugin string) int {
	if n, ok := p.NameMaxOf[plugin]; ok {
		return n
	}
	return p.NameMax
}

// Valid reports whether the attempt can be tracked.
func (a Attempt) Valid() bool { return attemptForm.MatchString(a.ID) && !a.Deadline.IsZero() }

// CheckName returns the error of kind Invalid for a name that is not [ValidName].
func CheckName(op, name string) error {
	if ValidName(name) {
		return nil
	}
	return unchanged(fault.New(op, fault.Invalid,
		"username %q is refused: it must be 1 to 63 of A-Z a-z 0-9 . _ -; check the username template",
		clip(name)))
}

// CheckUser returns an error of kind Invalid that says why u cannot be created.
func CheckUser(op string, u User) error {
	if err := CheckName(op, u.Name); err != nil {
		return err
	}
	switch {
	case u.Password.Empty() && u.Key == Key{}:
		return unchanged(fault.New(op, fault.Invalid, "the user's password is empty; check the password policy"))
	case u.Expires.IsZero():
		return unchanged(fault.New(op, fault.Invalid, "the user's expiration is missing; a user must have one"))
	case !u.Attempt.Valid():
		return unchanged(fault.New(op, fault.Invalid,
			"attempt %q is refused: it must have a deadline and be 1 to 48 of A-Z a-z 0-9 . _ -",
			clip(u.Attempt.ID)))
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 80)] }

// errUnchanged marks errors of calls that surely had no effect. errRefused marks errors of a
// server that answers.
var (
	errUnchanged = errors.New("nothing was changed")
	errRefused   = errors.New("the server refused this alone")
)

// Unchanged reports whether the failed call surely had no effect, and will have none.
func Unchanged(err error) bool { return errors.Is(err, errUnchanged) }

// MarkUnchanged marks an error for [Unchanged]. It is for implementations.
func MarkUnchanged(e *fault.Error) error { return unchanged(e) }

// NotStarted marks an error of a call for [Unchanged] that came before anything was sent.
func NotStarted(op string, err error) error {
	return unchanged(&fault.Error{Op: op, Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
}

// Refused reports whether the server answers, and refused only this call.
func Refused(err error) bool { return errors.Is(err, errRefused) }

// MarkRefused marks an error for [Refused]. It is for implementations.
func MarkRefused(e *fault.Error) *fault.Error { return mark(e, errRefused) }

func unchanged(e *fault.Error) error { return mark(e, errUnchanged) }

func mark(e *fault.Error, as error) *fault.Error {
	marked := *e
	marked.Err = markedCause{e.Err, as}
	return &marked
}

// serverCode is the code by which a server refused a call.
type serverCode string

func (c serverCode) Error() string { return string(c) }

// MarkCode notes by which code the server refused the call, for implementations: "SQLSTATE
// 42501". "" notes none.
func MarkCode(e *fault.Error, code string) *fault.Error {
	if code == "" {
		return e
	}
	return mark(e, serverCode(code))
}

// CodeOf is the code by which the server refused a call; "" if it did not, or is not known to
// have.
func CodeOf(err error) string {
	code, _ := errors.AsType[serverCode](err)
	return string(code)
}

// markedCause carries a mark without changing the text of the cause.
type markedCause struct{ err, mark error }

func (m markedCause) Error() string {
	if m.err == nil {
		return ""
	}
	return m.err.Error()
}

func (m markedCause) Unwrap() error { return m.err }

// Redacted redacts the marked error, and keeps the mark.
func (m markedCause) Redacted(scrub func(error) error) error {
	if m.err == nil {
		return m
	}
	return markedCause{scrub(m.err), m.mark}
}

func (m markedCause) Is(target error) bool { return target == m.mark }

// As finds a code.
func (m markedCause) As(target any) bool {
	into, wanted := target.(*serverCode)
	code, has := m.mark.(serverCode)
	if wanted && has {
		*into = code
	}
	return wanted && has
}

// Found is what a kind of database finds in the statements of a field.
type Found struct {
	field string
	// Placeholders are the names between double braces, as [Placeholder] reads them, outside of
	// comments.
	Placeholders []string
	// Queries reports that all statements are queries, which create no user.
	Queries bool
}

// Has reports whether it has one of the placeholders.
func (f Found) Has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(f.Placeholders, name) })
}
