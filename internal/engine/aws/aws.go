// Package aws is the engine that issues credentials of AWS, namely IAM users and sessions of STS,
// and rotates the access keys of existing users.
package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
)

// Type is the engine.
var Type = engine.Type{Name: "aws", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	b := newBackend(m)
	go b.records.Walk(ctx)
	return b, nil
}}

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "config/root",
			b.configs.writeRoot).WithHelp("Configures how AWS is reached, and with which access key. Fields that " +
			"are not given keep their values."),
		route.On(route.Read, "config/root",
			b.configs.readRoot).WithHelp("Shows the configuration. Never shows the secret key."),
		route.On(route.Read, "config/root/history",
			b.configs.history).WithHelp("Shows the rotations of the access key of config/root, newest first."),
		route.On(route.Write, "config/rotate-root", b.configs.rotateRoot).WithHelp(
			"Replaces the access key of config/root with a new one that only this server knows."),
		route.On(route.Write, "config/lease",
			b.configs.writeLease).WithHelp("Sets TTLs of users whose role has none."),
		route.On(route.Read, "config/lease",
			b.configs.readLease).WithHelp("Shows the TTLs of users whose role has none."),
		route.On(route.Write, "roles/{name}", b.roles.write).WithExists(b.roles.exists).
			WithHelp("Writes a role, which defines the credentials that its readers get. Fields that are not given " +
				"keep their values."),
		route.On(route.Read, "roles/{name}", b.roles.read).WithHelp("Shows a role."),
		route.On(route.List, "roles", b.roles.list).WithHelp("Lists the roles."),
		route.On(route.Delete, "roles/{name}", b.roles.remove).WithHelp(
			"Deletes a role. Credentials that were issued under it stay valid until their leases end."),
		route.Lease(route.Read, "creds/{name}", b.issuer.plan,
			b.issuer.create).WithHelp("Issues credentials of a role."),
		route.Lease(route.Write, "creds/{name}", b.issuer.plan,
			b.issuer.create).WithHelp("Issues credentials of a role."),
		route.Lease(route.Read, "sts/{name}", b.issuer.plan,
			b.issuer.create).WithHelp("Issues credentials of a role, as creds/ does."),
		route.Lease(route.Write, "sts/{name}", b.issuer.plan,
			b.issuer.create).WithHelp("Issues credentials of a role, as creds/ does."),
		route.On(route.Write, "static-roles/{name}", b.statics.write).WithExists(b.statics.exists).
			WithHelp("Puts the access keys of an IAM user under rotation, or changes their configuration. Fields " +
				"that are not given keep their values."),
		route.On(route.Read, "static-roles/{name}", b.statics.read).WithHelp(
			"Shows a static role and the results of its rotations. Never shows a secret key."),
		route.On(route.List, "static-roles", b.statics.list).WithHelp("Lists the static roles."),
		route.On(route.Delete, "static-roles/{name}",
			b.statics.remove).WithHelp("Ends the rotation of a user's keys. The current key stays valid."),
		route.On(route.Read, "static-roles/{name}/history",
			b.statics.history).WithHelp("Shows the rotations of a static role's access key, newest first."),
		route.On(route.Read, "static-creds/{name}",
			b.statics.creds).WithHelp("Returns the current access key of a static role."),
		route.On(route.Write, "rotate-role/{name}",
			b.statics.rotateNow).WithHelp("Rotates the access key of a static role now."),
	}
}
