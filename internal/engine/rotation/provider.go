package rotation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

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
	// (or Unsupported where the only problem is something not built yet). It is
	// nil where the provider takes none.
	Parse func(file string, source []byte) (Definition, error)

	// Test plays recorded exchanges against a definition, without a network.
	// It is nil where Parse is.
	Test func(ctx context.Context, d Definition, script []byte) error

	// Open binds a definition to parameters and to the credentials of the
	// provider's management API. It checks both in full, does no I/O and starts
	// nothing, so that a Source needs no closing and can be made for each step.
	Open func(c OpenConfig) (Source, error)
}

// A Source makes, proves and retires keys of one bound definition. It is safe for
// concurrent use.
//
// Every call honours its context and, besides, the definition's own timeout; when
// it returns for either, the provider may still act on the request until
// [Capabilities.Late] after the return. Every error is, or wraps, a [Failure], and
// its text has passed the redactor of the [OpenConfig].
type Source interface {
	// Create makes one key and labels it with o.Marker where the provider has
	// labels. It calls the provider's creating request at most once. It is never
	// repeatable by itself: after an Unknown outcome the caller does what
	// Capabilities.Retry says.
	Create(ctx context.Context, o Order) (Credential, error)

	// Verify proves that the key works as its user would use it, or less, as
	// Capabilities.Proof says. A key that the provider refuses is Rejected, which
	// shortly after creation may only mean that word has not spread. With
	// Proof "none" it succeeds and proves nothing.
	Verify(ctx context.Context, c Credential) error

	// VerifyDead proves that the provider refuses the key: nil only after a
	// refusal. A key that still works is Alive; what could not be told is
	// Transient or Permanent. With Proof "none" it is Permanent.
	VerifyDead(ctx context.Context, c Credential) error

	// List returns all keys that the provider shows, ours or not, and nothing
	// rather than a part of them. Call only with Capabilities.List.
	List(ctx context.Context) ([]Listed, error)

	// LastUsed returns when a key was last used, or the zero time where the provider
	// does not know of any use. It may veto a retirement; it never proves disuse.
	// Call only with Capabilities.LastUsed.
	LastUsed(ctx context.Context, id string) (time.Time, error)

	// Disable makes a key unusable, reversibly. Disabling what is disabled or
	// gone succeeds. Call only with Capabilities.Disable.
	Disable(ctx context.Context, id string) error

	// Retire removes a key for good. Retiring what is gone succeeds, so an
	// Unknown outcome is answered by calling again.
	Retire(ctx context.Context, id string) error
}

// A Style is how keys of a kind are turned.
type Style string

// The styles. Only TwoKey is built; a definition of another is refused by Parse.
const (
	TwoKey    Style = "two-key"    // old and new live side by side: create, verify, publish, retire
	Slots     Style = "slots"      // a fixed number of slots, the idle one is regenerated
	Promote   Style = "promote"    // a staged credential is promoted, which ends the old one
	GraceRoll Style = "grace-roll" // one call; the provider ends the old one when it likes
	InPlace   Style = "in-place"   // the old one dies at once
	Manual    Style = "manual"     // a person makes the new one
)

// A Retry says what may follow a creating call of unknown outcome.
type Retry string

// The retries.
const (
	RetrySafe  Retry = "safe"  // call again: the same marker cannot make a second key
	RetryAdopt Retry = "adopt" // list, retire what the call left, then create anew
	RetryNever Retry = "never" // stop and ask a person: a second call does harm
)

// A Proof is what a successful Verify shows.
type Proof string

// The proofs.
const (
	ProofUse        Proof = "use"        // the new credential did what its user will do
	ProofManagement Proof = "management" // the management API says that it is there: counts as unproven
	ProofNone       Proof = "none"       // nothing
)

