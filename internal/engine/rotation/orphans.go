package rotation

import (
	"context"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

type orphansOut struct {
	Orphans []rotate.Orphan `json:"orphans"`
}

// orphans returns the orphans that the key's provider lists: credentials with a marker of this
// installation that no record of the mount knows.
func (ks *keys) orphans(ctx context.Context, _ *route.Request, in nameIn) (out *orphansOut, err error) {
	return out, ks.change(ctx, in.Name, func(k *key) error {
		all, err := k.Control().Orphans(ctx)
		if err == nil {
			out = &orphansOut{Orphans: append([]rotate.Orphan{}, all...)}
		}
		return err
	})
}

type orphanIn struct {
	Name    string `path:"name" doc:"The key's name."`
	Confirm string `json:"confirm" doc:"The ID of the orphan that is retired at the provider."`
}

// retireOrphan retires one orphan, whose ID the caller must confirm.
func (ks *keys) retireOrphan(ctx context.Context, req *route.Request, in orphanIn) (route.None, error) {
	if in.Confirm == "" {
		return route.None{},
			invalid("field \"confirm\" is required: give the ID of one of the orphans that keys/%s/orphans lists",
				in.Name)
	}
	return route.None{}, ks.change(ctx, in.Name, func(k *key) error {
		return k.Control().RetireOrphan(ctx, in.Confirm, req.Caller.DisplayName)
	})
}
