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

// Provider is the provider of all keys that recipes describe.
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
	Replay:       replayScript,
	OpenExamples: openExamples,
	Open:         func(c rotation.OpenConfig) (rotation.Source, error) { return open(c, nil) },
}

// builtIn parses the recipes that are built into the binary.
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
			return nil, fault.New("recipe.Definitions", fault.Internal, "the file %s holds recipe %q", entry.Name(),
				r.def.Name)
		}
		out = append(out, r.def)
	}
	slices.SortFunc(out, func(a, b rotation.Definition) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
