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
	"github.com/keyturn/keyturn/internal/fault"
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
	// Aliases are former names that it can also be mounted by. A mount shows the name that it was
	// mounted by.
	Aliases []string
	// Single: only core mounts it, once (cubbyhole).
	Single bool
	// Inherits: what is published at a path goes on to the next mount of this engine there, see
	// [Settings].
	Inherits bool
	// Options checks the new options of a mount before they are stored. was are the current ones,
	// empty for a new mount. If they change, the engine is reopened, and requests go to the new
	// one at once. nil: the engine has no options.
	Options func(was, want map[string]string) (Options, error)
	// Open starts an engine for one mount. ctx ends when the mount is
	// disabled or the server is sealed. It must not do work that grows with
	// what is stored.
	Open func(ctx context.Context, m *Mount) (Engine, error)
}

// Options are the result of checking the options of a mount.
type Options struct {
	// Stored are the options to store and show. An engine adds none, because clients that compare
	// what they wrote with what they read would see a difference forever.
	Stored   map[string]string
	Warnings []string
	// Along are operations for the same commit, on keys relative to the engine's store. Engines
	// that are still open with the previous options, for running requests or on other servers, can
	// assert these keys in their commits.
	Along []storage.Op
}

// Rows are [barrier.Rows].
type Rows[T any] = barrier.Rows[T]

// A Mount contains everything that core provides to an engine.
type Mount struct {
	UUID     string
	Accessor string
	Type     string
	Store    *barrier.View // encrypted, rooted at mount/<uuid>/
	Log      *slog.Logger
	Host     Host
	// Settings returns the current settings, which tuning and moving change.
	Settings func() Settings
}

// Rotations returns the configuration of the mount's [rotate.Manager].
func (m *Mount) Rotations() rotate.Config {
	h := m.Host
	return rotate.Config{
		Store: m.Store, Log: m.Log, Installation: h.Installation, Mount: func() string { return m.Settings().Path },
		Schedule: h.Schedule, ClockHeld: h.ClockHeld,
		Event: func(kind string, details map[string]string) storage.Op { return h.Event(kind, Details(details)...) },
		Audited: func(ctx context.Context, a rotate.Action, act func(ctx context.Context) error) error {
			return h.Audited(ctx, Automatic{Operation: "rotate", Path: a.Path, Detail: a.Detail, Takes: a.OnlyRevokes},
				act)
		},
	}
}

// Settings of a mount that can change while it is open.
type Settings struct {
	Path       string // ends in a slash
	Options    map[string]string
	DefaultTTL time.Duration // effective: the mount's, else the system's
	MaxTTL     time.Duration
	// Inherits: when the mount came to its path, records published below it already, to a mount
	// that was there before. No [Versioned.Mark] says which fields they hold here: any field may
	// be one.
	Inherits bool
}

