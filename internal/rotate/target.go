package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Target is one credential at its provider, opened by the engine from what it has configured.
// Opening does no I/O, and a target needs no closing, so that one is opened for each step.
//
// A target is a [Creator] or a [Setter], as its kind's style says. What it can do besides is a
// small interface each: [Lister], [UsageTeller], [Disabler], [Outdater] and [Joiner]. Its
// Capabilities say which calls are worth making.
//
// Every call honours its context. Every error is, or wraps, a [Failure]; its text has
// passed the redactor that the target was opened with.
type Target interface {
	Capabilities() Capabilities

	// Settle is how Verify is repeated before a new credential is published.
	Settle() Settle

	// Place is where consumers read the credential; nil: they read the record itself.
	Place() *Place

	// Verify proves that the credential works as its user would use it, or less, as
	// Capabilities.Proof says. A credential that the provider refuses is Rejected, which
	// shortly after creation may only mean that the provider's replicas have not caught up. With
	// Proof "none" it succeeds and proves nothing.
	Verify(ctx context.Context, c Credential) error

	// VerifyDead proves that the provider refuses the credential: nil only after a refusal. A
	// credential that still works is Alive; an open question is Transient or Permanent. With Proof
	// "none" it is Permanent. A Setter's is never asked: its old secret ends with the new one.
	VerifyDead(ctx context.Context, c Credential) error
}

// A Creator is a target whose old and new credentials live side by side.
type Creator interface {
	// Create creates one credential and labels it with o.Marker where the provider has
	// labels. It calls the provider's creating request at most once. It is never
	// repeatable on its own: after an Unknown outcome the caller does what
	// Capabilities.Retry says.
	Create(ctx context.Context, o Order) (Credential, error)

	// Retire removes a credential for good. Retiring one that is gone succeeds, so an
	// Unknown outcome is answered by calling again.
	Retire(ctx context.Context, id string) error
}

// A Lister is a target whose provider lists credentials.
type Lister interface {
	// List returns all credentials that the provider shows, ours or not, and nothing
	// rather than a part of them.
	List(ctx context.Context) ([]Listed, error)
}

// A UsageTeller is a target whose provider tells of uses.
type UsageTeller interface {
	// LastUsed returns when a credential was last used, or the zero time where the provider
	// does not know of any use. It may veto a retirement; it never proves disuse.
	LastUsed(ctx context.Context, id string) (time.Time, error)
}

// A Disabler is a target whose credentials can be made unusable, reversibly.
type Disabler interface {
	// Disable makes a credential unusable. Disabling one that is disabled or
	// gone succeeds.
	Disable(ctx context.Context, id string) error
}

// A Setter is a target whose credential changes in place: the account stays, and its secret is
// replaced.
type Setter interface {
	// Generate makes a new secret for the account whose turn it is, without telling the provider.
	// Its ID is another one than those of the credentials in s.
	Generate(ctx context.Context) (Credential, error)

	// Set makes the provider take to instead of from, which is the zero value where it is not
	// known. Setting what is set changes nothing: it succeeds, or is refused where from is what
	// the call authenticates by. Verify tells which secret is in force after an Unknown outcome.
	Set(ctx context.Context, from, to Credential) error
}

// An Outdater is a Setter that may lead elsewhere than a credential was made for.
type Outdater interface {
	// Outdated reports that: the credential is neither tried nor set there.
	Outdated(c Credential) bool
}

// A Place is where consumers read a credential, if that is not the record. Publishing there
// is a call of its own, whose intent is durable before it.
type Place struct {
	// Fields are what consumers read of a credential, by the name that they read it by.
	Fields func(c Credential) map[string]secret.Value
	// Publish writes p once, however often it is asked to. A place that has another version
	// than p.CAS is a Conflict.
	Publish func(ctx context.Context, p Publication) (version int, err error)
	// Read returns what consumers read now; nil if there is nothing.
	Read func(ctx context.Context) (*Published, error)
	// Credential is the inverse of Fields, but for the ID, which it does not know.
	Credential func(fields map[string]secret.Value) Credential
	// Versions are all that the place has held and that is still there, the newest first. nil: it
	// keeps none.
	Versions func(ctx context.Context) ([]Published, error)
}

// A Publication is one write of a credential where its consumers read it.
type Publication struct {
	ID     string // the same for repeated calls, and for no two rotations
	Fields map[string]secret.Value
	Asked  time.Time
	Next   time.Time // of the next rotation, absolute; zero: none is planned
	// NewID and OldID are of the credential that consumers read from now on, and of the one
	// before; RetireAfter is when that one is retired, zero if there is none.
	NewID, OldID string
	RetireAfter  time.Time
	CAS          int // the version that is current
	// Along joins the write, on absolute keys: a server that was suspended publishes nothing that
	// others have gone on from.
	Along []storage.Op
}

// Published is what consumers read, or have read.
type Published struct {
	Version int
	At      time.Time // when it was written
	ID      string    // of the publication that wrote it; "" if somebody else has written it
	Deleted bool      // consumers do not read it, but it is still there
	Fields  map[string]secret.Value
}

// A Joiner is a target with rows of its own that must change in the commit by which a
// credential becomes the current one.
type Joiner interface {
	// Join returns these operations, relative to the mount's store, for the record as it is about
	// to be stored. It may change the record's Data. The secrets are those of before and after.
	Join(ctx context.Context, r *Record, s *Secrets) ([]storage.Op, error)
}

// Timing is when a credential is rotated and how long the one before it lives on.
type Timing struct {
	When cron.When

	Grace   time.Duration // how long the old credential lives on, with the time that readers sleep
	Idle    time.Duration // how long it must be unused to be retired, where the provider tells
	MaxHold time.Duration // how long its use keeps it alive before a person is called
	Rest    time.Duration // how long it is disabled, and can be enabled again, until it is deleted
	// Sleep is how long after publishing a reader may still use the old value without having been
	// able to read the new one.
	Sleep time.Duration
}

// Hold is how long an old credential lives on after the new one was published. One that leaked
// does not.
func (t Timing) Hold(leaked bool) time.Duration {
	if leaked {
		return 0
	}
	return max(t.Grace, t.Sleep)
}

// Asleep is how much of Sleep is left after publishing at published; a zero published means that
// it is still to come.
func (t Timing) Asleep(published, now time.Time) time.Duration {
	if published.IsZero() {
		return t.Sleep
	}
	return max(t.Sleep-now.Sub(published), 0)
}
