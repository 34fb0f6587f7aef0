package rotation

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Provider is a family of things that issue keys. Each implementing package
// exports exactly one. A family holds one or more definitions: that of recipes
// has one per recipe; a provider written in Go has one, of its own name.
type Provider struct {
	// Name is what a key's configuration says in "provider".
	Name string

	// Definitions lists what is built in. Their names cannot be taken by users.
	Definitions func() ([]Definition, error)

	// Parse reads a definition that a user wrote; file names it in positions of
	// errors. All problems are reported together, in one error of kind Invalid
	// (or Unsupported where the only problem is something not implemented yet). It is
	// nil where the provider takes none.
	Parse func(file string, source []byte) (Definition, error)

	// Test plays recorded exchanges against a definition, without a network.
	// It is nil where Parse is.
	Test func(ctx context.Context, d Definition, script []byte) error

	// Rehearse is Open for a source whose calls are answered by what the definition gives as
	// examples of replies, without a network. It is nil where Parse is.
	Rehearse func(c OpenConfig) (Source, error)

	// Open binds a definition to parameters and to the credentials of the
	// provider's management API. It checks both in full, does no I/O and starts
	// nothing, so that a Source needs no closing and can be made for each step.
	Open func(c OpenConfig) (Source, error)
}

// A Source creates, verifies and retires keys of one bound definition. It is safe for concurrent
// use. Its methods are those of [rotate.Target], [rotate.Creator], [rotate.Lister],
// [rotate.UsageTeller] and [rotate.Disabler], which say what they promise. Those that the
// definition's capabilities leave out are never called.
//
// Every call honours, besides its context, the definition's own timeout; when
// it returns for either, the provider may still act on the request until
// [rotate.Capabilities].Late after the return.
type Source interface {
	Verify(ctx context.Context, c rotate.Credential) error
	VerifyDead(ctx context.Context, c rotate.Credential) error
	rotate.Creator
	rotate.Lister
	rotate.UsageTeller
	rotate.Disabler
}

// A Definition describes one kind of key: what the engine and its users must
// know before anything is called.
type Definition struct {
	Provider    string // the family
	Name        string
	Description string
	Doc         string // where the vendor documents the API
	Evidence    string // what the definition rests on, in words
	Style       rotate.Style
	Hosts       []string // the origins that it may call, as written, with parameters unfilled
	Admin       []Field  // credentials of the management API
	Params      []Field
	Outputs     []Output // what a credential consists of
	Limits      Limits
	Settle      rotate.Settle
	Can         rotate.Capabilities
	Hash        string // "sha256:" and the hex digest of Source, or of a Go provider's own version text
	Source      []byte // the text; nil for a provider written in Go
}

// A Field is something to configure.
type Field struct {
	Name        string
	Type        string // "string", "number", "bool", "list(string)", "map(string)"
	Description string
	Secret      bool
	Required    bool
	Default     json.RawMessage // nil where required
	// Routes says that the field has a part in where secrets are sent. Whoever
	// changes it must give the admin credentials anew.
	Routes bool
	// Acts says that it decides what is made or retired. Whoever changes it must give the admin
	// credentials anew, too.
	Acts bool
	// Locates says that it decides where a credential is looked for, disabled or retired, such as
	// an account or a project. With another value, the credential of before is not there.
	Locates bool
}

// An Output is one value of a credential.
type Output struct {
	Name   string
	Secret bool
}

// Limits are the provider's.
type Limits struct {
	Keys  int // keys that can live at once; 0: not known
	Label int // the longest label in bytes; 0: not known
}

// An OpenConfig binds a definition.
type OpenConfig struct {
	Definition Definition // from Definitions or Parse, or restored from Name, Hash and Source
	Params     map[string]json.RawMessage
	Admin      map[string]secret.Value

	// Dial makes every connection. Nil means no network: the guarded dialer is
	// given by whoever owns the operator's allow-list.
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's

	// Redactor learns every secret that the source handles. Nil means a private one.
	Redactor *secret.Redactor

	// Told is called with each request once it has its reply, or will have none; nil: nobody
	// wants to know. It may be called by several goroutines at once.
	Told func(x rotate.Exchange)
}

// A Network is how providers' APIs are reached.
type Network struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's
}
