// Package database is the engine that lends users of databases: a user with a
// random name and password that lives as long as its lease.
//
// This file is the contract of a kind of database. An implementation is a
// subfolder that exports one [Provider] and passes databasetest.
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
	// Name is what metrics, logs and the folder call it: "postgresql".
	Name string

	// Plugins are the names that a configuration's plugin_name may say.
	Plugins []string

	// NameMax is the longest user name in bytes. Names besides match [ValidName].
	NameMax int

	// NameMaxOf has the plugins whose users have shorter names yet.
	NameMaxOf map[string]int

	// Settings are the fields of a configuration that this kind has besides those of all kinds.
	Settings []Setting

	// DefaultCreation is for roles without creation_statements. Empty: a role must have some.
	DefaultCreation []string

	// Logins are what users can log in with besides passwords, by what their
	// statements say of it: "rsa_private_key", "client_certificate".
	Logins []string

	// BindsSubject: a user without password must be bound to the subject of its certificate, or
	// is let in without one.
	BindsSubject bool

	// Check finds what is wrong with a configuration without any I/O. All
	// problems are in one error of kind Invalid.
	Check func(c Config) error

	// Rules: statements are rules that users get. Their names and passwords are no part of them.
	Rules bool

	// CheckStatements finds what is wrong with statements, of which there is at least one, without any I/O:
	// quotes that are never closed, commands that cannot run in a
	// transaction of ours, or that only a command line knows. field is the name that the error of kind Invalid blames.
	CheckStatements func(field string, statements []string) (Found, error)

	// Display returns a connection URL as it may be shown: a password that
	// is written into it is masked, placeholders stay.
	Display func(url secret.Value) string

	// Destination tells where a configuration sends the administrator's password; false where that cannot be told. It does
	// no I/O. Nil: any change of URL, Extra or Hidden is one of destination.
	Destination func(c Config) (Destination, bool)

	// Connect checks c and returns a connection to it. It does no I/O: the first
	// call, or Verify, does. What it starts ends with Close, not with ctx.
	Connect func(ctx context.Context, c Config) (Conn, error)
}

// MaxURL is the longest connection_url in bytes. A kind of database refuses a longer one before it reads it. Certificates may stand in one.
const MaxURL = 64 << 10

// A Destination is where a password is sent, and how that is guarded.
type Destination struct {
	// Place is the same text for all configurations by which the same user's password goes to the same
	// database of the same servers, however the URL is written. It holds no password.
	Place string

	// Guard orders the ways to one place by what protects the password: more is stricter.
	Guard int
}

// sameDestination reports whether a change from one configuration of a kind to another sends the password nowhere else, and guards it
// no less.
func (p *Provider) sameDestination(was, is Config) bool {
	if p.Destination == nil {
		return false
	}
	from, ok1 := p.Destination(was)
	to, ok2 := p.Destination(is)
	return ok1 && ok2 && from.Place == to.Place && from.Guard <= to.Guard
}

// A Setting is a field of a configuration that only some kinds have. Each is taken to
// decide where the administrator's password is sent, or to whom it is shown, unless Destination says that it does
// not: a write that changes one has to give the password again.
type Setting struct {
	Name    string // "tls_server_name"
	Form    Form
	Default string // in words
	Doc     string // what it is for, one sentence
}

// PEM is a text in PEM form as it was given, or "" where none was. HashiCorp's Terraform provider sends "0" for none.
func PEM(text string) string {
	if strings.TrimSpace(text) == "0" {
		return ""
	}
	return text
}

// A Form is what a setting's value looks like.
type Form uint8

// The forms. What is not given has its form's zero value.
const (
	Text Form = iota
	Flag
	Number
	Secret // text that is never shown
)

// A Config says how to reach one database server as its administrator. Zero
// values mean the provider's defaults.
type Config struct {
	// URL is the connection string, in any form that the database knows, with
	// {{username}} and {{password}} where the two below belong. Their values
	// are escaped as the form asks unless DisableEscaping. It is a secret because
	// a user may write a password into it.
	URL             secret.Value
	Username        string
	Password        secret.Value
	DisableEscaping bool

	MaxOpen      int           // connections at most; 0: 4, negative: no limit
	MaxIdle      int           // connections kept idle; 0: as MaxOpen, negative: none
	ConnLifetime time.Duration // a connection is closed when it is this old; 0: never

	// PasswordAuthentication is how the server learns a new user's password: "" and
	// "password" send it as it is, "scram-sha-256" sends a verifier only, so
	// that the server's log never holds a password.
	PasswordAuthentication string

	// TLS material as PEM text, all optional. A CA makes the connection verified,
	// also where the URL did not ask for that.
	TLSCA          string
	TLSCertificate string
	PrivateKey     secret.Value

	// Extra are the kind's own settings: text as it is, a flag that is set as "true", a
	// number in digits. What has its zero value is absent. Hidden are those of form Secret.
	Extra  map[string]string
	Hidden map[string]secret.Value

	// Dial opens every connection; nil means outbound.Anywhere's. The one
	// who configures a database may not be the one who may reach every
	// address, so the owner of the outbound rules gives it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Files reads the files of this machine that a client may name. Its zero value allows none, and
	// no path of a client's goes to a library that would open it.
	Files hostfile.Folders
	Log   *slog.Logger // nil: none
}

