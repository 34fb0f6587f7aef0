// Package kv is the key/value engine, unversioned (1) and versioned (2).
//
// Version 1 stores a secret at d/<path>. Version 2 stores
//
//	m/<path>                  the metadata record: settings, and each version's times
//	v/<path>\x00<version>     the data of one version, ten digits
//	next/<unix s, 16 hex>/<path>  index of ages, by deadline: dates and class of a secret;
//	                        the Unix time 0 stands for dates that cannot be judged
//	ages                    how far the index covers secrets of earlier versions of Keyturn
//	config                    the mount's settings
//	upgraded                  empty; exists if the mount is versioned
//
// A mount becomes versioned in the commit that changes its option and writes "upgraded". Every
// write of version 1 asserts that "upgraded" is absent, so that no server writes to d/ afterwards.
// A secret at d/ is migrated to a version when it is first accessed, or in the background. A mount
// cannot return to version 1.
//
// A write asserts the version of the metadata record, so that two writers never create the same
// version. The data and the metadata of a version, its row in the index, and its event, are in one
// commit.
package kv

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Type is the key/value engine.
var Type = engine.Type{Name: "kv", Aliases: []string{"generic"}, Inherits: true, Options: options, Open: open}

// versionOption is the only option. Without it, or if it is "1", the mount is unversioned.
const versionOption = "version"

func options(was, want map[string]string) (engine.Options, error) {
	const op = "kv.options"
	out := engine.Options{Stored: want}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if name != versionOption {
			out.Warnings = append(out.Warnings, fmt.Sprintf(
				"the option %q is kept and has no effect: kv reads \"version\" alone; settings such as "+
					"max_versions go to config below the mount",
				name))
		}
	}
	version, given := want[versionOption]
	switch {
	case given && version != "1" && version != "2":
		return engine.Options{}, fault.New(op, fault.Invalid, "options.version must be \"1\" or \"2\", not %q",
			version)
	case isVersioned(was) && !isVersioned(want):
		return engine.Options{}, fault.New(op, fault.Invalid,
			"options.version: a versioned mount cannot be made unversioned again, because only one version of each "+
				"secret would be left; mount another with version 1, and copy the secrets to it")
	case isVersioned(want) && !isVersioned(was):
		all, err := walkRows.Set("", walked{Done: true})
		out.Along = []storage.Op{storage.Set(upgradedKey, nil), all} // a migrated secret is indexed
		return out, err
	}
	return out, nil
}

func isVersioned(options map[string]string) bool { return options[versionOption] == "2" }

func open(ctx context.Context, m *engine.Mount) (engine.Engine, error) {
	if isVersioned(m.Settings().Options) {
		return openVersioned(ctx, m)
	}
	return &unversioned{m}, nil
}
