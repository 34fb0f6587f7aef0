// Package aws is the engine that lends credentials of AWS – IAM users of their own, and
// sessions of STS – and rotates the access keys of users that people made.
package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// Type is the engine.
var Type = engine.Type{Name: "aws", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	b := &backend{m: m}
	b.rotations = rotate.New(m.Rotations(), statics{b}.kind(), configs{b}.kind())
	go b.rotations.Walk(ctx)
	return b, nil
}}

// Work implements [engine.Worker].
func (b *backend) Work(ctx context.Context, kind, name string) error {
	return b.rotations.Work(ctx, kind, name)
}

// Rotations implements [engine.Rotator].
func (b *backend) Rotations() *rotate.Manager { return b.rotations }

// Close lets go of connections.
func (b *backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached != nil {
		b.cached.Close()
	}
	return nil
}

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	cs, rs, l, st, past := configs{b}, roles{b}, issuing{b}, statics{b}, histories{b}
	return []route.Route{
		route.On(route.Write, "config/root", cs.writeRoot).WithHelp("Configures how AWS is reached, and with which access key. Fields that are not given keep their values."),
		route.On(route.Read, "config/root", cs.readRoot).WithHelp("Shows the configuration. Never shows the secret key."),
		route.On(route.Read, "config/root/history", past.root).WithHelp("Shows the rotations of the access key of config/root, newest first."),
		route.On(route.Write, "config/rotate-root", cs.rotateRoot).WithHelp("Replaces the access key of config/root with a new one that only this server knows."),
		route.On(route.Write, "config/lease", cs.writeLease).WithHelp("Sets TTLs of users whose role has none."),
		route.On(route.Read, "config/lease", cs.readLease).WithHelp("Shows the TTLs of users whose role has none."),
		route.On(route.Write, "roles/{name}", rs.write).WithExists(rs.exists).
			WithHelp("Writes a role, which defines the credentials that its readers get. Fields that are not given keep their values."),
		route.On(route.Read, "roles/{name}", rs.read).WithHelp("Shows a role."),
		route.On(route.List, "roles", rs.list).WithHelp("Lists the roles."),
		route.On(route.Delete, "roles/{name}", rs.remove).WithHelp("Deletes a role. Credentials that were issued under it stay valid until their leases end."),
		route.Lease(route.Read, "creds/{name}", l.plan, l.create).WithHelp("Issues credentials of a role."),
		route.Lease(route.Write, "creds/{name}", l.plan, l.create).WithHelp("Issues credentials of a role."),
		route.Lease(route.Read, "sts/{name}", l.plan, l.create).WithHelp("Issues credentials of a role, as creds/ does."),
		route.Lease(route.Write, "sts/{name}", l.plan, l.create).WithHelp("Issues credentials of a role, as creds/ does."),
		route.On(route.Write, "static-roles/{name}", st.write).WithExists(st.exists).
			WithHelp("Puts the access keys of an IAM user under rotation, or changes their configuration. Fields that are not given keep their values."),
		route.On(route.Read, "static-roles/{name}", st.read).WithHelp("Shows a static role and the results of its rotations. Never shows a secret key."),
		route.On(route.List, "static-roles", st.list).WithHelp("Lists the static roles."),
		route.On(route.Delete, "static-roles/{name}", st.remove).WithHelp("Ends the rotation of a user's keys. The current key stays valid."),
		route.On(route.Read, "static-roles/{name}/history", past.static).WithHelp("Shows the rotations of a static role's access key, newest first."),
		route.On(route.Read, "static-creds/{name}", st.creds).WithHelp("Returns the current access key of a static role."),
		route.On(route.Write, "rotate-role/{name}", st.rotateNow).WithHelp("Rotates the access key of a static role now."),
	}
}
