package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
)

// absentFlags are flags of `vault server` that this server does not have, with what to do instead.
var absentFlags = map[string]string{
	"dev-auto-seal":         "-dev unseals itself with a key that it prints",
	"dev-ha":                clusterFlag,
	"dev-three-node":        clusterFlag,
	"dev-four-cluster":      clusterFlag,
	"dev-cluster-json":      clusterFlag,
	"dev-transactional":     "everything is written in transactions; leave the flag out",
	"dev-latency":           "slow the network down where the client is",
	"dev-latency-jitter":    "slow the network down where the client is",
	"dev-leased-kv":         "secrets that are read from kv have no lease; leave the flag out",
	"dev-no-kv":             "disable the engine once it runs: keyturn secrets disable secret",
	"dev-plugin-dir":        "every engine is built in; leave the flag out",
	"dev-plugin-init":       "every engine is built in; leave the flag out",
	"dev-skip-init":         "start with -config and storage \"memory\" to initialize by hand",
	"exit-on-core-shutdown": "the server ends when it cannot go on; leave the flag out",
	"experiment":            "there are no experiments; leave the flag out",
	"pprof-dump-dir":        "read sys/pprof while it runs",
	"recovery": "a server starts sealed, and sys/raw (raw_storage_endpoint in the configuration) " +
		"reaches its rows once it is unsealed",
}

const clusterFlag = "clusters are not implemented yet; remove it"

// UnknownFlag returns the error for an unknown flag. It says what to do instead, or which flag was
// probably meant.
func UnknownFlag(name string, known []string) error {
	if instead, ok := absentFlags[name]; ok {
		return fmt.Errorf("the flag -%s is not supported: %s", name, instead)
	}
	if best := fault.Nearest(name, known); best != "" {
		return fmt.Errorf("there is no flag -%s; did you mean -%s?", name, best)
	}
	return fmt.Errorf("there is no flag -%s; server -h lists them", name)
}

// AbsentFlags returns the names of Vault's flags that do not exist here.
func AbsentFlags() []string { return slices.Sorted(maps.Keys(absentFlags)) }
