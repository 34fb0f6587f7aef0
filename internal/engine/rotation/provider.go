package rotation

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net"
	"strings"
	"unicode"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Provider is a family of upstream APIs that issue keys. Each implementing package exports
// exactly one Provider. A Provider has one or more definitions. The provider of recipes has one
// for each recipe. A provider written in Go has one, with the provider's own name.
type Provider struct {
	// Name is the value of the field "provider" in a key's configuration.
	Name string

	// Definitions lists the built-in definitions. A user cannot write a definition with the name
	// of one.
	Definitions func() ([]Definition, error)

	// Parse parses a definition that a user wrote. Its errors give positions in file. Parse
	// reports all problems together in one error of kind Invalid, or of kind Unsupported if every
	// problem is a feature that is not implemented yet. Parse is nil if the provider accepts no
	// definitions from users.
	Parse func(file string, source []byte) (Definition, error)

	// Replay replays recorded exchanges against a definition, without a network. Replay is nil
	// if Parse is nil.
	Replay func(ctx context.Context, d Definition, script []byte) error

	// OpenExamples is Open for a source that answers each call with the definition's example
	// replies, without a network. OpenExamples is nil if Parse is nil.
	OpenExamples func(c OpenConfig) (Source, error)

	// Open binds a definition to parameters and to the credentials of the provider's management
	// API. Open validates both, does no I/O and starts nothing. A Source therefore needs no
	// closing, and a caller may open one for each step.
	Open func(c OpenConfig) (Source, error)
}

// A Source creates, verifies and retires keys of one bound definition. The Source is safe for
// concurrent use. Its methods are those of [rotate.Target], [rotate.Creator], [rotate.Lister],
// [rotate.UsageReporter] and [rotate.Disabler], which define the contract of each method. The
// engine never calls a method that the definition's capabilities leave out.
//
// Every call honours its context and the definition's own timeout. After a call returns because of
// either, the provider may still process the request until [rotate.Capabilities].Late has passed.
type Source interface {
	Verify(ctx context.Context, c rotate.Credential) error
	VerifyDead(ctx context.Context, c rotate.Credential) error
	rotate.Creator
	rotate.Lister
	rotate.UsageReporter
	rotate.Disabler
}

// A Definition describes one kind of key: everything that the engine and its users must know
// before the first call.
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
	Slots       []string // names of the provider's slots, of the style slots
	// Instructions say where and how a person creates and deletes keys, of the style manual.
	Instructions string
	Hash         string // "sha256:" and the hex digest of Source, or of a Go provider's own version text
	Source       []byte // the text; nil for a provider written in Go
}

// A Field is one parameter or one admin credential of a definition.
type Field struct {
	Name        string
	Type        string // "string", "number", "bool", "list(string)", "map(string)"
	Description string
	Secret      bool
	Required    bool
	Default     json.RawMessage // nil where required
	// Routes says that the field helps to decide where secrets are sent. A write that changes the
	// field must give the admin credentials again.
	Routes bool
	// Acts says that the field decides what is created or retired. A write that changes the field
	// must give the admin credentials again.
	Acts bool
	// Locates says that the field decides where a credential is looked for, disabled or retired,
	// such as an account or a project. With another value, the previous credential is out of
	// reach.
	Locates bool
}

// An Output is one value of a credential.
type Output struct {
	Name   string
	Secret bool
}

// Limits are the limits of the provider.
type Limits struct {
	Keys  int // keys that can be valid at once; 0: not known
	Label int // the longest label in bytes; 0: not known
}

// An OpenConfig is the input of [Provider].Open.
type OpenConfig struct {
	Definition Definition // from Definitions or Parse, or restored from Name, Hash and Source
	Params     map[string]json.RawMessage
	Admin      map[string]secret.Value

	// Dial makes every connection. Nil means no network. The owner of the operator's allow-list
	// supplies the guarded dialer.
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's

	// Redactor learns every secret that the source handles. Nil means a private one.
	Redactor *secret.Redactor

	// OnExchange is called for each request, after its reply or its failure. Several goroutines
	// may call OnExchange at once. OnExchange may be nil.
	OnExchange func(x rotate.Exchange)
}

// A Network says how to connect to the APIs of providers.
type Network struct {
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Roots *x509.CertPool // nil: the system's
}

// SlotMark separates the name of a slot from the number of the rotation that regenerated it, in
// the ID of a key.
const SlotMark = "#"

// SlotOf returns the slot of a key. The ID of a key that a user has named is the slot's name.
func SlotOf(id string) string {
	slot, _, _ := strings.Cut(id, SlotMark)
	return slot
}

// MaxID and MaxOutput limit the ID of a key and one output, in bytes.
const (
	MaxID     = 512
	MaxOutput = 64 << 10
)

// ValidID reports whether a text can be the ID of a key.
func ValidID(id string) bool {
	return id != "" && len(id) <= MaxID && !strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) })
}
