package rotation

import (
	"context"
	"time"
)

type mountConfig struct {
	Brake   bool          `json:"brake"`
	Grace   time.Duration `json:"default_grace_period"`
	ReadTTL time.Duration `json:"default_read_ttl"`
}

func (b *backend) config(ctx context.Context) (c mountConfig, err error) {
	e, err := b.m.Store.Get(ctx, configKey)
	if err != nil || e.Version == 0 {
		return c, err
	}
	return c, decode(e, &c)
}