// A Conn makes and removes users of one database server. It is safe for
// concurrent use and keeps its own pool.
//
// Every call returns soon after its context ends and then has tried to
// cancel what runs on the server. No call waits longer than its context for a
// connection of the pool. While the server is away calls fail, and when it is
// back they succeed: there is nothing to reopen.
//
// Errors are [fault.Error]s whose client message names the field, the cause and the next
// step, and whose cause is redacted of every secret that the call knew. The message is our own
// words, and is not redacted: a server's words have no place in it. Kinds:
//
//	Invalid      the name, a statement or the configuration; nothing was sent
//	NotFound     there is no such user (Renew, SetPassword)
//	Conflict     there is such a user already (Create)
//	Denied       the outbound rules forbid the address
//	Upstream     the database refused, or cannot be reached
//	Timeout      the context's deadline passed
//	Unavailable  the Conn was closed, or the context canceled
//
// What the server warns of while a call runs, [OnWarning] hears.
//
// An error for which [Refused] reports true came of a server that was reached, let us in and
// goes on answering: what it objects to is this user or these statements. Drop must tell, so that
// one role whose statements fail delays no user of others.
//
// The error of a call that the server itself refused has the server's code, which [CodeOf] returns.
//
// An error for which [Unchanged] reports true had surely no effect on the
// database, and none will come. After any other error of Create the user may exist,
// now or later: see SettleAttempt.
type Conn interface {
	// Verify proves that the server can be reached and takes the credentials.
	Verify(ctx context.Context) error

	// Create makes a user by statements, all or nothing. It is called once for an
	// attempt and is not repeatable: where the name is taken it fails with
	// Conflict and leaves that user alone. Where the database has no transactions,
	// or for what is outside of them, rollback runs after statements have failed.
	Create(ctx context.Context, u User, statements, rollback []string) error

	// Renew makes the user's credentials valid until expires. Without
	// statements it does what the database has for that, if anything. Repeatable.
	Renew(ctx context.Context, name string, expires time.Time, statements []string) error

	// Disable keeps a user from logging in from now on, whatever a Drop would wait for or fail of: no statement of
	// the role's runs, and it takes seconds at most. Sessions that are open go on, unless they hold up even this. What
	// is absent is disabled. Repeatable.
	Disable(ctx context.Context, name string) error

	// Drop removes a user, who was disabled before. Removing an absent user succeeds, whatever the statements
	// would say to that, so Drop is repeatable. Without statements it uses
	// the database's own way; what the user owned is handed to the
	// administrator, never deleted. When statements fail because of what the
	// user still has, or leave some of it, Drop takes that away, runs them again, and reports it. A user whose
	// absence would make what others use fail is kept: the error, for which Refused reports true, names that.
	Drop(ctx context.Context, name string, o DropOptions) (Report, error)

	// SetPassword changes the password of a user that exists, by statements or
	// without them in the database's own way. Afterwards the user has no other password.
	// Repeatable, also while it is unknown whether it was done before. The user may be the
	// administrator: the Conn then goes on with the sessions that it has, and is
	// to be replaced by one with the new password.
	SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error

	// Login tries a user's name and password on a connection of its own, which ends at once.
	// False without an error: the server was asked and refused them. Unsupported: it lets this
	// user in by no password from here, so that nothing is known of this one.
	Login(ctx context.Context, name string, password secret.Value) (bool, error)

	// Exists reports whether there is a user of this name.
	Exists(ctx context.Context, name string) (bool, error)

	// SettleAttempt makes sure that a Create whose outcome is unknown – its reply was lost,
	// its caller died – can have no effect any more. It ends what still runs of it
	// and returns true once nothing can come: an object that is absent after
	// that stays absent. So undo is SettleAttempt until true, then Drop. It may be called on another
	// Conn, in another process, any number of times, for attempts that never ran. It never waits
	// long: false means ask again, at the earliest at the attempt's deadline.
	SettleAttempt(ctx context.Context, a Attempt) (bool, error)

	// Close cancels what runs, and releases all connections. It returns within a
	// second. Closing twice is harmless.
	Close() error
}

// A KeyConn is a Conn of a kind whose static users may log in without password. Errors and
// contexts are as Conn's.
type KeyConn interface {
	Conn

	// SetKey tells the database what a user logs in with, by statements. Without any it looks
	// whether the user is there: NotFound. Repeatable, as SetPassword.
	SetKey(ctx context.Context, name string, key Key, statements []string) error

	// LoginCertificate is Login by a certificate. Unsupported: it cannot be tried from here.
	LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (bool, error)
}

