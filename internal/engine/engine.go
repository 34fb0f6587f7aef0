// Package engine is the contract between core and a secrets engine: a mount
// that serves routes, undoes what its leases created, and does its own due
// work. Implementations are subfolders; each exports one [Type].
//
// Invariants an engine keeps:
//   - Nothing exists outside that the store cannot undo: an engine makes things outside
//     only in the create half of a leased route, or after an intent of its own
//     is durable, with a due item scheduled in the same commit.
//   - Undo is repeatable: what is gone is undone.
//   - It holds no goroutine that outlives the context given to Open.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// A Type is a kind of engine.
type Type struct {
	Name string // "kv"
	// Aliases are old names, by which it can be mounted, too. A mount shows the name
	// that it was mounted by.
	Aliases []string
	// Single: mounted once, by core, and not by users (cubbyhole).
	Single bool
	// Options judges what the options of a mount are about to become, before anything is
	// stored: was are those of now, none for a new mount. Where they change, the engine is opened
	// again, and requests go to the new one at once. nil: the engine reads no options.
	Options func(was, want map[string]string) (Options, error)
	// Open starts an engine for one mount. ctx ends when the mount is
	// disabled or the server is sealed. It must not do work that grows with
	// what is stored.
	Open func(ctx context.Context, m *Mount) (Engine, error)
}

// Options are what an engine makes of the options that a mount is to have.
type Options struct {
	// Stored is all of them, as they are kept and shown. An engine adds none that nobody wrote,
	// because clients that compare what they wrote with what they read would never settle.
	Stored   map[string]string
	Warnings []string
	// Along joins the commit that stores them: operations on the engine's own keys, relative to its
	// store. An engine that was opened with the options of before – requests are under way, and
	// another server learns of the change later – can assert them in its own commits.
	Along []storage.Op
}

// A Mount is all that an engine is given of the world.
type Mount struct {
	UUID     string
	Accessor string
	Type     string
	Store    *barrier.View // encrypted, rooted at mount/<uuid>/
	Log      *slog.Logger
	Host     Host
	// Settings returns what tuning or moving may change, as it is now.
	Settings func() Settings
}

// Rotations is what the [rotate.Manager] of the mount is given of the world.
func (m *Mount) Rotations() rotate.Config {
	h := m.Host
	return rotate.Config{
		Store: m.Store, Log: m.Log, Installation: h.Installation, Mount: func() string { return m.Settings().Path },
		Schedule: h.Schedule, ClockHeld: h.ClockHeld,
		Event: func(kind string, details map[string]string) storage.Op { return h.Event(kind, Details(details)...) },
		Audited: func(ctx context.Context, a rotate.Action, act func(ctx context.Context) error) error {
			return h.Audited(ctx, Automatic{Operation: "rotate", Path: a.Path, Detail: a.Detail, Takes: a.Takes}, act)
		},
	}
}

// Settings of a mount that can change while it is open.
type Settings struct {
	Path       string // ends in a slash
	Options    map[string]string
	DefaultTTL time.Duration // effective: the mount's, else the system's
	MaxTTL     time.Duration
}

