package mounts

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// An Open mount is a mount with its engine or login method.
type Open struct {
	entry   atomic.Pointer[mount.Entry]
	def     time.Duration
	max     time.Duration
	options map[string]string // those it was opened with
	Engine  engine.Engine     // nil for login methods and sys
	Table   *route.Table
	close   func() error

	// Optional interfaces of the engine, discovered once; nil: not implemented.
	Undoer    engine.Undoer
	Worker    engine.Worker
	Versioned engine.Versioned
	Rotator   engine.Rotator
	Publisher engine.Publisher
	Keeper    engine.Keeper
	Aged      engine.Aged
}

// Entry returns the mount's current record.
func (o *Open) Entry() *mount.Entry { return o.entry.Load() }

// DefaultTTL is the mount's or, if it is not set, the system's.
func (o *Open) DefaultTTL() time.Duration {
	if d := o.Entry().Tune.DefaultTTL; d > 0 {
		return d
	}
	return min(o.def, o.MaxTTL())
}

// MaxTTL is the mount's or, if it is not set, the system's.
func (o *Open) MaxTTL() time.Duration {
	if d := o.Entry().Tune.MaxTTL; d > 0 {
		return d
	}
	return o.max
}

// A Snapshot is an immutable view of all mounts.
type Snapshot struct {
	Table *mount.Table
	open  map[string]*Open // by uuid
}

// Route returns the open mount that serves a path, or nil.
func (s *Snapshot) Route(path string) *Open {
	if e := s.Table.Find(path); e != nil {
		return s.open[e.UUID]
	}
	return nil
}

// ByUUID returns an open mount, which may be a tombstone, or nil.
func (s *Snapshot) ByUUID(uuid string) *Open { return s.open[uuid] }

// Rotators returns the open mounts whose engines rotate keys, sorted by path.
func (s *Snapshot) Rotators() []*Open {
	return s.sorted(func(o *Open) bool { return o.Rotator != nil })
}

// Aged returns the open mounts with an index of when secrets are rotated, sorted by path.
func (s *Snapshot) Aged() []*Open { return s.sorted(func(o *Open) bool { return o.Aged != nil }) }

// sorted returns the open mounts that f accepts, sorted by path.
func (s *Snapshot) sorted(f func(o *Open) bool) (all []*Open) {
	for _, o := range s.open {
		if f(o) && o.Entry().Gone.IsZero() {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *Open) int { return strings.Compare(a.Entry().Path, b.Entry().Path) })
	return all
}

// Tallies returns a tally for each mount that rotates. Together they list at most limit records.
func (s *Snapshot) Tallies(ctx context.Context, limit int) (all []engine.Tally) {
	for _, o := range s.Rotators() {
		all = append(all, o.Rotator.Rotations().Tally(ctx, limit))
	}
	rotate.Limit(all, limit)
	return all
}

// Types are the engines and login methods that can be mounted.
type Types struct {
	Engines []engine.Type
	Auths   []auth.Type
}

// Has reports whether there is an engine of this name.
func (t Types) Has(name string) bool { return t.engine(name) != nil }

// engine returns the engine with a name or former name; nil: there is none.
func (t Types) engine(name string) *engine.Type {
	i := slices.IndexFunc(t.Engines,
		func(e engine.Type) bool { return e.Name == name || slices.Contains(e.Aliases, name) })
	if i < 0 {
		return nil
	}
	return &t.Engines[i]
}

// An Engine is a secrets engine of a new installation.
type Engine = mount.Entry

// Bounds are the TTLs of a login method's mount, see [Open.DefaultTTL] and [Open.MaxTTL].
type Bounds struct{ DefaultTTL, MaxTTL time.Duration }

// BuiltinVersion is the version that a built-in engine reports. It is the one in the recorded
// answers of the reference server. Clients only show it.
const BuiltinVersion = "v2.0.0+builtin.bao"

// The classes of mounts, for callers that do not import mount.
const (
	ClassSecret = mount.ClassSecret
	ClassAuth   = mount.ClassAuth
)

// builtin are the mounts that every server has.
var builtin = []mount.Entry{
	{
		Path: "sys/", Class: ClassSecret, Type: "system",
		Description: "system endpoints used for control, policy and debugging",
	},
	{
		Path: "cubbyhole/", Class: ClassSecret, Type: "cubbyhole", Description: "per-token private secret storage",
		Local: true,
	},
	{Path: "auth/token/", Class: ClassAuth, Type: "token", Description: "token based credentials"},
}
