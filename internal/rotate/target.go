package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Target is one credential at its provider. The engine opens it from its configuration. Opening
// does no I/O and a target needs no closing, so each step opens its own.
//
// A target is a [Creator] or a [Setter], as its kind's style says. Each further ability is a
// small interface: [Lister], [UsageReporter], [Disabler], [Outdater] and [Joiner]. Capabilities
// says which calls are worth making.
//
// Every call honours its context. Every error is, or wraps, a [Failure], whose text has passed
// the redactor that the target was opened with.
type Target interface {
	Capabilities() Capabilities

	// Settle says how Verify is repeated before a new credential is published.
	Settle() Settle

	// Place returns where consumers read the credential. nil means that they read the record
	// itself.
	Place() *Place

	// Verify verifies that the credential works as its user would use it, or less, as
	// Capabilities.Proof says. The outcome is Rejected if the provider refuses the credential.
	// Shortly after creation, that may only mean that the provider's replicas have not caught up.
	// With Proof "none", Verify succeeds and proves nothing.
	Verify(ctx context.Context, c Credential) error

	// VerifyDead verifies that the provider refuses the credential. VerifyDead returns nil only
	// after a refusal. The outcome is Alive if the credential still works, and Transient or
	// Permanent if the question stays open. With Proof "none" it is Permanent. VerifyDead is
	// never called for a Setter, because setting a new secret ends the old one.
	VerifyDead(ctx context.Context, c Credential) error
}

// A Creator is a target whose old and new credentials work side by side.
type Creator interface {
	// Create creates one credential and labels it with o.Marker if the provider has labels.
	// Create sends the provider's creating request at most once. Create is not repeatable: after
	// an Unknown outcome the caller does what Capabilities.Retry says.
	Create(ctx context.Context, o Order) (Credential, error)

	// Retire removes a credential for good. Retiring a credential that is gone succeeds, so the
	// caller repeats the call after an Unknown outcome.
	Retire(ctx context.Context, id string) error
}

// A Lister is a target whose provider lists credentials.
type Lister interface {
	// List returns all credentials that the provider shows, ours or not. List returns an error
	// rather than a part of them.
	List(ctx context.Context) ([]Listed, error)
}

// A UsageReporter is a target whose provider reports when a credential was last used.
type UsageReporter interface {
	// LastUsed returns when a credential was last used, or the zero time if the provider knows of
	// no use. A use can delay a retirement; the absence of a use proves nothing.
	LastUsed(ctx context.Context, id string) (time.Time, error)
}

// A Disabler is a target whose credentials can be disabled and enabled again.
type Disabler interface {
	// Disable makes a credential unusable. Disabling a credential that is disabled or gone
	// succeeds.
	Disable(ctx context.Context, id string) error
}

// A Setter is a target whose credential changes in place: the account stays, and its secret is
// replaced.
type Setter interface {
	// Generate makes a new secret for the account that is next, without calling the provider. The
	// credential's ID differs from those of all credentials in the record's secrets.
	Generate(ctx context.Context) (Credential, error)

	// Set makes the provider accept to instead of from. from is the zero value if it is not
	// known. Setting the secret that is already set changes nothing: the call succeeds, or is
	// refused if the call authenticates with from. After an Unknown outcome, Verify shows which
	// secret is in force.
	Set(ctx context.Context, from, to Credential) error
}

// An Outdater is a Setter that may point to another server than the one that a credential was
// made for.
type Outdater interface {
	// Outdated reports whether c was made for another server. Such a credential is neither tried
	// nor set.
	Outdated(c Credential) bool
}

// A Place is where consumers read a credential, if they do not read the record. Publishing to a
// place is a call of its own, whose intent is durable before the call.
type Place struct {
	// Fields returns what consumers read of a credential, by the field names that they read.
	Fields func(c Credential) map[string]secret.Value
	// Publish writes p once, even if it is called repeatedly. Publish fails with Conflict if the
	// place has another version than p.CAS.
	Publish func(ctx context.Context, p Publication) (version int, err error)
	// Read returns what consumers read now, or nil if there is nothing.
	Read func(ctx context.Context) (*Published, error)
	// Credential is the inverse of Fields, except for the ID.
	Credential func(fields map[string]secret.Value) Credential
	// Wrong says why fields that somebody writes to the place cannot hold a credential; "": they
	// can. nil means that only the provider decides.
	Wrong func(fields map[string]secret.Value) string
	// Versions returns all versions that the place still holds, the newest first. nil means that
	// the place keeps no versions.
	Versions func(ctx context.Context) ([]Published, error)
}

// A Publication is one write of a credential to the place where consumers read it.
type Publication struct {
	ID         string // the same for repeated calls, and for no two rotations
	Fields     map[string]secret.Value
	IntendedAt time.Time
	Next       time.Time // of the next rotation, absolute; zero: none is planned
	// NewID is the ID of the credential that consumers read from now on. OldID is the ID of the
	// one before. RetireAfter is when the old one is retired; zero if there is none.
	NewID, OldID string
	RetireAfter  time.Time
	CAS          int // the version that is current
	// Along joins the write, on absolute keys. With these operations, the write of a server that
	// resumes after a suspension fails if others have driven the record on.
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

// A Joiner is a target with rows of its own that must change in the commit that makes a
// credential the current one.
type Joiner interface {
	// Join returns the operations for those rows, relative to the mount's store, for the record
	// as it is about to be stored. Join may change the record's Data. s holds the secrets of both
	// the old and the new credential.
	Join(ctx context.Context, r *Record, s *Secrets) ([]storage.Op, error)
}

// Timing says when a credential is rotated and how long the old one is kept.
type Timing struct {
	When cron.When

	Grace        time.Duration // how long the old credential stays valid, including the time that readers sleep
	Idle         time.Duration // how long it must be unused before it is retired, where the provider reports uses
	MaxHold      time.Duration // how long uses delay its retirement before a person is alerted
	DisabledWait time.Duration // how long it stays disabled, and can be enabled again, before it is deleted
	// Sleep is how long after publishing a reader may still use the old value without a chance to
	// read the new one.
	Sleep time.Duration
}

// Hold returns how long an old credential is kept after the new one was published. A leaked
// credential is not kept.
func (t Timing) Hold(leaked bool) time.Duration {
	if leaked {
		return 0
	}
	return max(t.Grace, t.Sleep)
}

// Asleep returns how much of Sleep is left after publishing at published. A zero published means
// that publishing is still to come.
func (t Timing) Asleep(published, now time.Time) time.Duration {
	if published.IsZero() {
		return t.Sleep
	}
	return max(t.Sleep-now.Sub(published), 0)
}