// A Host is what core lends to every engine. Its functions are safe for
// concurrent use.
type Host struct {
	Installation string // the id in every generated name and marker

	// Schedule returns the operations that move the engine's due item (kind, id) from one
	// time to another, to be committed with [barrier.View.Commit] as absolute
	// operations in the same batch as the data. A zero from means that there is
	// none yet, a zero to that it is to be dropped. When it falls due, Work is
	// called; the item stays until the engine moves or drops it, and Work is called again
	// with back-off while it returns an error.
	Schedule func(kind, id string, from, to time.Time) []storage.Op

	// Event returns the operation that records an event for users, in the
	// same commit as what it tells. No detail may be secret.
	Event func(kind string, details ...Detail) storage.Op

	// Guard returns the assertion that a token, by its id, is as it is stored now; it
	// is Denied where it has ended. What is kept for a token is committed with it, lest
	// it outlive the token.
	Guard func(ctx context.Context, tokenID string) ([]storage.Op, error)

	// Dial is the one way out. It refuses loopback, link-local and metadata
	// addresses unless the operator allows them.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Files reads the files of this machine that a client may name: those in the folders
	// that the operator has listed. Engines read no others.
	Files hostfile.Folders

	// ClockHeld says that the clock is not trusted; work is held while it is not.
	ClockHeld func() bool

	// Password generates one by the named password policy, "" being the default.
	Password func(ctx context.Context, policy string) (secret.Value, error)

	// LeaseCount tells how many leases of this mount name the target, up to
	// the given limit: a connection lives as a tombstone until the last ends.
	LeaseCount func(ctx context.Context, target string, limit int) (int, error)

	// Reserve returns the operations by which a record of the mount becomes the only one, of all mounts, that publishes to some
	// places. They are committed with the record as absolute operations. A place that another record has is a Conflict.
	Reserve func(ctx context.Context, r Reservation) ([]storage.Op, error)
	// MayPublish is Denied where the named policies, those of the caller who configures what will publish to a KV path, do not
	// allow to write it. It is asked before anything is stored or told about the path: else a caller who may only configure could
	// reserve a path that is not theirs.
	MayPublish func(ctx context.Context, policies []string, path string) error
	// Publish writes fields to a KV path as the principal did configure it.
	Publish func(ctx context.Context, p Publication) (version int, err error)
	// Published reads back the system part of what is published at a path.
	Published func(ctx context.Context, p Publication) (*Published, error)
	// Versions are all that a path has held and that is still there, the newest first.
	Versions func(ctx context.Context, path string) ([]Published, error)
	// Overwrite tells those that publish to a path of a client's write before it is stored, and
	// lets them judge it. commit stores the write with their operations on absolute keys; it is
	// called once at most, and its error is returned as it is. An error of theirs refuses the
	// write.
	Overwrite func(ctx context.Context, o Overwrite, commit func(along []storage.Op) error) error
	// Rotating are where all records of the server stand, whichever engine rotates them, as far as a holder of these policies may read
	// each of them.
	Rotating func(ctx context.Context, policies []string) iter.Seq2[Rotating, error]
	// Audited runs an automatic action of the engine's between the two lines
	// of its audit entry, fail closed: without the first line act is not called.
	Audited func(ctx context.Context, a Automatic, act func(ctx context.Context) error) error
}

// A Detail is a named text of an event.
type Detail struct{ Name, Value string }

// Details are those of a map, by name.
func Details(all map[string]string) []Detail {
	out := make([]Detail, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, Detail{name, all[name]})
	}
	return out
}

// A Publication is one write of a rotated credential to a KV v2 path, made
// once however often it is asked for.
type Publication struct {
	Turn     string // idempotency: the same turn is written once
	Key      string // the rotation key's name
	Path     string // full path of the secret: "static/stripe/production"
	Policies []string
	Fields   map[string]secret.Value // merged over what is there
	Plain    map[string]string       // rotated_at, next_rotation: in the data, not secret
	Custom   map[string]string       // custom metadata: key_id, previous_key_id, retire_after
	Period   time.Duration
	Next     time.Time // absolute; zero: no next turn is planned
	ReadTTL  time.Duration
	// CAS is the version that must be current; -1 for any.
	CAS int
	// Along joins the commit, on absolute keys.
	Along []storage.Op
}

// A Place is one field of a secret to which something is published.
type Place struct{ Path, Field string }

// A Reservation says which places a record publishes to.
type Reservation struct {
	Record    string // its key in the mount's store; places count as long as it is there
	Name      string // for people: "keys/stripe"
	Had, Want []Place
}

// Published is what a KV path holds of a rotation.
type Published struct {
	Version int
	At      time.Time // when it was written
	Turn    string
	Key     string // with Turn: the rotation key's name
	Deleted bool   // nobody reads it, but it can be undeleted
	Fields  map[string]secret.Value
}

// An Overwrite is a client's write of a secret that changes what consumers read of published credentials.
type Overwrite struct {
	Path    string                  // full path of the secret
	Version int                     // the newest version, once it is written
	Changed []string                // fields that are published, or may be, and that change
	Fields  map[string]secret.Value // all that consumers will read as text
	Empties bool                    // consumers will read nothing, because it is deleted
	Remedy  string                  // with Empties: the command by which they read something again; "": there is none
	By      string                  // display name of the client
	Of      []string                // its policies
	Shown   bool                    // they allow to read the record that is told, so that answers may name it
	Force   bool                    // a value that cannot be right is written nevertheless
	// Custom is called before the write is stored, with what its judgement knows of it; values replace those of the secret's custom metadata.
	Custom func(values map[string]string)
	Warn   func(format string, args ...any)
}

// Automatic names what the server does by itself, for the audit log.
type Automatic struct {
	Operation string // "rotate", "renew"
	Path      string // full path it concerns: "rotation/keys/stripe"
	Detail    map[string]string
	// Takes: the action only takes access away. It goes on while no audit
	// device writes, and its lines are owed.
	Takes bool
}

