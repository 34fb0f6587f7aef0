package recipe

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/recipes"
)

// family is what a key's configuration says in "provider".
const family = "recipe"

// Provider is all third-party keys that are described by recipes.
var Provider = rotation.Provider{
	Name:        family,
	Definitions: builtIn,
	Parse: func(file string, source []byte) (rotation.Definition, error) {
		r, err := parse(file, source)
		if err != nil {
			return rotation.Definition{}, err
		}
		return r.def, nil
	},
	Test:     test,
	Rehearse: rehearse,
	Open:     func(c rotation.OpenConfig) (rotation.Source, error) { return open(c, nil) },
}

// builtIn parses the recipes in the binary.
func builtIn() ([]rotation.Definition, error) {
	entries, err := fs.ReadDir(recipes.Files, ".")
	if err != nil {
		return nil, fault.Wrap("recipe.Definitions", fault.Internal, err)
	}
	var out []rotation.Definition
	for _, entry := range entries {
		source, err := fs.ReadFile(recipes.Files, entry.Name())
		if err != nil {
			return nil, fault.Wrap("recipe.Definitions", fault.Internal, err)
		}
		r, err := parse(entry.Name(), source)
		if err != nil {
			return nil, fault.Wrap("recipe.Definitions", fault.Internal, err)
		}
		if name := strings.TrimSuffix(entry.Name(), ".hcl"); name != r.def.Name {
			return nil, fault.New("recipe.Definitions", fault.Internal, "the file %s holds recipe %q", entry.Name(), r.def.Name)
		}
		out = append(out, r.def)
	}
	slices.SortFunc(out, func(a, b rotation.Definition) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// bound parses the text that a key is bound to and makes sure that it is that text.
func bound(d rotation.Definition) (*recipe, error) {
	source := d.Source
	if len(source) == 0 {
		var err error
		if source, err = fs.ReadFile(recipes.Files, d.Name+".hcl"); err != nil {
			return nil, fault.New("recipe.Open", fault.NotFound, "there is no recipe %q; write it first", d.Name)
		}
	}
	if hash := hashOf(source); hash != d.Hash {
		return nil, fault.New("recipe.Open", fault.Held, "recipe %q has changed since the key was bound to it (it is %s now); bind the key anew", d.Name, hash)
	}
	r, err := parse(d.Name+".hcl", source)
	if err == nil && r.def.Name != d.Name {
		err = fault.New("recipe.Open", fault.Invalid, "the text is of recipe %q, not %q; write it under its own name", r.def.Name, d.Name)
	}
	return r, err
}
