// Package recipes holds the recipes that are built in, one HCL file per kind of
// third-party key: data, not code. A file's name is the recipe's name and
// ".hcl"; testdata has recorded exchanges for each. README.md describes the form.
package recipes

import "embed"

// Files holds every recipe.
//
//go:embed *.hcl
var Files embed.FS
