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
	locks    locks.Named
	noEffect engine.Attempts // whose create surely made nothing

	mu            sync.Mutex // guards the rest
	cached        *client.Client
	cachedVersion storage.Version // the configuration that now was made of
	accountID     string          // the account that now is of, once it was asked for
	// making are how many credentials are being made, by the key that makes them.
	issuing map[string]int
}

// client is the client by the configuration of now.
func (b *backend) client(ctx context.Context) (*client.Client, *rootConfig, error) {
	c, err := b.config(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c == nil {
		return nil, nil, notConfigured()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached != nil && b.cachedVersion == c.stored {
		return b.cached, c, nil
	}
	made, err := client.New(ctx, c.clientConfig(b.m))
	if err != nil {
		return nil, nil, err
	}
	if b.cached != nil {
		b.cached.Close()
	}
	b.cached, b.cachedVersion, b.accountID = made, c.stored, ""
	return made, c, nil
}

// issuingClient is aws for what makes credentials, until done is called: rotate-root lets it end before it
// deletes the key that they are made by.
func (b *backend) issuingClient(ctx context.Context) (c *client.Client, cfg *rootConfig, done func(), err error) {
	for {
		if c, cfg, err = b.client(ctx); err != nil {
			return nil, nil, nil, err
		}
		b.mu.Lock()
		newest := b.cached == c
		if newest {
			if b.issuing == nil {
				b.issuing = map[string]int{}
			}
			b.issuing[cfg.KeyID]++
		}
		b.mu.Unlock()
		if newest {
			return c, cfg, sync.OnceFunc(func() { b.releaseKey(cfg.KeyID) }), nil
		}
	}
}

func (b *backend) releaseKey(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.issuing[key]--; b.issuing[key] == 0 {
		delete(b.issuing, key)
	}
}

// idle waits until nothing is being made by a key that was replaced, but not for long.
func (b *backend) waitUnused(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for {
		b.mu.Lock()
		n := b.issuing[key]
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
	in, same := b.accountID, b.cached == c
	b.mu.Unlock()
	if same && in != "" {
		return in, nil
	}
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return "", upstreamError("aws.account", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached == c {
		b.accountID = who.Account
	}
	return who.Account, nil
}

// checkAccount refuses to work in another account than the one where something is.
func (b *backend) checkAccount(ctx context.Context, c *client.Client, what, where string) error {
	in, err := b.account(ctx, c)
	if err == nil && where != "" && in != where {
		err = fault.New("aws.account", fault.Upstream, "%s is in account %s, and config/root reaches account %s; write config/root with a key of account %s", what, where, in, where)
	}
	return err
}

// config reads the root configuration; nil for none.
func (b *backend) config(ctx context.Context) (*rootConfig, error) {
	e, err := b.m.Store.Get(ctx, rootKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	s := storedRoot{rootConfig: &rootConfig{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return nil, fault.Wrap("aws.config", fault.Internal, err)
	}
	s.rootConfig.Secret = secret.New(s.Secret)
	return s.rootConfig, nil
}
