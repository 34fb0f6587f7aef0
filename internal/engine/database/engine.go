package database

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// New returns the engine for these kinds of database.
func New(ps ...Provider) engine.Type {
	return engine.Type{Name: "database", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
		b := &backend{m: m, providers: ps, pools: newPools(m)}
		b.rotations = rotate.New(m.Rotations(), statics{b}.rotation(), roots{b}.rotation())
		go b.rotations.Walk(ctx)
		return b, nil
	}}
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.rotations }

// Unfinished implements [engine.Keeper]: nobody but this server may know a password that is being changed.
func (b *backend) Unfinished(ctx context.Context) error {
	kind, r, err := b.rotations.Unfinished(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		what := fmt.Sprintf("static role %q", r.Name)
		if kind == rootKind {
			var d rootData
			_ = json.Unmarshal(r.Data, &d) // for its name alone
			what = fmt.Sprintf("connection %q", d.Connection)
		}
		return unfinishedError(what)
	}
	return nil
}

// Close closes every pool and cancels what runs on it.
func (b *backend) Close() error { b.pools.close(); return nil }

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	cs, rs, l, st, past := configs{b}, roles{b}, issuing{b}, statics{b}, histories{b}
	return []route.Route{
		route.On(route.Write, "config/{name}", cs.writeConfig).WithExists(cs.configExists).
			WithHelp("Configures a connection to a database. Fields that are not given keep their values.").WithRest(cs.params()...),
		route.On(route.Read, "config/{name}", cs.readConfig).WithHelp("Shows a connection. Never shows its secrets."),
		route.On(route.Read, "config/{name}/history", past.root).WithHelp("Shows the rotations of the administrator's password of a connection, newest first."),
		route.On(route.List, "config", cs.listConfigs).WithHelp("Lists the connections."),
		route.On(route.Delete, "config/{name}", cs.deleteConfig).
			WithHelp("Deletes a connection. Users that were issued through it are still revoked when their leases end."),
		route.On(route.Write, "reset/{name}", cs.reset).WithHelp("Replaces a connection's pool. Statements that run on the old pool finish first."),
		route.On(route.Write, "reload/{plugin}", cs.reload).WithHelp("Replaces the pools of all connections of a plugin."),
		route.On(route.Write, "roles/{name}", rs.writeRole).WithExists(rs.roleExists).
			WithHelp("Writes a role, which defines how its users are created, renewed and revoked. Fields that are not given keep their values."),
		route.On(route.Read, "roles/{name}", rs.readRole).WithParam("name", "The role's name.").WithHelp("Shows a role."),
		route.On(route.List, "roles", rs.listRoles).WithHelp("Lists the roles."),
		route.On(route.Delete, "roles/{name}", rs.deleteRole).WithParam("name", "The role's name.").WithHelp("Deletes a role. Its users stay valid until their leases end."),
		route.Lease(route.Read, "creds/{name}", l.plan, l.create).WithParam("name", "The role's name.").WithHelp("Issues a user of the database that lives as long as its lease."),
		route.On(route.Write, "static-roles/{name}", st.writeStatic).WithExists(st.staticExists).
			WithHelp("Puts an existing user under rotation: its password is changed now, and then on schedule."),
		route.On(route.Read, "static-roles/{name}", st.readStatic).WithHelp("Shows a static role. Never shows its passwords."),
		route.On(route.Read, "static-roles/{name}/history", past.static).WithHelp("Shows the rotations of a static role's password, newest first."),
		route.On(route.List, "static-roles", st.listStatics).WithHelp("Lists the static roles."),
		route.On(route.Delete, "static-roles/{name}", st.deleteStatic).WithHelp("Deletes a static role. Its user keeps the password that it has."),
		route.On(route.Read, "static-creds/{name}", readers{st}.readCreds).WithHelp("Returns the current user name and password of a static role."),
		route.On(route.Write, "rotate-role/{name}", st.rotateStatic).WithHelp("Changes the password of a static role now."),
		route.On(route.Write, "rotate-root/{name}", roots{b}.rotateRoot).WithHelp("Changes the administrator's password of a connection. Only this server knows the new one."),
	}
}
