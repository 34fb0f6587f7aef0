package aws

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/locks"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

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

// config reads the root configuration; nil for none.
func (b *backend) config(ctx context.Context) (*root, error) {
	e, err := b.m.Store.Get(ctx, rootKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	s := storedRoot{root: &root{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return nil, fault.Wrap("aws.config", fault.Internal, err)
	}
	s.root.Secret = secret.New(s.Secret)
	return s.root, nil
}
