package database

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
)

// New returns the engine for these kinds of database.
func New(ps ...Provider) engine.Type {
	return engine.Type{Name: "database", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
		b := newBackend(m, ps)
		go b.records.Walk(ctx)
		return b, nil
	}}
}

// Unfinished implements [engine.Keeper], because only this server may know a password that a
// rotation has set.
func (b *backend) Unfinished(ctx context.Context) error {
	kind, r, err := b.records.Unfinished(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		what := fmt.Sprintf("static role %q", r.Name)
		if kind == rootKind {
			var d rootData
			_ = json.Unmarshal(r.Data, &d) // only for the name in the error
			what = fmt.Sprintf("connection %q", d.Connection)
		}
		return unfinishedError(what)
	}
	return nil
}

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "config/{name}", b.configs.write).WithExists(b.configs.exists).
			WithHelp("Configures a connection to a database. Fields that are not given keep their values.").WithRest(
			b.configs.conns.providers.params()...),
		route.On(route.Read, "config/{name}", b.configs.read).WithHelp("Shows a connection. Never shows its secrets."),
		route.On(route.Read, "config/{name}/history", b.configs.history).WithHelp(
			"Shows the rotations of the administrator's password of a connection, newest first."),
		route.On(route.List, "config", b.configs.list).WithHelp("Lists the connections."),
		route.On(route.Delete, "config/{name}", b.configs.remove).
			WithHelp("Deletes a connection. Users that were issued through it are still revoked when " +
				"their leases end."),
		route.On(route.Write, "reset/{name}", b.configs.reset).WithHelp(
			"Replaces a connection's pool. Statements that run on the old pool finish first."),
		route.On(route.Write, "reload/{plugin}",
			b.configs.reload).WithHelp("Replaces the pools of all connections of a plugin."),
		route.On(route.Write, "roles/{name}", b.roles.write).WithExists(b.roles.exists).
			WithHelp("Writes a role, which defines how its users are created, renewed and revoked. Fields that are " +
				"not given keep their values."),
		route.On(route.Read, "roles/{name}", b.roles.read).WithParam("name",
			"The role's name.").WithHelp("Shows a role."),
		route.On(route.List, "roles", b.roles.list).WithHelp("Lists the roles."),
		route.On(route.Delete, "roles/{name}", b.roles.remove).WithParam("name",
			"The role's name.").WithHelp("Deletes a role. Its users stay valid until their leases end."),
		route.Lease(route.Read, "creds/{name}", b.issuer.plan, b.issuer.create).WithParam("name",
			"The role's name.").WithHelp("Issues a user of the database that lives as long as its lease."),
		route.On(route.Write, "static-roles/{name}", b.statics.write).WithExists(b.statics.exists).
			WithHelp("Puts an existing user under rotation: its password is changed now, and then on schedule."),
		route.On(route.Read, "static-roles/{name}",
			b.statics.read).WithHelp("Shows a static role. Never shows its passwords."),
		route.On(route.Read, "static-roles/{name}/history",
			b.statics.history).WithHelp("Shows the rotations of a static role's password, newest first."),
		route.On(route.List, "static-roles", b.statics.list).WithHelp("Lists the static roles."),
		route.On(route.Delete, "static-roles/{name}",
			b.statics.remove).WithHelp("Deletes a static role. Its user keeps the password that it has."),
		route.On(route.Read, "static-creds/{name}",
			b.creds.read).WithHelp("Returns the current user name and password of a static role."),
		route.On(route.Write, "rotate-role/{name}",
			b.statics.rotate).WithHelp("Changes the password of a static role now."),
		route.On(route.Write, "rotate-root/{name}", b.configs.rotateRoot).WithHelp(
			"Changes the administrator's password of a connection. Only this server knows the new one."),
	}
}
