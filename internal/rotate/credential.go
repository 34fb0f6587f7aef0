package rotate

import (
	"errors"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Style is how credentials of one kind are replaced.
type Style string

// The styles. A definition of a style that is not implemented yet is refused when it is read.
const (
	TwoKey    Style = "two-key"    // old and new work side by side: create, verify, publish, retire
	Slots     Style = "slots"      // a fixed number of slots; the idle one is regenerated
	Promote   Style = "promote"    // a staged credential is promoted, which ends the old one
	GraceRoll Style = "grace-roll" // one call; the provider ends the old one after a time of its own
	InPlace   Style = "in-place"   // the value changes where it is; the old value stops working at once
	Manual    Style = "manual"     // a person creates the new one
	External  Style = "external"   // somebody else creates and publishes the new one; it is verified and watched
)

// A Retry says what may follow a creating call whose outcome is unknown.
type Retry string

// The retries.
const (
	RetrySafe  Retry = "safe"  // call again: the same marker cannot create a second credential
	RetryAdopt Retry = "adopt" // list, retire what the call left, then create again
	// RetryNever: stop and wait for a person, because a second call does harm. In place, a secret
	// that the provider may have is never replaced by another one. Otherwise a late effect of the
	// first call would leave nobody knowing which secret is in force.
	RetryNever Retry = "never"
	// RetryReplace: wait until the first call can no longer take effect, then call again. What the
	// second call creates replaces what the first one may have left, as in a slot.
	RetryReplace Retry = "replace"
)

// A Proof is what a successful Verify shows.
type Proof string

// The proofs.
const (
	ProofUse        Proof = "use"        // the new credential did what its user will do
	ProofManagement Proof = "management" // the management API says that it exists: counts as unproven
	ProofNone       Proof = "none"       // nothing
)

// Settle says how Verify is repeated after a creation, because providers are eventually
// consistent.
type Settle struct {
	Successes int           // in a row
	Interval  time.Duration // between two calls
	Timeout   time.Duration // after which the credential is rejected for good
}

// A Task says what a person does about a credential, because the provider has no API for it.
type Task struct {
	Instructions string // where and how keys are created and deleted, as a sentence without a full stop
	Supply       string // the command that hands over a new key
	Confirm      string // the command that reports the deletion of an old one
}

// Capabilities are what a target can do besides creating and retiring.
type Capabilities struct {
	List     bool
	Label    bool // List shows markers
	LastUsed bool
	Disable  bool
	// ListsDisabled means that List shows which credentials are disabled. A credential that
	// somebody has enabled again is then not retired.
	ListsDisabled bool
	Proof         Proof
	Retry         Retry
	// CreatedByHand means that a person creates each credential, and RetiredByHand that a person
	// retires it, as Task says.
	CreatedByHand, RetiredByHand bool
	Task                         Task
	// Slots means that Create and Retire regenerate a slot of the provider, whose earlier
	// credential ends. A late effect of a retiring call would end the credential that the slot
	// holds by then.
	Slots bool
	// Timeout is the longest that Create runs. Late is how long after Create returns the provider
	// may still create the credential. After both have passed, a List without the credential
	// proves that there is none.
	Timeout, Late time.Duration
}

// An Order asks for a credential.
type Order struct {
	Marker  Marker
	Current string // the ID of the credential to be replaced; "" for the first
}

// A Credential is one key or password, with everything that its user needs.
type Credential struct {
	ID      string // what Retire takes
	Account string // whose secret it is, where accounts alternate or keep their name
	Secret  map[string]secret.Value
	Public  map[string]string
	Expires time.Time // when the provider ends it on its own; zero: never, or unknown
}

// A Listed is a credential as the provider shows it.
type Listed struct {
	ID       string
	Label    string // as shown
	Marker   Marker // of Label; zero if the label is not Keyturn's
	Created  time.Time
	LastUsed time.Time // zero: no use known
	Disabled bool
}

// An Outcome says what is known about a failed call. The zero value is the most cautious outcome.
type Outcome uint8

// The outcomes. Calls that only read are never Unknown.
const (
	// Unknown: the call may have had its effect, or may still have it until Capabilities.Late has
	// passed. Examples are cut connections, timeouts, 5xx replies to changing calls, and
	// unreadable replies.
	Unknown Outcome = iota
	// Transient: the call surely had no effect. The same call may succeed later, after RetryAfter
	// at the earliest. Examples are refused connections, 408, 425, 429, and 5xx for reading
	// calls.
	Transient
	// Permanent: the call surely had no effect, and cannot succeed until somebody changes
	// something.
	Permanent
	// Exhausted: the call surely had no effect, because the provider's limit on keys is reached.
	Exhausted
	// Rejected: the provider refused the credential that Verify tried.
	Rejected
	// Alive: the provider accepted the credential that VerifyDead tried.
	Alive
	// Untested: Verify could not try the credential from here, which says nothing about the
	// credential.
	Untested
)

var outcomes = [...]string{"unknown", "transient", "permanent", "exhausted", "rejected", "alive", "untested"}

// String returns the outcome's label in journals, metrics and recipes.
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

// A Failure is the error of a failed call.
type Failure struct {
	Outcome    Outcome
	Status     int           // of the HTTP reply; 0: none
	RetryAfter time.Duration // as the provider asked, at most a day; 0: not asked
	// Repeats means that another Create would create another credential and fail the same way,
	// because the reply was not the expected one.
	Repeats bool
	// ID is set if Create failed although a credential surely exists, whose secret is lost or
	// unreadable. The credential is ours, and is retired.
	ID  string
	Err error // a *fault.Error: its message is our own words, its cause is redacted
}

// Error returns the text of the cause.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Redacted returns a copy of the failure whose cause was passed through scrub.
func (f *Failure) Redacted(scrub func(error) error) error {
	out := *f
	out.Err = scrub(f.Err)
	return &out
}

// OutcomeOf returns the outcome of a target's error. An error that is not a [Failure] is Unknown.
func OutcomeOf(err error) Outcome {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Outcome
	}
	return Unknown
}

// retryAfter returns how long the provider asked to wait, or zero.
func retryAfter(err error) time.Duration {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.RetryAfter
	}
	return 0
}
