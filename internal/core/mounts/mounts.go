// Package mounts opens, changes and closes what is mounted. It is the part of core
// that owns the table of mounts and the engines and login methods behind it.
//
// Requests read an immutable [Snapshot]; changes are made one at a time: a
// record is committed, then the engine is opened, then the snapshot swapped. What another
// server of the same store changes, [Manager.Follow] brings into the snapshot; that takes a moment, so that whatever
// counts asserts the mount's record, or what the engine committed with it, in its own commit.
package mounts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// Config of a [Manager].
type Config struct {
	Barrier *barrier.Barrier
	Types
	Log *slog.Logger
	// DefaultTTL and MaxTTL are the system's.
	DefaultTTL, MaxTTL time.Duration
}

// Services are what the server provides to the engines and login methods that it opens.
type Services struct {
	// Host returns the services for the engine of the mount with this UUID.
	Host func(uuid string) engine.Host
	// Login methods get these; see [auth.Mount].
	Tokens     *token.Store
	Issue      func(ctx context.Context, r *route.Request, b Bounds, spec token.Entry, ask token.Ask, parent *token.Entry) (*route.Auth, error)
	RevokeWait func(ctx context.Context, tokenID string)
	// System are the routes of the mount at sys/.
	System []route.Route
}

// Types are the engines and login methods that can be mounted.
type Types struct {
	Engines []engine.Type
	Auths   []auth.Type
}

// Has reports whether there is an engine of this name.
func (t Types) Has(name string) bool { return t.engine(name) != nil }

// engine is the engine of a name, which may be an old one of its; nil: there is none.
func (t Types) engine(name string) *engine.Type {
	i := slices.IndexFunc(t.Engines, func(e engine.Type) bool { return e.Name == name || slices.Contains(e.Aliases, name) })
	if i < 0 {
		return nil
	}
	return &t.Engines[i]
}

// An Engine is a secrets engine that a new installation is to have.
type Engine = mount.Entry

// Bounds are a login method's TTLs: its own, else the system's.
type Bounds struct{ DefaultTTL, MaxTTL time.Duration }

// BuiltinVersion is what an engine that is built in reports as its version: the one that the recorded answers of the
// reference have. Clients show it and compare it with nothing.
const BuiltinVersion = "v2.0.0+builtin.bao"

// The classes of mounts, for who knows this package alone.
const (
	ClassSecret = mount.ClassSecret
	ClassAuth   = mount.ClassAuth
)

// builtin are the mounts that every server has.
var builtin = []mount.Entry{
	{Path: "sys/", Class: ClassSecret, Type: "system", Description: "system endpoints used for control, policy and debugging"},
	{Path: "cubbyhole/", Class: ClassSecret, Type: "cubbyhole", Description: "per-token private secret storage", Local: true},
	{Path: "auth/token/", Class: ClassAuth, Type: "token", Description: "token based credentials"},
}

// An Open mount is a mount with what serves it.
type Open struct {
	entry   atomic.Pointer[mount.Entry]
	def     time.Duration
	max     time.Duration
	options map[string]string // with which it was opened
	Engine  engine.Engine     // nil for login methods and sys
	Table   *route.Table
	close   func() error

	// Optional powers of the engine, found once; nil where it lacks them.
	Undoer    engine.Undoer
	Worker    engine.Worker
	Versioned engine.Versioned
	Rotator   engine.Rotator
	Publisher engine.Publisher
	Keeper    engine.Keeper
}

// Entry is the mount's record as it is now.
func (o *Open) Entry() *mount.Entry { return o.entry.Load() }

// DefaultTTL is the mount's, else the system's.
func (o *Open) DefaultTTL() time.Duration {
	if d := o.Entry().Tune.DefaultTTL; d > 0 {
		return d
	}
	return min(o.def, o.MaxTTL())
}

// MaxTTL is the mount's, else the system's.
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

// Route finds the open mount that serves a path, or nil.
func (s *Snapshot) Route(path string) *Open {
	if e := s.Table.Find(path); e != nil {
		return s.open[e.UUID]
	}
	return nil
}

// ByUUID finds an open mount, a tombstone too, or nil.
func (s *Snapshot) ByUUID(uuid string) *Open { return s.open[uuid] }

// Rotators are the open mounts whose engines rotate something, in order of their paths.
func (s *Snapshot) Rotators() (all []*Open) {
	for _, o := range s.open {
		if o.Rotator != nil && o.Entry().Gone.IsZero() {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *Open) int { return strings.Compare(a.Entry().Path, b.Entry().Path) })
	return all
}

// Tallies are where the records of each mount stand that rotate. Of all together at most so many are listed one by one.
func (s *Snapshot) Tallies(ctx context.Context, most int) (all []engine.Tally) {
	for _, o := range s.Rotators() {
		all = append(all, o.Rotator.Rotations().Tally(ctx, most))
	}
	rotate.Limit(all, most)
	return all
}

