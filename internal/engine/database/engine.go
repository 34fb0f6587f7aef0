package database

import (
	"context"
	"slices"
	"sync"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// Keys below the mount:
//
//	config/<name>   which configuration a name means now: its id
//	conn/<id>       a configuration, with its password; a tombstone stays for undo
//	role/<name>     a role
const (
	configPrefix = "config/"
	connPrefix   = "conn/"
	rolePrefix   = "role/"
)

// New returns the engine for these kinds of database.
func New(ps ...Provider) engine.Type {
	return engine.Type{Name: "database", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
		scope := func() context.Context { return ctx }
		return &backend{m: m, providers: ps, scope: scope, conns: map[string]*openConn{}}, nil
	}}
}

// backend is the engine of one mount.
type backend struct {
	m         *engine.Mount
	providers []Provider
	scope     func() context.Context // what pools live in

	mu    sync.Mutex
	conns map[string]*openConn // by configuration id
}

// openConn is a pool and the configuration that it was opened with.
type openConn struct {
	Conn
	revision int
}

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	ro := roles{b}
	out := []route.Route{
		route.On(route.List, "config", b.listConfigs).WithHelp("List the connections."),
		route.On(route.Read, "config/{name}", b.readConfig).WithHelp("Read a connection; never its password."),
		route.On(route.Write, "config/{name}", b.writeConfig).WithExists(b.configExists).WithHelp("Configure a connection."),
		route.On(route.Delete, "config/{name}", b.deleteConfig).WithHelp("Delete a connection; it goes on to undo what lives."),
		route.On(route.Write, "reset/{name}", b.reset).WithHelp("Close a connection's pool and open it anew."),
		route.On(route.Write, "reload/{plugin}", b.reload).WithHelp("Close the pools of all connections of a plugin."),
		route.On(route.List, "roles", ro.listRoles).WithHelp("List the roles."),
		route.On(route.Read, "roles/{name}", ro.readRole).WithHelp("Read a role."),
		route.On(route.Write, "roles/{name}", ro.writeRole).WithExists(ro.roleExists).WithHelp("Write a role."),
		route.On(route.Delete, "roles/{name}", ro.deleteRole).WithHelp("Delete a role; what was issued by it lives on."),
		route.Lease(route.Read, "creds/{name}", b.plan, b.create).WithHelp("Lend a user of the database."),
	}
	for _, r := range []string{"static-roles/{name}", "static-creds/{name}", "rotate-role/{name}", "rotate-root/{name}"} {
		for _, op := range []route.Op{route.Read, route.Write, route.Delete} {
			out = append(out, route.On(op, r, notBuilt))
		}
	}
	return out
}

func notBuilt(_ context.Context, r *route.Request, _ route.None) (route.None, error) {
	return route.None{}, fault.New("database", fault.Unsupported, "%q is not built yet: static roles and the rotation of root credentials come later", r.Rest)
}

// Close closes every pool.
func (b *backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close() // it is over either way
	}
	b.conns = map[string]*openConn{}
	return nil
}

// provider finds the kind of database of a plugin name.
func (b *backend) provider(plugin string) (*Provider, error) {
	i := slices.IndexFunc(b.providers, func(p Provider) bool { return slices.Contains(p.Plugins, plugin) })
	if i < 0 {
		var known []string
		for _, p := range b.providers {
			known = append(known, p.Plugins...)
		}
		return nil, fault.New("database.provider", fault.Invalid, "field \"plugin_name\": there is no plugin %q; there are %q", plugin, known)
	}
	return &b.providers[i], nil
}

// pool returns the pool of a configuration, opened if it is not, or if the
// configuration has changed since.
func (b *backend) pool(c *conn) (Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.conns[c.ID]; o != nil {
		if o.revision == c.Revision {
			return o, nil
		}
		b.dropLocked(c.ID)
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, err
	}
	opened, err := p.Connect(b.scope(), c.settings(b.m))
	if err != nil {
		return nil, err
	}
	o := &openConn{opened, c.Revision}
	b.conns[c.ID] = o
	return o, nil
}

// drop closes a configuration's pool. What runs on it is given up.
func (b *backend) drop(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(id)
}

func (b *backend) dropLocked(id string) {
	if o := b.conns[id]; o != nil {
		delete(b.conns, id)
		go func() { _ = o.Close() }() // it waits for what runs, at most a second
	}
}
