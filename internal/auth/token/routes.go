package token

import (
	"slices"

	"github.com/keyturn/keyturn/internal/route"
)

// Routes of the method.
func (t *method) Routes() []route.Route {
	return slices.Concat([]route.Route{
		route.On(route.Write, "create", t.create).WithHelp("Create a token, a child of the caller's."),
		route.On(route.Write, "create-orphan", t.createOrphan).WithHelp("Create a token without a parent."),
		route.On(route.Read, "lookup-self", t.lookupSelf).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup-self", t.lookupSelf).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup", t.lookup).WithHelp("Look a token up."),
		route.On(route.Read, "lookup", t.lookup).WithHelp("Look the caller's token up."),
		route.On(route.Write, "lookup-accessor", t.lookupAccessor).WithHelp("Look a token up by its accessor."),
		route.On(route.Write, "renew-self", t.renewSelf).WithHelp("Renew the caller's token."),
		route.On(route.Write, "renew", t.renew).WithHelp("Renew a token."),
		route.On(route.Write, "renew-accessor", t.renewAccessor).WithHelp("Renew a token by its accessor."),
		route.On(route.Write, "revoke-self", t.revokeSelf).
			WithHelp("Revoke the caller's token, with its children and leases."),
		route.On(route.Write, "revoke", t.revoke).WithHelp("Revoke a token, with its children and leases."),
		route.On(route.Write, "revoke-orphan", t.revokeOrphan).WithSudo().
			WithHelp("Revoke a token and leave its children."),
		route.On(route.Write, "revoke-accessor", t.revokeAccessor).WithHelp("Revoke a token by its accessor."),
		route.On(route.List, "accessors", t.accessors).WithSudo().WithHelp("List all accessors."),
		route.On(route.Write, "tidy", t.tidy).WithSudo().
			WithHelp("Accepted without effect: the index cannot go stale."),
		route.On(route.List, "roles", t.listRoles).WithHelp("List the roles."),
	}, inPathRoutes(t), t.roleRoutes())
}

// roleRoutes are the routes whose path contains a role.
func (t *method) roleRoutes() []route.Route {
	all := []route.Route{
		route.On(route.Write, "create/{role}", t.createByRole).WithHelp("Create a token with a role."),
		route.On(route.Read, "roles/{role}", t.readRole).WithHelp("Read a role."),
		route.On(route.Write, "roles/{role}", t.writeRole).WithHelp("Write a role."),
		route.On(route.Delete, "roles/{role}", t.deleteRole).WithHelp("Delete a role; its tokens stay."),
	}
	for i, r := range all {
		all[i] = r.WithParam("role", "The role's name, in lower case.").WithName("role", roleName)
	}
	return all
}

// Close has nothing to close.
func (t *method) Close() error { return nil }
