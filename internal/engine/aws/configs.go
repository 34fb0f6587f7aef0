package aws

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// configs reads the stored config/root and config/lease.
type configs struct{ m *engine.Mount }

// root returns config/root; nil if there is none.
func (s *configs) root(ctx context.Context) (*rootConfig, error) {
	e, err := s.m.Store.Get(ctx, rootKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	row := storedRoot{rootConfig: &rootConfig{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &row); err != nil {
		return nil, fault.Wrap("aws.config", fault.Internal, err)
	}
	row.rootConfig.Secret = secret.New(row.Secret)
	return row.rootConfig, nil
}

// leaseTTLs is config/lease: the TTLs of users whose role has none.
type leaseTTLs struct {
	TTL time.Duration `json:"ttl"`
	Max time.Duration `json:"max"`
}

// lease returns config/lease; nil if there is none.
func (s *configs) lease(ctx context.Context) (*leaseTTLs, error) {
	e, err := s.m.Store.Get(ctx, leaseKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	l := new(leaseTTLs)
	return l, fault.Wrap("aws.lease", fault.Internal, json.Unmarshal(e.Value, l))
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
