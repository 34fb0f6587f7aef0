package cli

import "fmt"

// absent are commands of Vault's that this program does not have, by the line
// that is typed after its name, with what to do instead.
var absent = map[string]string{
	"agent":           agentInstead,
	"proxy":           agentInstead,
	"debug":           "Start the server with -log-level=debug, and read sys/metrics?format=prometheus.",
	"monitor":         "The server's log is its standard error; -log-level=debug shows more.",
	"events":          "An audit device (\"audit enable file file_path=…\") has every request and every turn.",
	"namespace":       "There are no namespaces; a server for each tenant, or a mount with policies of its own, keeps them apart.",
	"plugin":          "All engines are built in; \"secrets enable\" takes them by name.",
	"pki":             engineInstead,
	"ssh":             engineInstead,
	"transit":         engineInstead,
	"transform":       engineInstead,
	"hcp":             "This program does not talk to HCP.",
	"version-history": "\"version\" and the server's sys/health have the version that runs.",

	"operator diagnose":      "\"server -config=FILE -check\" checks a configuration.",
	"operator generate-root": "Keep a token that may do what the root token did: \"token create -orphan -period=720h -policy=…\".",
	"operator key-status":    "The server replaces its data key in time by itself; \"operator rotate\" does it now.",
	"operator rekey":         "The keys that \"operator init\" printed stay valid.",
	"operator rotate-keys":   "The keys that \"operator init\" printed stay valid; \"operator rotate\" makes a new data key.",
	"operator raft":          clusterInstead,
	"operator members":       clusterInstead,
	"operator step-down":     clusterInstead,
	"operator migrate":       "Read from the old server and write to the new one: \"kv get -format=json\", \"kv put PATH @file\".",
	"operator import":        "Write each secret: \"kv put PATH @file\".",
	"operator usage":         "sys/metrics?format=prometheus has the server's figures.",
	"operator utilization":   "sys/metrics?format=prometheus has the server's figures.",
}

const (
	agentInstead   = "Vault Agent, Vault Proxy and consul-template work with this server as they are."
	engineInstead  = "There is no such engine here; \"secrets list\" shows what is mounted."
	clusterInstead = "A server is alone with its storage. To back it up, stop it, copy the storage folder, and start it."
)

// unbuilt is the error for a command of Vault's that is not there; nil: line is none.
func unbuilt(line string) error {
	instead, known := absent[line]
	if !known {
		return nil
	}
	return hinted(refusal{exitLocal, fmt.Sprintf("Error: the command %q is not built", line)}, "%s", instead)
}
