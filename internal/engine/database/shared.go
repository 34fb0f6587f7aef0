package database

import (
	"context"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// siblings are the other connections of the mount that lead to where c leads.
func (b *backend) siblings(ctx context.Context, c *connection) (found []*connection, err error) {
	names, err := b.names(ctx, namePrefix)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		o, err := b.byName(ctx, name)
		if err != nil {
			return nil, err
		}
		if o != nil && o.ID != c.ID && o.serverID() == c.serverID() {
			found = append(found, o)
		}
	}
	return found, nil
}

// checkOwners refuses users whose password is needed, or changed, by way of another connection to the same database.
func (b statics) checkOwners(ctx context.Context, c *connection, users []string) error {
	others, err := b.siblings(ctx, c)
	if err != nil {
		return err
	}
	for _, o := range others {
		for _, u := range users {
			if u == o.Username {
				return invalid("field \"username\": %q is the administrator of the connection %q to the same database; change its password by rotate-root/%s", u, o.Name, o.Name)
			}
			e, err := b.m.Store.Get(ctx, ownedKey(o.Name, u))
			if err != nil {
				return err
			}
			if e.Version != 0 {
				return alreadyOwned(u, string(e.Value))
			}
		}
	}
	return nil
}

func alreadyOwned(user, role string) error {
	return invalid("field \"username\": the password of %q is changed by the static role %q already; two would cut each other's readers off", user, role)
}

// warnSharedAdmin tells who rotates an administrator's password which other connections have the one from before.
func (b roots) warnSharedAdmin(ctx context.Context, r *route.Request, c *connection) error {
	others, err := b.siblings(ctx, c)
	if err != nil {
		return err
	}
	var names []string
	for _, o := range others {
		if o.Username == c.Username && c.Username != "" {
			names = append(names, o.Name)
		}
	}
	if len(names) > 0 {
		r.Warn("%q is the administrator of other connections to the same database, too, which have the password from before and can do nothing any more: %s; give each an administrator of its own", c.Username, strings.Join(names, ", "))
	}
	return nil
}

// staticRolesOf are the static roles that use a connection, some of them where there are many.
func (b *backend) staticRolesOf(ctx context.Context, connection string) (roles []string, err error) {
	const most = 20
	prefix := ownedKey(connection, "")
	for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		if name := string(e.Value); !slices.Contains(roles, name) {
			roles = append(roles, name)
		}
		if len(roles) == most {
			break
		}
	}
	return roles, nil
}
