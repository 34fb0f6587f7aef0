package mounts

import (
	"context"
	"slices"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

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
			return nil, fault.New("mounts.open", fault.Invalid,
				"field \"type\": there is no login method %q in this version; use one that the server was built with",
				e.Type)
		}
		am := &auth.Mount{UUID: e.UUID, Accessor: e.Accessor, Store: store, Log: log, Settings: func() auth.Settings {
			return auth.Settings{Path: o.Entry().Path, DefaultTTL: o.DefaultTTL(), MaxTTL: o.MaxTTL()}
		}}
		am.Tokens, am.RevokeWait = m.services.Tokens, m.services.RevokeWait
		am.Issue = func(ctx context.Context, r *route.Request, spec token.Entry, want token.Request,
			parent *token.Entry) (*route.Auth, error) {
			return m.services.Issue(ctx, r, Bounds{o.DefaultTTL(), o.MaxTTL()}, spec, want, parent)
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
		return nil, fault.New("mounts.open", fault.Invalid,
			"field \"type\": there is no secrets engine %q in this version; use one that the server was built with",
			e.Type)
	}
	eng, err := typ.Open(ctx, &engine.Mount{
		UUID: e.UUID, Accessor: e.Accessor, Type: e.Type, Store: store, Log: log, Host: m.services.Host(e.UUID),
		Settings: func() engine.Settings {
			entry := o.Entry()
			return engine.Settings{
				Path: entry.Path, Options: entry.Options, DefaultTTL: o.DefaultTTL(), MaxTTL: o.MaxTTL(),
				Inherits: entry.Inherits,
			}
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
	o.Aged, _ = eng.(engine.Aged)
	return engine.RoutesOf(eng)
}
