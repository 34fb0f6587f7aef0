package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Stanza is a block whose label is a driver, and whose members are the driver's parameters.
type Stanza struct {
	At     Position
	Name   string
	Params map[string]string
}

// storageAliases are old names of drivers.
var storageAliases = map[string]string{"inmem": "memory"}

// readStorage reads the block of the storage.
func readStorage(r *report, b labelled, known []storage.Driver) Stanza {
	if b.name == "backend" {
		r.warn(b.at, "backend: it is the old name of storage; write that")
	}
	s := Stanza{At: b.at, Name: b.label}
	if name, old := storageAliases[b.label]; old {
		s.Name = name
	}
	i := slices.IndexFunc(known, func(d storage.Driver) bool { return d.Name == s.Name })
	if i < 0 {
		r.problem(b.at, "there is no storage %q: %s; write %s", b.label, storageInstead(b.label), examples["storage"])
		return s
	}
	d := known[i]
	if s.Name == "memory" {
		r.warn(b.at, "storage %q: everything is lost when the server stops; use storage \"pebble\" to keep it",
			b.label)
	}
	var names []string
	for _, one := range d.Params {
		names = append(names, one.Name)
	}
	check := d.Check
	if check == nil {
		check = func(map[string]string) error { return nil }
	}
	s.Params = readParams(r, b, names, check)
	return s
}

// readSeal reads the block of the seal.
func readSeal(r *report, b labelled, known []seal.Driver) Stanza {
	s := Stanza{At: b.at, Name: b.label}
	i := slices.IndexFunc(known, func(d seal.Driver) bool { return d.Name == b.label })
	switch {
	case i >= 0:
	case slices.Contains(vaultSeals, b.label):
		r.problem(b.at,
			"seal %q: it is not implemented yet; use seal \"static\", with a key from a file or variable that your "+
				"key service fills, or shamir",
			b.label)
		return s
	default:
		r.problem(b.at, "there is no seal %q; use shamir or static", b.label)
		return s
	}
	var names []string
	for _, one := range known[i].Params {
		names = append(names, one.Name)
	}
	s.Params = readParams(r, b, names, func(params map[string]string) error {
		_, err := known[i].Open(params)
		return err
	})
	return s
}

// readParams reads the parameters of a driver, which checks their values.
func readParams(
	r *report, b labelled, names []string, check func(params map[string]string) error,
) map[string]string {
	params, keys, before := map[string]string{}, []key{}, len(r.problems)
	for _, name := range names {
		keys = append(keys, key{name: name, set: func(item *ast.ObjectItem) {
			if text, _, ok := r.literal(item); ok {
				params[name] = text
			}
		}})
	}
	r.members(b.list, fmt.Sprintf("%s %q", b.name, b.label), keys, given{})
	if len(r.problems) == before {
		if err := check(params); err != nil {
			r.problem(b.at, "%s", Reason(err))
		}
	}
	return params
}

func (s Stanza) equal(t Stanza) bool { return s.Name == t.Name && maps.Equal(s.Params, t.Params) }