// A Manager owns the mounts of one unsealed server.
type Manager struct {
	cfg      Config
	services Services
	view     *barrier.View
	scope    func() (context.Context, context.CancelFunc) // a child of the unsealed scope

	mu     sync.Mutex // one change at a time; guards unsure
	unsure bool       // a commit may have been stored: the records are to be read again
	snap   atomic.Pointer[Snapshot]
}

// New returns a manager without any mount. [Manager.Load] opens the mounts of the store: the services
// that engines get need the manager themselves.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, view: cfg.Barrier.View("")}
	empty, _ := mount.NewTable(nil) // only mounts conflict
	m.snap.Store(&Snapshot{Table: empty, open: map[string]*Open{}})
	return m
}

// Load reads the records and opens every mount. It is called once. ctx is the scope in which the
// engines live.
func (m *Manager) Load(ctx context.Context, services Services) error {
	m.services = services
	m.scope = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	entries, err := m.read(ctx)
	if err != nil {
		return err
	}
	table, err := mount.NewTable(entries)
	if err != nil {
		return err
	}
	s := &Snapshot{Table: table, open: map[string]*Open{}}
	for _, e := range entries {
		o, err := m.openEntry(e)
		if err != nil {
			return fmt.Errorf("opening the mount at %s: %w", e.Path, err)
		}
		s.open[e.UUID] = o
	}
	m.snap.Store(s)
	return nil
}

// Snapshot is what is mounted now.
func (m *Manager) Snapshot() *Snapshot { return m.snap.Load() }

// Close closes every engine.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.snap.Load().open {
		if err := o.close(); err != nil {
			m.cfg.Log.Warn("closing a mount", "path", o.Entry().Path, "error", err)
		}
	}
}

// openEntry starts what serves e.
func (m *Manager) openEntry(e *mount.Entry) (*Open, error) {
	o := &Open{def: m.cfg.DefaultTTL, max: m.cfg.MaxTTL, options: e.Options}
	o.entry.Store(e)
	ctx, cancel := m.scope()
	routes, err := m.start(ctx, o, e)
	if err == nil {
		o.Table, err = route.NewTable(routes)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	inner := o.close
	o.close = func() error {
		cancel()
		if inner != nil {
			return inner()
		}
		return nil
	}
	return o, nil
}

func (m *Manager) start(ctx context.Context, o *Open, e *mount.Entry) ([]route.Route, error) {
	store := m.cfg.Barrier.View(enginePrefix(e.UUID))
	log := m.cfg.Log.With("mount", e.Path)
	if e.Class == mount.ClassAuth {
		i := slices.IndexFunc(m.cfg.Auths, func(t auth.Type) bool { return t.Name == e.Type })
		if i < 0 {
			return nil, fault.New("mounts.open", fault.Invalid, "field \"type\": there is no login method %q in this version; use one that the server was built with", e.Type)
		}
		am := &auth.Mount{UUID: e.UUID, Accessor: e.Accessor, Store: store, Log: log, Settings: func() auth.Settings {
			return auth.Settings{Path: o.Entry().Path, DefaultTTL: o.DefaultTTL(), MaxTTL: o.MaxTTL()}
		}}
		am.Tokens, am.RevokeWait = m.services.Tokens, m.services.RevokeWait
		am.Issue = func(ctx context.Context, r *route.Request, spec token.Entry, ask token.Ask, parent *token.Entry) (*route.Auth, error) {
			return m.services.Issue(ctx, r, Bounds{o.DefaultTTL(), o.MaxTTL()}, spec, ask, parent)
		}
		method, err := m.cfg.Auths[i].Open(ctx, am)
		if err != nil {
			return nil, err
		}
		o.close = method.Close
		return method.Routes(), nil
	}
	if e.Type == "system" {
		return m.services.System, nil
	}
	typ := m.cfg.engine(e.Type)
	if typ == nil {
		return nil, fault.New("mounts.open", fault.Invalid, "field \"type\": there is no secrets engine %q in this version; use one that the server was built with", e.Type)
	}
	eng, err := typ.Open(ctx, &engine.Mount{
		UUID: e.UUID, Accessor: e.Accessor, Type: e.Type, Store: store, Log: log, Host: m.services.Host(e.UUID),
		Settings: func() engine.Settings {
			now := o.Entry()
			return engine.Settings{Path: now.Path, Options: now.Options, DefaultTTL: o.DefaultTTL(), MaxTTL: o.MaxTTL()}
		},
	})
	if err != nil {
		return nil, err
	}
	o.Engine, o.close = eng, eng.Close
	o.Undoer, _ = eng.(engine.Undoer)
	o.Worker, _ = eng.(engine.Worker)
	o.Versioned, _ = eng.(engine.Versioned)
	o.Rotator, _ = eng.(engine.Rotator)
	o.Publisher, _ = eng.(engine.Publisher)
	o.Keeper, _ = eng.(engine.Keeper)
	return eng.Routes(), nil
}

// NewUUID is a random version 4 UUID.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// NewAccessor is a mount's accessor, as Vault forms it: kv_1a2b3c4d.
func NewAccessor(class, typ string) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	if class == mount.ClassAuth {
		typ = "auth_" + typ
	}
	return typ + "_" + hex.EncodeToString(b[:])
}
