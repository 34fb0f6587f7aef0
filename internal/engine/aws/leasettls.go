package aws

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// leaseTTLs are for users whose role has none.
type leaseTTLs struct {
	TTL time.Duration `json:"ttl"`
	Max time.Duration `json:"max"`
}

func (b *backend) leaseTTLs(ctx context.Context) (*leaseTTLs, error) {
	e, err := b.m.Store.Get(ctx, leaseKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	l := new(leaseTTLs)
	return l, fault.Wrap("aws.lease", fault.Internal, json.Unmarshal(e.Value, l))
}

// configs are the routes below config/.
type configs struct{ *backend }
