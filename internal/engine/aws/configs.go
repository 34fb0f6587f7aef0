package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/secret"
)

// configs reads the stored config/root and config/lease.
type configs struct{ m *engine.Mount }

// root returns config/root; nil if there is none.
func (s *configs) root(ctx context.Context) (*rootConfig, error) {
	row, version, err := rootRow.Get(ctx, s.m.Store, "")
	if err != nil || row == nil {
		return nil, err
	}
	c := &row.rootConfig
	c.stored, c.Secret = version, secret.New(row.Secret)
	return c, nil
}

// leaseTTLs is config/lease: the TTLs of users whose role has none.
type leaseTTLs struct {
	TTL time.Duration `json:"ttl"`
	Max time.Duration `json:"max"`
}

// lease returns config/lease; nil if there is none.
func (s *configs) lease(ctx context.Context) (*leaseTTLs, error) {
	l, _, err := leaseRow.Get(ctx, s.m.Store, "")
	return l, err
}

// userTTLs returns the TTLs of a role's users. Zero means the mount's.
func (s *configs) userTTLs(ctx context.Context, ro *role) (ttl, longest time.Duration, err error) {
	l, err := s.lease(ctx)
	if err != nil {
		return 0, 0, err
	}
	if l != nil {
		ttl, longest = l.TTL, l.Max
	}
	if ro != nil && ro.TTL > 0 {
		ttl = ro.TTL
	}
	if ro != nil && ro.MaxTTL > 0 {
		longest = ro.MaxTTL
	}
	return ttl, longest, nil
}
