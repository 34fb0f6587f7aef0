package recipe

import (
	"io/fs"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/recipes"
)

// bound parses the text of a definition. bound refuses a text whose hash is not the one that the
// key is bound to.
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
