package aws

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// clients has the client of config/root.
type clients struct {
	m       *engine.Mount
	configs *configs

	mu            sync.Mutex // guards the rest
	client        *client.Client
	clientVersion storage.Version // version of the configuration that client was built from
	account       string          // account of client; empty until it was asked for
	issuing       map[string]int  // how many credentials are being issued, by access key
}

// current returns a client of the current config/root.
func (s *clients) current(ctx context.Context) (*client.Client, *rootConfig, error) {
	cfg, err := s.configs.root(ctx)
	if err != nil {
		return nil, nil, err
	}
	if cfg == nil {
		return nil, nil, notConfigured()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil && s.clientVersion == cfg.stored {
		return s.client, cfg, nil
	}
	c, err := client.New(ctx, cfg.clientConfig(s.m))
	if err != nil {
		return nil, nil, err
	}
	if s.client != nil {
		s.client.Close()
	}
	s.client, s.clientVersion, s.account = c, cfg.stored, ""
	return c, cfg, nil
}

// forIssuing is current for issuing credentials, until done is called. rotate-root waits for done
// before it deletes the key.
func (s *clients) forIssuing(ctx context.Context) (c *client.Client, cfg *rootConfig, done func(), err error) {
	for {
		if c, cfg, err = s.current(ctx); err != nil {
			return nil, nil, nil, err
		}
		s.mu.Lock()
		newest := s.client == c
		if newest {
			if s.issuing == nil {
				s.issuing = map[string]int{}
			}
			s.issuing[cfg.KeyID]++
		}
		s.mu.Unlock()
		if newest {
			return c, cfg, sync.OnceFunc(func() { s.endIssuing(cfg.KeyID) }), nil
		}
	}
}

func (s *clients) endIssuing(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issuing[key]--; s.issuing[key] == 0 {
		delete(s.issuing, key)
	}
}

// waitIssuing waits until nothing is issued with a replaced key any more, but not for long.
func (s *clients) waitIssuing(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for {
		s.mu.Lock()
		n := s.issuing[key]
		s.mu.Unlock()
		if n == 0 || !cron.Pause(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// accountOf returns the account number of a client of config/root.
func (s *clients) accountOf(ctx context.Context, c *client.Client) (string, error) {
	s.mu.Lock()
	account, same := s.account, s.client == c
	s.mu.Unlock()
	if same && account != "" {
		return account, nil
	}
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return "", upstreamError("aws.account", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == c {
		s.account = who.Account
	}
	return who.Account, nil
}

// checkAccount refuses a client of another account than want, because what was created in one
// account can only be removed there.
func (s *clients) checkAccount(ctx context.Context, c *client.Client, what, want string) error {
	account, err := s.accountOf(ctx, c)
	if err == nil && want != "" && account != want {
		err = fault.New("aws.account", fault.Upstream,
			"%s is in account %s, and config/root reaches account %s; write config/root with a key of account %s",
			what, want, account, want)
	}
	return err
}

func (s *clients) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
	}
}
