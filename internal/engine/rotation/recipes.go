package rotation

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// recipeRoutes serves the recipes of a mount.
type recipeRoutes struct {
	catalog *catalog
	keys    *keys
}

var recipeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

func (r recipeRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	var out route.Keys
	for _, p := range r.catalog.providers {
		ds, err := p.Definitions()
		if err != nil {
			return out, err
		}
		for _, d := range ds {
			out.Keys = append(out.Keys, d.Name)
		}
	}
	for e, err := range r.catalog.m.Store.Scan(ctx, recipePrefix, storage.PrefixEnd(recipePrefix)) {
		if err != nil {
			return out, err
		}
		out.Keys = append(out.Keys, strings.TrimPrefix(e.Key, recipePrefix))
	}
	slices.Sort(out.Keys)
	return out, nil
}

type recipeOut struct {
	Name        string       `json:"name"`
	Provider    string       `json:"provider"`
	BuiltIn     bool         `json:"built_in"`
	Description string       `json:"description"`
	Doc         string       `json:"doc"`
	Evidence    string       `json:"evidence"`
	Style       rotate.Style `json:"style"`
	Slots       []string     `json:"slots,omitempty"`
	Manual      string       `json:"instructions,omitempty"`
	Hosts       []string     `json:"hosts"`
	Admin       []fieldOut   `json:"admin"`
	Params      []fieldOut   `json:"params"`
	Outputs     []string     `json:"outputs"`
	Proof       rotate.Proof `json:"proof"`
	Retry       rotate.Retry `json:"retry"`
	Hash        string       `json:"hash"`
	Source      string       `json:"source"`
}

type fieldOut struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Description string `json:"description"`
	Required    bool   `json:"required"`
	Secret      bool   `json:"is_secret"`
	Routes      bool   `json:"routes"`
}

func showFields(fs []Field) []fieldOut {
	out := []fieldOut{}
	for _, f := range fs {
		out = append(out, fieldOut{f.Name, f.Type, f.Description, f.Required, f.Secret, f.Routes})
	}
	return out
}

func (r recipeRoutes) read(ctx context.Context, _ *route.Request, in nameIn) (*recipeOut, error) {
	_, builtIn, err := r.catalog.builtIn(in.Name)
	if err != nil {
		return nil, err
	}
	d, err := r.catalog.find(ctx, in.Name)
	if fault.Is(err, fault.Invalid) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &recipeOut{
		Name: d.Name, Provider: d.Provider, BuiltIn: builtIn, Description: d.Description, Doc: d.Doc,
		Evidence: d.Evidence, Style: d.Style, Slots: d.Slots, Manual: d.Instructions,
		Hosts: d.Hosts,
		Admin: showFields(d.Admin), Params: showFields(d.Params), Outputs: outputNames(d), Proof: d.Can.Proof,
		Retry: d.Can.Retry, Hash: d.Hash, Source: string(d.Source),
	}, nil
}

type recipeIn struct {
	Name   string `path:"name" doc:"The recipe's name."`
	Source string `json:"source" doc:"The recipe, HCL 2."`
}

// maxRecipe is the maximum size of a recipe's text in bytes.
const maxRecipe = 64 << 10

func (r recipeRoutes) write(ctx context.Context, req *route.Request, in recipeIn) (route.None, error) {
	p, err := r.catalog.recipeProvider()
	if err != nil {
		return route.None{}, err
	}
	_, builtIn, err := r.catalog.builtIn(in.Name)
	switch {
	case err != nil:
		return route.None{}, err
	case builtIn:
		return route.None{},
			fault.New("rotation.recipe", fault.Invalid,
				"field \"name\": %q is built in and cannot be replaced; take another name", in.Name)
	case !recipeForm.MatchString(in.Name):
		return route.None{},
			fault.New("rotation.recipe", fault.Invalid,
				"field \"name\": %q is refused; use 1 to 64 of a-z 0-9 -, beginning with a letter or digit", in.Name)
	case in.Source == "" || len(in.Source) > maxRecipe:
		return route.None{},
			fault.New("rotation.recipe", fault.Invalid, "field \"source\": give the recipe's text, at most %d KiB",
				maxRecipe>>10)
	}
	d, err := p.Parse(in.Name+".hcl", []byte(in.Source))
	if err != nil {
		return route.None{}, err
	}
	if d.Name != in.Name {
		return route.None{},
			fault.New("rotation.recipe", fault.Invalid,
				"field \"source\": the text names the recipe %q, not %q; write it under its own name", d.Name, in.Name)
	}
	if d.Can.Retry == rotate.RetryAdopt && !d.Can.Label {
		return route.None{}, fault.New("rotation.recipe", fault.Invalid, "field \"source\": retry = \"adopt\" needs "+
			"a list that shows the label of each key, because otherwise a key whose create reply was lost cannot be "+
			"told from keys of others; write the label into the create request and give list a label, or set "+
			"retry = \"never\"")
	}
	row, err := encode(userRecipe{p.Name, d.Hash, []byte(in.Source)})
	if err != nil {
		return route.None{}, err
	}
	before, err := r.catalog.userRecipe(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if before != nil && before.Hash != d.Hash {
		keys, err := r.keys.boundTo(ctx, in.Name)
		if err != nil {
			return route.None{}, err
		}
		for _, k := range keys {
			req.Warn("key %q keeps the earlier text and does not begin a rotation until it is bound again at "+
				"keys/%s/rebind", k, k)
		}
	}
	event := r.catalog.m.Host.Event("rotation/recipe",
		engine.Details(map[string]string{"recipe": in.Name, "hash": d.Hash})...)
	_, err = r.catalog.m.Store.CommitWith(ctx, []storage.Op{storage.Set(recipePrefix+in.Name, row)},
		[]storage.Op{event})
	return route.None{}, err
}

func (r recipeRoutes) delete(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	if _, builtIn, err := r.catalog.builtIn(in.Name); err != nil || builtIn {
		if builtIn {
			err = fault.New("rotation.recipe", fault.Invalid,
				"recipe %q is built in and cannot be deleted; only recipes that were written here can be", in.Name)
		}
		return route.None{}, err
	}
	keys, err := r.keys.boundTo(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if len(keys) > 0 {
		return route.None{},
			fault.New("rotation.recipe", fault.Conflict,
				"recipe %q is used by keys %q; delete these keys, or give them another recipe, first", in.Name, keys)
	}
	_, err = r.catalog.m.Store.Commit(ctx, storage.Remove(recipePrefix+in.Name))
	return route.None{}, err
}
