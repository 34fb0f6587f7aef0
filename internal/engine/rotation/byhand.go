package rotation

import (
	"context"
	"slices"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// byHandRoutes serves what people do for keys of the style manual.
type byHandRoutes struct{ keys *keys }

type supplyIn struct {
	Name  string                  `path:"name" doc:"The key's name."`
	KeyID string                  `json:"key_id" doc:"The ID that the provider shows for the new key."`
	Key   map[string]secret.Value `json:"key" doc:"The new key: a value for each output of the recipe."`
}

// supply takes the key that a person has created for a rotation.
func (r byHandRoutes) supply(ctx context.Context, req *route.Request, in supplyIn) (route.None, error) {
	return route.None{}, r.keys.change(ctx, in.Name, func(k *key) error {
		d, err := r.keys.catalog.definition(ctx, in.Name, k.data.Bind)
		if err != nil {
			return err
		}
		made, err := suppliedKey(d, in)
		if err != nil {
			return err
		}
		return k.Control().Supply(ctx, made, req.Caller.DisplayName, req.Warn)
	})
}

// suppliedKey checks that a supplied key has an ID and all outputs of its recipe.
func suppliedKey(d Definition, in supplyIn) (c rotate.Credential, err error) {
	if !ValidID(in.KeyID) {
		return c, invalid(
			`field "key_id" is required: give the ID or the name that the provider shows for the new key, at most 512 printable characters`)
	}
	c = rotate.Credential{ID: in.KeyID, Secret: map[string]secret.Value{}, Public: map[string]string{}}
	for name, v := range in.Key {
		switch {
		case !slices.Contains(outputNames(d), name):
			return c, invalid("field \"key\": recipe %q has no output %q; its outputs are %q", d.Name, name,
				outputNames(d))
		case v.Len() > MaxOutput:
			return c, invalid("field \"key\": %q is larger than %d KiB; give the key alone", name, MaxOutput>>10)
		case d.secret(name):
			c.Secret[name] = v
		default:
			c.Public[name] = v.RevealString()
		}
	}
	for _, o := range d.Outputs {
		if v := in.Key[o.Name]; v.Empty() {
			return c, invalid("field \"key\": %q is missing or empty; give every output of recipe %q: %q", o.Name,
				d.Name, outputNames(d))
		}
	}
	return c, nil
}

// confirm records that a person has deleted the old key at the provider.
func (r byHandRoutes) confirm(ctx context.Context, req *route.Request, in nameIn) (route.None, error) {
	return route.None{}, r.keys.change(ctx, in.Name, func(k *key) error {
		return k.Control().ConfirmRetired(ctx, req.Caller.DisplayName)
	})
}