// A Host contains the services of core for an engine. Its functions are safe for concurrent use.
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

	// Guard returns the assertion that a token, by its ID, is unchanged; the error is Denied if
	// the token has ended. Data that belongs to a token is committed with it, so that it cannot
	// outlive the token.
	Guard func(ctx context.Context, tokenID string) ([]storage.Op, error)

	// Dial makes all outgoing connections. It refuses loopback, link-local and metadata addresses
	// unless the operator allows them.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Files reads files of this machine that a client names, in the folders that the operator has
	// listed. Engines must not read others.
	Files hostfile.Folders

	// ClockHeld reports that the clock has jumped; engines must not start due work while it has.
	ClockHeld func() bool

	// Password generates a password by the named policy; "" is the default.
	Password func(ctx context.Context, policy string) (secret.Value, error)

	// LeaseCount counts the leases of a target, up to limit, because a connection stays as a
	// tombstone until the last one ends.
	LeaseCount func(ctx context.Context, target string, limit int) (int, error)

	// Reserve returns the operations by which a record of the mount becomes the only one, of all
	// mounts, that publishes to some places. They are committed with the record as absolute
	// operations. A place that another record has is a Conflict.
	Reserve func(ctx context.Context, r Reservation) ([]storage.Op, error)
	// MayPublish is Denied where the named policies, those of the caller who configures what will
	// publish to a KV path, do not allow to write it. It is asked before anything is stored or
	// told about the path: else a caller who may only configure could reserve a path that is not
	// theirs.
	MayPublish func(ctx context.Context, policies []string, path string) error
	// MayRead is Denied where the named policies do not allow to read a secret.
	MayRead func(ctx context.Context, policies []string, path string) error
	// Publish writes fields to a KV path as the principal did configure it.
	Publish func(ctx context.Context, p Publication) (version int, err error)
	// Published reads the metadata of the publication at a path.
	Published func(ctx context.Context, p Publication) (*Published, error)
	// Versions returns the existing versions at a path, newest first.
	Versions func(ctx context.Context, path string) ([]Published, error)
	// Overwrite lets the publishers of a path check a client's write before it is stored. commit
	// stores the write with their operations, on absolute keys; it is called at most once, and its
	// error is returned unchanged. An error of a publisher refuses the write.
	Overwrite func(ctx context.Context, o Overwrite, commit func(along []storage.Op) error) error
	// Rotating yields the rotation status of every record, of all engines, that the policies allow
	// to read.
	Rotating func(ctx context.Context, policies []string) iter.Seq2[Rotating, error]
	// Compliance lists the secrets of all engines whose rotation is late.
	Compliance func(ctx context.Context, q ComplianceQuery) (*Compliance, error)
	// Audited runs an action of the engine between the two lines of its audit entry. If the first
	// line cannot be written, it does not call act; see [Automatic.Takes] for the exception.
	Audited func(ctx context.Context, a Automatic, act func(ctx context.Context) error) error
}

// A Detail is a named text of an event.
type Detail struct{ Name, Value string }

// Details returns the details in a map, sorted by name.
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
	Turn     string // ID of the rotation, which is written only once
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

// A Place is a field of a secret that a record publishes to.
type Place struct{ Path, Field string }

// A Reservation says which places a record publishes to.
type Reservation struct {
	Record    string // its key in the mount's store; places count as long as it is there
	Name      string // shown to users: "keys/stripe"
	Had, Want []Place
}

// Published describes a publication at a KV path.
type Published struct {
	Version int
	At      time.Time // when it was written
	Turn    string
	Key     string // with Turn: the rotation key's name
	Deleted bool   // cannot be read, but can be undeleted
	Fields  map[string]secret.Value
}

// An Overwrite is a client's write that changes published credentials.
type Overwrite struct {
	Path    string                  // full path of the secret
	Version int                     // the newest version, after the write
	Changed []string                // changed fields that are published, or may be
	Fields  map[string]secret.Value // text fields that consumers will read
	Empties bool                    // consumers will read nothing, because the secret is deleted
	Remedy  string                  // with Empties: the command by which they read something again; "": there is none
	By      string                  // display name of the client
	Of      []string                // its policies
	Shown   bool                    // they allow to read the record that is told, so that answers may name it
	Force   bool                    // a value that cannot be right is written anyway
	// Custom is called before the write is stored, with what its judgement knows of it; values
	// replace those of the secret's custom metadata.
	Custom func(values map[string]string)
	Warn   func(format string, args ...any)
}

// An Automatic describes an action of the server itself, for the audit log.
type Automatic struct {
	Operation string // "rotate", "renew"
	Path      string // full path it concerns: "rotation/keys/stripe"
	Detail    map[string]string
	// Takes: the action only revokes access. It is done even if no audit device works, and its
	// lines are written later.
	Takes bool
}

// An Engine serves one mount.
type Engine interface {
	// Routes is called once, after Open.
	Routes() []route.Route
	Close() error
}

// An Undo is one lease, or one reservation that never became a lease, to be undone.
type Undo struct {
	LeaseID string
	Attempt string // ID of the create attempt
	Kind    string
	Target  string
	Data    json.RawMessage // Plan.Undo
	// Granted: create has succeeded. If not, it may still take effect until Late.
	Granted bool
	Late    time.Time
	Force   bool
}

