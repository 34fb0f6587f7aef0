package cli

// unsupportedCommands maps the commands of Vault that this program does not have to what to do
// instead.
var unsupportedCommands = map[string]string{
	"agent": agentInstead,
	"proxy": agentInstead,
	"debug": "collect the parts by hand: \"read -format=json sys/host-info\", \"read -format=json " +
		"sys/in-flight-req\", \"read -format=json sys/config/state/sanitized\", \"read -format=raw " +
		"sys/pprof/goroutine >goroutine.pprof\", \"read -format=raw sys/metrics format=prometheus\", and the " +
		"server's log at -log-level=debug.",
	"monitor": "follow the log with \"read -format=raw sys/monitor log_level=debug\", as long as " +
		"VAULT_CLIENT_TIMEOUT says; the server also writes it to standard error, and to log_file.",
	"events": "follow an audit device (\"audit enable file file_path=…\"): it has every request.",
	"namespace": "the server has no namespaces; keep tenants apart by a server for each, or by mounts " +
		"with policies of their own.",
	"plugin deregister":    pluginInstead,
	"plugin register":      pluginInstead,
	"plugin reload":        pluginInstead,
	"plugin reload-status": pluginInstead,
	"plugin runtime":       pluginInstead,
	"license":              "no license is needed.",
	"pki":                  engineInstead,
	"ssh":                  engineInstead,
	"transit":              engineInstead,
	"transform":            engineInstead,
	"hcp":                  "this program does not connect to HCP; name the server with -address or VAULT_ADDR.",

	"operator diagnose": "\"server -config=FILE -check\" checks a configuration.",
	"operator generate-root": "keep a token that may do what is needed: \"token create -orphan -period=720h " +
		"-policy=…\".",
	"operator rekey": "the keys that \"operator init\" printed stay valid.",
	"operator rotate-keys": "the keys that \"operator init\" printed stay valid; \"operator rotate\" makes a new " +
		"data key.",
	"operator raft":      clusterInstead,
	"operator step-down": clusterInstead,
	"operator migrate": "read from the old server and write to the new one: \"kv get -format=json -field=data " +
		"PATH\", \"kv put PATH @file\".",
	"operator import":      "write each secret: \"kv put PATH @file\".",
	"operator usage":       utilizationInstead,
	"operator utilization": utilizationInstead,
}

const (
	agentInstead = "run HashiCorp's Vault Agent, Vault Proxy or consul-template; they work with this server " +
		"unchanged."
	pluginInstead = "every engine is built in; \"plugin list\" shows them, and \"secrets enable TYPE\" mounts one."
	engineInstead = "there are no commands for that engine; use \"read\" and \"write\" on its paths, if the " +
		"server has it."
	clusterInstead = "there are no clusters; to back a server up, stop it, copy the storage folder, and start " +
		"it again."
	utilizationInstead = "clients are not counted, because nothing is billed by client; \"read " +
		"sys/internal/counters/tokens\" counts tokens, and \"read -format=raw sys/metrics format=prometheus\" has " +
		"the server's figures."
)

// unsupportedCommand returns the error for an unsupported command of Vault, or nil if line is
// none.
func unsupportedCommand(line string) error {
	instead, known := unsupportedCommands[line]
	if !known {
		return nil
	}
	return hinted(refuse(exitLocal, "Error: the command %q is not supported", line), "%s", instead)
}

// unsupportedFlags maps the flags of Vault's command line that this program does not have, or has
// for fewer commands, to what to do instead.
var unsupportedFlags = map[string]string{
	"allowed-managed-keys":                engineFlag,
	"delegated-auth-accessors":            engineFlag,
	"external-id":                         engineFlag,
	"identity-token-key":                  engineFlag,
	"override-pinned-version":             "every engine is built in and has one version; leave the flag out.",
	"trim-request-trailing-slashes":       "a path is never changed; write it without the slash.",
	"user-lockout-threshold":              lockoutFlag,
	"user-lockout-duration":               lockoutFlag,
	"user-lockout-counter-reset-duration": lockoutFlag,
	"user-lockout-disable":                lockoutFlag,
	"consul-auto":                         consulFlag,
	"consul-service":                      consulFlag,
	"stored-shares":                       "a server that unseals itself stores its own key; leave the flag out.",
	"unlock-key":                          "there are no namespaces that could be locked; leave the flag out.",
	"snapshot-id":                         snapshotFlag,
	"dr-token":                            "there is no replication; use a token of this server.",
}

const (
	engineFlag   = "no engine of this program has a use for it; leave it out."
	lockoutFlag  = "the login methods of this program have no passwords to guess; leave it out."
	consulFlag   = "Consul is not asked for servers; name one with -address or VAULT_ADDR."
	snapshotFlag = "a secret is not read from a snapshot; start a server on the copied storage folder and read there."
)