// NotTaken reports whether an error of TLS says that the server did not take the client's certificate: its authority
// is not known there, or it has ended. With TLS 1.3 the client often learns no more than that the connection
// is gone; with 1.2 the server says it while the two still shake hands.
func NotTaken(text string) bool {
	_, alert, ok := strings.Cut(text, "remote error: tls: ")
	return ok && strings.Contains(alert, "certificate")
}

// An Attempt names one call of Create, for good. It is part of the reservation
// that is durable before the call.
type Attempt struct {
	// ID is 1 to 48 of A-Z a-z 0-9 . _ - and unique.
	ID string
	// Deadline is when the call may take effect at the latest: a create that
	// reaches the server later refuses itself. The server's clock judges,
	// here and in SettleAttempt, so a wrong clock can delay but not deceive.
	Deadline time.Time
}

// A User is what Create makes.
type User struct {
	Name     string
	Password secret.Value // empty, where there is a key
	Key      Key
	Expires  time.Time
	Attempt  Attempt
}

// A Key is what is public of what a user without password logs in with: all that a
// database is told of it.
type Key struct {
	Public  string // {{public_key}}: the body of its PEM text, in one line
	Subject string // {{subject}}: of the certificate, in OpenSSL's one-line form
}

// Fill adds what placeholders stand for.
func (k Key) Fill(values map[string]string) {
	for name, value := range map[string]string{"public_key": k.Public, "subject": k.Subject} {
		if value != "" {
			values[name] = value
		}
	}
}

// DropOptions say how Drop goes about it.
type DropOptions struct {
	Statements []string
	// TerminateSessions ends the user's open sessions, too.
	TerminateSessions bool
}

// A Report tells what a Drop had to do beyond running the statements.
type Report struct {
	// Notes are sentences for the lease's lookup and the log, without secrets.
	// None is the normal case.
	Notes []string
	// Insufficient: the role's own statements failed or did not do all, and Drop had to
	// help. Notes say what, and are kept with the role.
	Insufficient bool
	// Remains: the role's own statements succeeded, but the user is still there.
	Remains bool
}

var (
	existingNameForm = regexp.MustCompile("^[^\\x00-\\x20\\x7f'\"`\\\\;%{}]{1,128}$")
	nameForm         = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)
	attemptForm      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,48}$`)
)

// ValidName reports whether a user name is one that Keyturn may have generated.
// Everything else is refused before it reaches SQL, quoted or not.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// CheckGivenName returns the error of kind Invalid for a name that no user of ours or of others
// may have: SetPassword and Login take names that people chose.
func CheckGivenName(op, name string) error {
	if utf8.ValidString(name) && existingNameForm.MatchString(name) {
		return nil
	}
	return unchanged(fault.New(op, fault.Invalid, "username %q is refused: it must be 1 to 128 bytes without spaces, quotes, backslashes, backticks, semicolons, percent signs and braces", clip(name)))
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
	return unchanged(fault.New(op, fault.Invalid, "username %q is refused: it must be 1 to 63 of A-Z a-z 0-9 . _ -; check the username template", clip(name)))
}

// CheckUser returns what keeps u from being created, as an error of kind Invalid.
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
		return unchanged(fault.New(op, fault.Invalid, "attempt %q is refused: it must have a deadline and be 1 to 48 of A-Z a-z 0-9 . _ -", clip(u.Attempt.ID)))
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 80)] }

// errUnchanged marks errors after which the database is surely as it was, errRefused
// those of a server that answers.
var (
	errUnchanged = errors.New("nothing was changed")
	errRefused   = errors.New("the server refused this alone")
)

// Unchanged reports whether the failed call surely had no effect, and none will come.
func Unchanged(err error) bool { return errors.Is(err, errUnchanged) }

// MarkUnchanged says so of an error, for implementations.
func MarkUnchanged(e *fault.Error) error { return unchanged(e) }

// Refused reports whether the server answers, and refused only what it was asked.
func Refused(err error) bool { return errors.Is(err, errRefused) }

// MarkRefused says so of an error, for implementations.
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

// MarkCode notes by which code the server refused the call, for implementations: "SQLSTATE 42501". "" notes none.
func MarkCode(e *fault.Error, code string) *fault.Error {
	if code == "" {
		return e
	}
	return mark(e, serverCode(code))
}

// CodeOf is the code by which the server refused a call; "" if it did not, or is not known to have.
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

// Redacted keeps the mark, and redacts what it marks.
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
	// Placeholders are the names between double braces, as [Placeholder] reads them, outside of comments.
	Placeholders []string
	// Queries reports that there is nothing but queries, by which no user is made.
	Queries bool
}

// Has reports whether one of the placeholders is there.
func (f Found) Has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(f.Placeholders, name) })
}