// An Engine serves one mount.
type Engine interface {
	// Routes is called once, after Open.
	Routes() []route.Route
	Close() error
}

// An Undo is one lease, or one reservation that never became a lease, whose
// effect is to be taken back.
type Undo struct {
	LeaseID string
	Attempt string // the id that create was given
	Kind    string
	Target  string
	Data    json.RawMessage // Plan.Undo
	// Granted: create is known to have succeeded. If not, a late effect may still come
	// until Late.
	Granted bool
	Late    time.Time
	Force   bool
}

// Undone is what an undo has to tell.
type Undone struct {
	// Again asks to be called again at this time, because a late create may
	// still come; zero: the object is gone for good.
	Again time.Time
	// Note is shown by the lease's lookup and in the log: what was unusual.
	Note string
}

// errLeaseOnly marks errors of Undo that concern one lease.
var errLeaseOnly = errors.New("of this lease alone")

// LeaseOnly says of an error of Undo that its cause is this lease's own: the target
// answers, or was never asked. The lease is tried again later by itself; an error without
// the mark is the target's, and pauses all that is to be undone there.
func LeaseOnly(err error) error {
	if err == nil {
		return nil
	}
	return leaseOnly{err}
}

// IsLeaseOnly reports whether an error was marked by [LeaseOnly].
func IsLeaseOnly(err error) bool { return errors.Is(err, errLeaseOnly) }

// leaseOnly carries the mark without changing text or kind.
type leaseOnly struct{ err error }

func (e leaseOnly) Error() string { return e.err.Error() }
func (e leaseOnly) Unwrap() error { return e.err }

func (leaseOnly) Is(target error) bool { return target == errLeaseOnly }

// An Undoer is an engine with leases.
type Undoer interface {
	// Undo takes back what a lease created. It succeeds where there is
	// nothing. An error is retried for days with slow back-off; whether others of
	// the same target wait meanwhile, [LeaseOnly] decides.
	Undo(ctx context.Context, u Undo) (Undone, error)
	// Renew makes what the lease created live until expires. It is called before the
	// new time is committed and may be called again.
	Renew(ctx context.Context, u Undo, expires time.Time) error
	// Bounds returns the TTL bounds that the role of a lease has now; zero
	// durations where it has none.
	Bounds(ctx context.Context, u Undo) (ttl, max time.Duration, err error)
}

// A Worker is an engine with due work of its own.
type Worker interface {
	// Work does what fell due. On success it has moved or dropped the item in
	// a commit of its own; the same item may be given again, never two at once.
	Work(ctx context.Context, kind, id string) error
}

// A Keeper is an engine that may have something under way outside that nobody would end once its mount is gone.
type Keeper interface {
	// Unfinished returns an error that names it and says what to do first; nil if nothing is
	// under way. It is asked before a mount is disabled, unless that is forced.
	Unfinished(ctx context.Context) error
}

// A Rotator is an engine with records of [rotate].
type Rotator interface {
	// Rotations is what rotates them.
	Rotations() *rotate.Manager
}

// A Publisher is an engine whose records publish to KV paths.
type Publisher interface {
	// Overwritten judges a client's write to places that a record has reserved, by its key in the mount's store, and
	// calls commit, as [Host.Overwrite] says. It waits seconds for a provider, not minutes.
	Overwritten(ctx context.Context, record string, o Overwrite, commit func(along []storage.Op) error) error
}

// Rotating is where one record stands, a Tally where all of a mount do.
type (
	Rotating = rotate.Status
	Tally    = rotate.Tally
)

// A Versioned engine is one that core can publish to (kv, version 2).
type Versioned interface {
	Publish(ctx context.Context, rest string, p Publication) (version int, err error)
	Published(ctx context.Context, rest string) (*Published, error)
	// Versions are all that a path has held and that is still there, the newest first.
	Versions(ctx context.Context, rest string) ([]Published, error)
	// Mark returns operations on absolute keys that note which fields of a path a record holds
	// from now on, and which it gives up. They join the record's commit. A client's write that
	// changes a field so marked calls [Host.Overwrite].
	Mark(ctx context.Context, rest string, hold, giveUp []string) ([]storage.Op, error)
}

// Hints ride on the answers to reads of a managed path; unmodified agents
// re-read by them. Both are at least one second.
type Hints struct {
	RotationPeriod time.Duration `json:"rotation_period"`
	TTL            time.Duration `json:"ttl"`
}

// Raw is JSON of a user's, kept as bytes.
type Raw = wire.Raw