// Undone is the result of an undo.
type Undone struct {
	// Again is when to call Undo again, because a late create may still take effect; zero: the
	// object is gone for good.
	Again time.Time
	// Note is shown by the lease's lookup and in the log: what was unusual.
	Note string
}

// errLeaseOnly marks errors of Undo that concern one lease.
var errLeaseOnly = errors.New("of this lease alone")

// LeaseOnly marks an error of Undo that concerns only this lease, because the target answers or
// was not called. Only this lease is retried later. An error without the mark concerns the target,
// and pauses all undos of the target.
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

// RoutesOf returns the routes of an opened engine. An engine that issues leases must be an
// [Undoer], because otherwise nothing could revoke them; the error is [fault.Internal].
func RoutesOf(e Engine) ([]route.Route, error) {
	routes := e.Routes()
	_, undoes := e.(Undoer)
	for i := range routes {
		if routes[i].Leased() && !undoes {
			return nil, fault.New("engine.RoutesOf", fault.Internal,
				"the route %s issues leases, and its engine has no Undo to revoke them", routes[i].Pattern)
		}
	}
	return routes, nil
}

// An Undoer is an engine with leases.
type Undoer interface {
	// Undo revokes what a lease created. It succeeds if that does not exist. An error is retried
	// with back-off; [LeaseOnly] decides whether other leases of the target wait meanwhile.
	Undo(ctx context.Context, u Undo) (Undone, error)
	// Renew makes what the lease created valid until expires. It is called before the new time is
	// committed, and must be repeatable.
	Renew(ctx context.Context, u Undo, expires time.Time) error
	// Bounds returns the current TTL limits of the lease's role; zero: none.
	Bounds(ctx context.Context, u Undo) (ttl, max time.Duration, err error)
}

// A Worker is an engine that schedules work.
type Worker interface {
	// Work does the work of a due item. On success, it has moved or removed the item in its own
	// commit. It may be called again for the same item, but never twice at the same time.
	Work(ctx context.Context, kind, id string) error
}

// A Keeper is an engine that may have unfinished work outside, which nothing would finish without
// its mount.
type Keeper interface {
	// Unfinished returns an error that names the unfinished work and says what to do; nil: there
	// is none. It is called before a mount is disabled, unless that is forced.
	Unfinished(ctx context.Context) error
}

// A Rotator is an engine with records of [rotate].
type Rotator interface {
	// Rotations is what rotates them.
	Rotations() *rotate.Manager
}

// A Publisher is an engine whose records publish to KV paths.
type Publisher interface {
	// Overwritten checks a client's write to the places of a record, given by its key in the
	// mount's store, and calls commit; see [Host.Overwrite]. It waits seconds for a provider, not
	// minutes.
	Overwritten(ctx context.Context, record string, o Overwrite, commit func(along []storage.Op) error) error
	// Reserved are the records of the mount with the places that each has, as Had. Those that
	// cannot be read are left out.
	Reserved(ctx context.Context) iter.Seq2[Reservation, error]
}

// Rotating is the rotation status of one record, a Tally that of all records of a mount.
type (
	Rotating = rotate.Status
	Tally    = rotate.Tally
)

// A Versioned engine is one that core can publish to (kv, version 2).
type Versioned interface {
	Publish(ctx context.Context, rest string, p Publication) (version int, err error)
	Published(ctx context.Context, rest string) (*Published, error)
	// Versions returns the existing versions at a path, newest first.
	Versions(ctx context.Context, rest string) ([]Published, error)
	// Mark returns operations on absolute keys, for the record's commit, that note which fields of
	// a path a record publishes from now on, and which it no longer does. A client's write that
	// changes a published field calls [Host.Overwrite].
	Mark(ctx context.Context, rest string, published, released []string) ([]storage.Op, error)
}

// Hints ride on the answers to reads of a managed path; unmodified agents
// re-read by them. Both are at least one second.
type Hints struct {
	RotationPeriod time.Duration `json:"rotation_period"`
	TTL            time.Duration `json:"ttl"`
}

// Raw is a user's JSON, kept as bytes.
type Raw = wire.Raw
