// Package aws is the engine that lends credentials of AWS – IAM users of their own, and
// sessions of STS – and rotates the access keys of users that people made.
package aws

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/locks"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys below the mount:
//
//	root          how AWS is reached, and as whom
//	lease         TTLs for roles that have none
//	role/<name>   a role
//	static/…      see static.go
//	rk/root …     see rootkey.go
//
// Invariants:
//   - A user's name is in the reservation before AWS hears of it, so that undoing finds all
//     that was made, by that name alone.
//   - A new access key is given out once it works, or not at all.
//   - No key that may be in use is deleted unless somebody asked for that key.
const (
	rootKey    = "root"
	leaseKey   = "lease"
	rolePrefix = "role/"
)

// Type is the engine.
var Type = engine.Type{Name: "aws", Open: func(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	b := &backend{m: m}
	b.rotations = rotate.New(m.Rotations(), statics{b}.kind(), configs{b}.kind())
	go b.rotations.Walk(ctx)
	return b, nil
}}

// backend is the engine of one mount.
type backend struct {
	m         *engine.Mount
	rotations *rotate.Manager

	// locks are held over a write of each role.
	locks locks.Named
	never engine.Attempts // whose create surely made nothing

	mu  sync.Mutex // guards the rest
	now *client.Client
	of  storage.Version // the configuration that now was made of
	in  string          // the account that now is of, once it was asked for
	// making are how many credentials are being made, by the key that makes them.
	making map[string]int
}

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
	if b.now != nil {
		b.now.Close()
	}
	return nil
}

// Routes are the mount's API.
func (b *backend) Routes() []route.Route {
	cs, rs, l, st := configs{b}, roles{b}, lending{b}, statics{b}
	return []route.Route{
		route.On(route.Write, "config/root", cs.writeRoot).WithHelp("Configures how AWS is reached, and with which access key. Fields that are not given keep their values."),
		route.On(route.Read, "config/root", cs.readRoot).WithHelp("Shows the configuration. Never shows the secret key."),
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
		route.On(route.Delete, "static-roles/{name}", st.drop).WithHelp("Ends the rotation of a user's keys. The current key stays valid."),
		route.On(route.Read, "static-creds/{name}", st.creds).WithHelp("Returns the current access key of a static role."),
		route.On(route.Write, "rotate-role/{name}", st.rotateNow).WithHelp("Rotates the access key of a static role now."),
	}
}

// aws is the client by the configuration of now.
func (b *backend) aws(ctx context.Context) (*client.Client, *root, error) {
	c, err := b.config(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c == nil {
		return nil, nil, notConfigured()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now != nil && b.of == c.stored {
		return b.now, c, nil
	}
	made, err := client.New(ctx, c.client(b.m))
	if err != nil {
		return nil, nil, err
	}
	if b.now != nil {
		b.now.Close()
	}
	b.now, b.of, b.in = made, c.stored, ""
	return made, c, nil
}

// maker is aws for what makes credentials, until done is called: rotate-root lets it end before it
// deletes the key that they are made by.
func (b *backend) maker(ctx context.Context) (c *client.Client, cfg *root, done func(), err error) {
	for {
		if c, cfg, err = b.aws(ctx); err != nil {
			return nil, nil, nil, err
		}
		b.mu.Lock()
		newest := b.now == c
		if newest {
			if b.making == nil {
				b.making = map[string]int{}
			}
			b.making[cfg.KeyID]++
		}
		b.mu.Unlock()
		if newest {
			return c, cfg, sync.OnceFunc(func() { b.made(cfg.KeyID) }), nil
		}
	}
}

func (b *backend) made(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.making[key]--; b.making[key] == 0 {
		delete(b.making, key)
	}
}

// idle waits until nothing is being made by a key that was replaced, but not for long.
func (b *backend) idle(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, lastCalls)
	defer cancel()
	for {
		b.mu.Lock()
		n := b.making[key]
		b.mu.Unlock()
		if n == 0 || !cron.Pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// account is the number of the account that a client of config/root is of. Who undoes something must be
// in the account where it was made.
func (b *backend) account(ctx context.Context, c *client.Client) (string, error) {
	b.mu.Lock()
	in, same := b.in, b.now == c
	b.mu.Unlock()
	if same && in != "" {
		return in, nil
	}
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return "", mine("aws.account", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == c {
		b.in = who.Account
	}
	return who.Account, nil
}

// home refuses to work in another account than the one where something is.
func (b *backend) home(ctx context.Context, c *client.Client, what, where string) error {
	in, err := b.account(ctx, c)
	if err == nil && where != "" && in != where {
		err = fault.New("aws.account", fault.Upstream, "%s is in account %s, and config/root reaches account %s; write config/root with a key of account %s", what, where, in, where)
	}
	return err
}

func notConfigured() error {
	return fault.New("aws", fault.Invalid, "the mount is not configured; write config/root with access_key, secret_key and region")
}

func invalid(format string, args ...any) error {
	return fault.New("aws", fault.Invalid, format, args...)
}

// set overwrites to with what was given, if it was.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

func clip(s string) string { return s[:min(len(s), 80)] }
