package kv

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// configAPI serves the settings of the mount.
type configAPI struct{ table *table }

// configOut is the settings of the mount in answers.
type configOut struct {
	CASRequired         bool   `json:"cas_required"`
	DeleteVersionAfter  string `json:"delete_version_after"`
	MaxVersions         int    `json:"max_versions"`
	MetadataCASRequired bool   `json:"metadata_cas_required"`
}

func (a configAPI) read(ctx context.Context, _ *route.Request, _ route.None) (configOut, error) {
	c, err := a.table.settings(ctx)
	if err != nil {
		return configOut{}, err
	}
	return configOut{
		CASRequired: c.CASRequired, MaxVersions: c.MaxVersions,
		DeleteVersionAfter: max(c.DeleteVersionAfter, 0).String(),
	}, nil
}

// configIn is settingsIn without path and custom metadata.
type configIn struct {
	MaxVersions        *int           `json:"max_versions" default:"0" doc:"How many versions of a secret are kept; 0: ten, -1: all, of which some thousands fit."`
	CASRequired        *bool          `json:"cas_required" default:"false" doc:"Whether each write must say which version it replaces."`
	DeleteVersionAfter *wire.Lifetime `json:"delete_version_after" default:"0s" doc:"How long a version is kept before it is deleted; 0s: for ever."`
}

func (a configAPI) write(ctx context.Context, _ *route.Request, in configIn) (route.None, error) {
	if err := checkMax(in.MaxVersions); err != nil {
		return route.None{}, err
	}
	for range 16 {
		old, err := a.table.settings(ctx)
		if err != nil {
			return route.None{}, err
		}
		c := *old
		in.apply(&c)
		b, err := json.Marshal(&c)
		if err != nil {
			return route.None{}, fault.Wrap("kv.writeConfig", fault.Internal, err)
		}
		_, err = a.table.mount.Store.Commit(ctx, storage.Set(configKey, b).If(old.stored))
		if !fault.Is(err, fault.Conflict) {
			return route.None{}, err
		}
	}
	return route.None{}, errBusy()
}

func (in *configIn) apply(c *config) {
	if in.MaxVersions != nil {
		c.MaxVersions = max(*in.MaxVersions, -1)
	}
	if in.CASRequired != nil {
		c.CASRequired = *in.CASRequired
	}
	if in.DeleteVersionAfter != nil {
		c.DeleteVersionAfter = time.Duration(*in.DeleteVersionAfter)
	}
}

// checkMax refuses implausible numbers. A negative number keeps all versions, because some clients
// send -1 for that.
func checkMax(n *int) error {
	if n == nil || *n <= 100_000 {
		return nil
	}
	return fault.New("kv.checkMax", fault.Invalid,
		"field \"max_versions\" must be at most 100000, or -1 for all, not %d", *n)
}
