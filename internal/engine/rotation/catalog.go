package rotation

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// catalog holds the definitions of keys that a mount can rotate: those built into the binary and
// those that users wrote to the mount.
type catalog struct {
	m         *engine.Mount
	net       Network
	providers []Provider
}

// userRecipe is the stored form of a recipe that a user wrote.
type userRecipe struct {
	Provider string `json:"provider"`
	Hash     string `json:"hash"`
	Source   []byte `json:"source"`
}

// boundText is the stored form of the definition that a key is bound to. It holds the text itself,
// so that a rotation ends with the text that it began with.
type boundText struct {
	Source []byte `json:"source"` // nil: of a provider written in Go
}

// provider returns the provider with this name.
func (c *catalog) provider(name string) (Provider, error) {
	i := slices.IndexFunc(c.providers, func(p Provider) bool { return p.Name == name })
	if i >= 0 {
		return c.providers[i], nil
	}
	var known []string
	for _, p := range c.providers {
		known = append(known, p.Name)
	}
	return Provider{},
		fault.New("rotation.provider", fault.Invalid, "field \"provider\": there is no provider %q; there are %q",
			name, known)
}

// builtIn returns the definition with this name, from any provider in the binary.
func (c *catalog) builtIn(name string) (Definition, bool, error) {
	for _, p := range c.providers {
		ds, err := p.Definitions()
		if err != nil {
			return Definition{}, false, err
		}
		for _, d := range ds {
			if d.Name == name {
				return d, true, nil
			}
		}
	}
	return Definition{}, false, nil
}

// recipeProvider returns the provider that accepts definitions written by users.
func (c *catalog) recipeProvider() (Provider, error) {
	i := slices.IndexFunc(c.providers, func(p Provider) bool { return p.Parse != nil })
	if i < 0 {
		return Provider{},
			fault.New("rotation.recipeProvider", fault.Unsupported,
				"no provider of this server accepts recipes; use a build that has one")
	}
	return c.providers[i], nil
}

// userRecipe reads a recipe that a user wrote to this mount. userRecipe returns nil if there is
// none.
func (c *catalog) userRecipe(ctx context.Context, name string) (*userRecipe, error) {
	e, err := c.m.Store.Get(ctx, recipePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	u := new(userRecipe)
	return u, decode(e, u)
}

// find returns the present definition with this name, built in or written by a user.
func (c *catalog) find(ctx context.Context, name string) (Definition, error) {
	d, ok, err := c.builtIn(name)
	if ok || err != nil {
		return d, err
	}
	u, err := c.userRecipe(ctx, name)
	if err != nil {
		return Definition{}, err
	}
	if u == nil {
		return Definition{}, fault.New("rotation.find", fault.Invalid, "field \"recipe\": there is no recipe %q; "+
			"list recipes/ for those that exist, or write it to recipes/%s first", name, name)
	}
	return c.restore(binding{Provider: u.Provider, Name: name, Hash: u.Hash}, u.Source)
}

// restore rebuilds the definition of a binding from the stored text. Without a text, restore
// returns the built-in definition if its hash still matches.
func (c *catalog) restore(bind binding, source []byte) (Definition, error) {
	p, err := c.provider(bind.Provider)
	if err != nil {
		return Definition{}, err
	}
	if len(source) > 0 && p.Parse != nil {
		return p.Parse(bind.Name+".hcl", source)
	}
	d, ok, err := c.builtIn(bind.Name)
	if err != nil {
		return Definition{}, err
	}
	if !ok || d.Hash != bind.Hash {
		return Definition{},
			fault.New("rotation.restore", fault.Held,
				"provider %q has changed since the key was bound to it; bind the key again: write keys/NAME/rebind",
				bind.Name)
	}
	return d, nil
}

// definition returns the definition that the key is bound to.
func (c *catalog) definition(ctx context.Context, name string, bind binding) (Definition, error) {
	e, err := c.m.Store.Get(ctx, boundPrefix+name)
	if err != nil {
		return Definition{}, err
	}
	var kept boundText
	if e.Version != 0 {
		if err := decode(e, &kept); err != nil {
			return Definition{}, err
		}
	}
	return c.restore(bind, kept.Source)
}

// changed reports whether the recipe differs from the text that the key is bound to. A recipe that
// does not exist any more counts as changed.
func (c *catalog) changed(ctx context.Context, bind binding) (bool, error) {
	d, err := c.find(ctx, bind.Name)
	if fault.Is(err, fault.Invalid) {
		return true, nil
	}
	return d.Hash != bind.Hash, err
}

// source opens the provider with a key's parameters and admin credentials.
func (c *catalog) source(d Definition, cfg settings, admin map[string]secret.Value, r *secret.Redactor,
	onExchange func(rotate.Exchange)) (Source, error) {
	p, err := c.provider(d.Provider)
	if err != nil {
		return nil, err
	}
	roots := c.net.Roots
	if cfg.CA != "" {
		if roots, err = authorities(cfg.CA); err != nil {
			return nil, err
		}
	}
	return p.Open(OpenConfig{
		Definition: d, Params: maps.Clone(cfg.Params), Admin: maps.Clone(admin), Dial: c.net.Dial, Roots: roots,
		Redactor: r, OnExchange: onExchange,
	})
}

// maxCA is the maximum size in bytes of the certificates in a key's field ca.
const maxCA = 64 << 10

// authorities parses the certificates in a key's field ca.
func authorities(pem string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if len(pem) > maxCA || !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, fault.New("rotation.ca", fault.Invalid,
			"field \"ca\": give the certificates of the provider's certificate authorities as PEM, at most %d KiB",
			maxCA>>10)
	}
	return pool, nil
}