// A Definition describes one kind of key: what the engine and its users must
// know before anything is called.
type Definition struct {
	Provider    string // the family
	Name        string
	Description string
	Doc         string // where the vendor documents the API
	Evidence    string // what the definition rests on, in words
	Style       Style
	Hosts       []string // the origins that it may call, as written, with parameters unfilled
	Admin       []Field  // credentials of the management API
	Params      []Field
	Outputs     []Output // what a credential consists of
	Limits      Limits
	Settle      Settle
	Can         Capabilities
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

// Settle is how the engine repeats Verify after a creation.
type Settle struct {
	Successes int           // in a row
	Interval  time.Duration // between two calls
	Timeout   time.Duration // then the key is rejected for good
}

// Capabilities are what a definition can do beyond creating and retiring.
type Capabilities struct {
	List     bool
	Label    bool // List shows markers
	LastUsed bool
	Disable  bool
	Proof    Proof
	Retry    Retry
	// Timeout is the longest that Create runs; Late is how long after its return the
	// provider may still make the key. After both have passed, a List that does
	// not show the key proves that there is none.
	Timeout, Late time.Duration
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
}

// An Order asks for a key.
type Order struct {
	Marker  Marker
	Current string // the id of the key to be replaced; "" for the first
}

// A Credential is one key.
type Credential struct {
	ID      string // what Retire takes
	Secret  map[string]secret.Value
	Public  map[string]string
	Expires time.Time // when the provider will end it by itself; zero: never, or not told
}

// A Listed is a key as the provider shows it.
type Listed struct {
	ID       string
	Label    string // as shown
	Marker   Marker // of Label; zero where it is none of a Keyturn's
	Created  time.Time
	LastUsed time.Time // zero: no use known
	Disabled bool
}

// An Outcome says what is known about a call that failed. Its zero value is the
// careful one.
type Outcome uint8

// The outcomes. Calls that only read never are Unknown.
const (
	// Unknown: the call may have had its effect, or may still have it, until
	// Capabilities.Late has passed. Cut connections, timeouts, 5xx replies to
	// changing calls, and replies that cannot be read.
	Unknown Outcome = iota
	// Transient: surely no effect, and the same call may succeed later, at
	// RetryAfter at the earliest. Refused connections, 408, 425, 429, and 5xx for
	// reading calls.
	Transient
	// Permanent: surely no effect, and none until somebody changes something.
	Permanent
	// Exhausted: surely no effect, because the provider's limit on keys is reached.
	Exhausted
	// Rejected: the provider refused the key that Verify tried.
	Rejected
	// Alive: the provider accepted the key that VerifyDead tried.
	Alive
)

var outcomes = [...]string{"unknown", "transient", "permanent", "exhausted", "rejected", "alive"}

// String is the outcome's label in journals, metrics and recipes.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o]
	}
	return outcomes[Unknown]
}

// ParseOutcome is the inverse of String.
func ParseOutcome(s string) (Outcome, bool) {
	for i, name := range outcomes {
		if s == name {
			return Outcome(i), true
		}
	}
	return Unknown, false
}

// A Failure is a call that did not succeed.
type Failure struct {
	Outcome    Outcome
	Status     int           // of the HTTP reply; 0: none
	RetryAfter time.Duration // as the provider asked, at most a day; 0: not asked
	// ID is set where Create failed although a key surely exists, its secret lost
	// or unreadable. It is ours, and to be retired.
	ID  string
	Err error // a *fault.Error: its message is our own words, its cause is redacted
}

// Error is the text of the cause.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Redacted returns the failure with its error as scrub returns it.
func (f *Failure) Redacted(scrub func(error) error) error {
	out := *f
	out.Err = scrub(f.Err)
	return &out
}

// OutcomeOf classifies an error of a Source. An error that is no [Failure] is Unknown.
func OutcomeOf(err error) Outcome {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Outcome
	}
	return Unknown
}

// MarkerMax is the longest text of a marker. It fits the shortest label that
// vendors are known to take (64).
const MarkerMax = 61

// A Marker names one creating call, everywhere and for good. It is put where
// the provider's list shows it, so that after a crash what the call left can be
// found. Its text is "kt:<installation>/<key>/<turn>/<attempt>".
type Marker struct {
	Installation string // 1 to 8 of a-z 0-9
	Key          string // 1 to 32 of a-z 0-9 . _ -; see [Tag]
	Turn         uint32
	Attempt      uint16
}

var markerForm = regexp.MustCompile(`^kt:([a-z0-9]{1,8})/([a-z0-9._-]{1,32})/(0|[1-9][0-9]{0,9})/(0|[1-9][0-9]{0,4})$`)

// String is the marker's text.
func (m Marker) String() string {
	return fmt.Sprintf("kt:%s/%s/%d/%d", m.Installation, m.Key, m.Turn, m.Attempt)
}

// IsZero reports whether there is no marker.
func (m Marker) IsZero() bool { return m == Marker{} }

// ParseMarker is the inverse of String. Each marker has exactly one text.
func ParseMarker(text string) (Marker, bool) {
	if len(text) > MarkerMax { // a label of somebody else's
		return Marker{}, false
	}
	p := markerForm.FindStringSubmatch(text)
	if p == nil {
		return Marker{}, false
	}
	turn, err := strconv.ParseUint(p[3], 10, 32)
	if err != nil {
		return Marker{}, false
	}
	attempt, err := strconv.ParseUint(p[4], 10, 16)
	if err != nil {
		return Marker{}, false
	}
	return Marker{p[1], p[2], uint32(turn), uint16(attempt)}, true
}

// Valid reports whether the marker's text can be parsed.
func (m Marker) Valid() bool {
	_, ok := ParseMarker(m.String())
	return ok
}

var plainTag = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// Tag makes a marker's Key of a key's name: the name itself where it fits, else
// its beginning, a dot and the start of its hash. Two names never have one tag by
// chance: a name that fits has no dot.
func Tag(name string) string {
	if plainTag.MatchString(name) {
		return name
	}
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if b.Len() == 15 {
			break
		}
		if r < 0x80 && plainTag.MatchString(string(r)) {
			b.WriteRune(r)
		}
	}
	sum := sha256.Sum256([]byte(name))
	return b.String() + "." + hex.EncodeToString(sum[:8])
}
