package config

import (
	"time"

	"github.com/hashicorp/hcl/hcl/ast"
)

// defaultRotationSeries limits a scrape to some ten megabytes, because each credential has eight
// series of about 200 bytes.
const defaultRotationSeries = 5000

// topKeys are the keys of the top level, without blocks that have a label.
func topKeys(r *report, c *Server) []key {
	all := processKeys(r, c)
	all = append(all, logKeys(r, &c.Log)...)
	return append(all, noEffectKeys(r)...)
}

func processKeys(r *report, c *Server) []key {
	return []key{
		{name: "api_addr", kind: "URL or template", set: r.serverURL(&c.APIAddr),
			doc: "Where clients reach this server. The variable `VAULT_API_ADDR` overrides it."},
		{name: "audit_folders", kind: "list of folders", byDefault: "all but the system's",
			set: auditFolders(r, &c.AuditFolders),
			doc: "Where audit files may be written that are enabled by sys/audit. Files below a folder " +
				"count as in it."},
		{name: "connection_folders", kind: "list of folders", byDefault: "none", set: r.folders(&c.ConnectionFolders),
			doc: "Folders of this machine whose files a connection's configuration may name: certificates and keys " +
				"in connection_url, and AWS's shared files. Every client that may write such a configuration can " +
				"then present these keys to any server."},
		{name: "cluster_name", kind: "text", byDefault: "keyturn- and the installation's id",
			set: r.text(&c.ClusterName), doc: "The name that sys/health and sys/seal-status show."},
		{name: "default_lease_ttl", kind: "duration", byDefault: "768h", set: r.duration(&c.DefaultLeaseTTL),
			doc: "The TTL of leases and tokens whose request, role and mount have none."},
		{name: "default_max_request_duration", kind: "duration", byDefault: "90s", set: maxTime(r, &c.MaxRequestTime),
			doc: "How long a request may take at a listener that does not say `max_request_duration`."},
		{name: "disable_cache", kind: "boolean", byDefault: "false", set: r.boolean(&c.DisableCache),
			doc: "Whether the store's cache is as small as possible. Other caches are small, and never older than " +
				"the store."},
		{name: "enable_response_header_hostname", kind: "boolean", byDefault: "false", reload: true,
			set: r.boolean(&c.ShowHostname), doc: "Whether each answer carries the host's name as X-Vault-Hostname."},
		{name: "introspection_endpoint", kind: "boolean", byDefault: "false", set: r.boolean(&c.Introspection),
			doc: "Whether sys/internal/inspect shows how requests are routed, to callers with sudo on it."},
		{name: "max_lease_ttl", kind: "duration", byDefault: "768h", set: r.duration(&c.MaxLeaseTTL),
			doc: "The longest TTL of leases and tokens."},
		{name: "outbound_allow", kind: "list of networks", byDefault: "none", set: r.networks(&c.OutboundAllow),
			doc: "Addresses of this machine, of its link or of a cloud's metadata service that engines may connect " +
				"to. They are refused otherwise."},
		{name: "pid_file", kind: "path", set: r.text(&c.PIDFile),
			doc: "The file that contains the server's process ID while it runs."},
		{name: "rotation_metrics_limit", kind: "number", byDefault: "5000",
			set: r.integer(&c.RotationSeries, 0, 1_000_000, "how many credentials have series of their own"),
			doc: "How many credentials that rotate have series of their own in the metrics, those in trouble first. " +
				"All are counted by mount. Each has eight series."},
		{name: "raw_storage_endpoint", kind: "boolean", byDefault: "false", set: r.boolean(&c.RawStorage),
			doc: "Whether sys/raw reads and writes the decrypted rows of the store, for callers with sudo on it. " +
				"Set it for as long as it is needed: no other policy guards what it shows."},
	}
}

// noEffectKeys are accepted for compatibility, with little or no effect.
func noEffectKeys(r *report) []key {
	var ui, mlock, ignored bool
	var old string
	return []key{
		{name: "cluster_addr", kind: "URL or template", doc: "Accepted with a warning: there are no clusters yet.",
			set: then(r.template(&old), func(i *ast.ObjectItem) {
				r.warn(r.at(i), "cluster_addr: clusters are not implemented yet; remove it")
			})},
		{name: "disable_mlock", kind: "boolean",
			doc: "Accepted for compatibility: this version does not lock memory. With false, the server logs a " +
				"warning.", set: then(r.boolean(&mlock), func(i *ast.ObjectItem) {
				if !mlock {
					r.warn(r.at(i), "disable_mlock: this version does not lock memory; disable swap, or encrypt it")
				}
			})},
		{name: "enable_response_header_raft_node_id", kind: "boolean", byDefault: "false", set: r.boolean(&ignored),
			doc: "Accepted without effect: the header would name a node of a Raft cluster, and this " +
				"server is not one."},
		{name: "telemetry", kind: "block",
			doc: "Accepted with warnings: metrics are not pushed; let Prometheus read " +
				"/v1/sys/metrics?format=prometheus.",
			set: func(i *ast.ObjectItem) { r.members(r.block(i), telemetryBlock, pushKeys(r), given{}) }},
		{name: "ui", kind: "boolean", byDefault: "false",
			doc: "Accepted with a warning: the web interface is not implemented yet.",
			set: then(r.boolean(&ui), func(i *ast.ObjectItem) {
				if ui {
					r.warn(r.at(i), "ui: the web interface is not implemented yet; use the command line")
				}
			})},
	}
}

// pushKeys are the keys of the telemetry block whose values make no difference.
func pushKeys(r *report) []key {
	var ignored bool
	var keep time.Duration
	return []key{
		{name: "disable_hostname", kind: "boolean", byDefault: "true", set: r.boolean(&ignored),
			doc: "Accepted without effect: the names of metrics never begin with the host's name."},
		{name: "prometheus_retention_time", kind: "duration", byDefault: "for ever", set: r.durationOrZero(&keep),
			doc: "Accepted without effect: metrics count from the start of the server."},
	}
}

// auditFolders sets a list that must not be empty, because an empty list would have the meaning of
// no list.
func auditFolders(r *report, into *[]string) setter {
	return then(r.folders(into), func(item *ast.ObjectItem) {
		if list, ok := item.Val.(*ast.ListType); ok && len(list.List) == 0 {
			r.problem(r.at(item), "audit_folders: the list is empty; name a folder, or leave the key out")
		}
	})
}

// maxTime sets how long a request may take; 0 means the default.
func maxTime(r *report, into *time.Duration) setter {
	before := *into
	return then(r.durationOrZero(into), func(*ast.ObjectItem) {
		if *into == 0 {
			*into = before
		}
	})
}

// labelledKeys describe the blocks of the top level that have a label.
var labelledKeys = []key{
	{name: "backend", kind: "block", doc: "The old name of `storage`, with the same content."},
	{name: "listener", kind: "block", doc: "Where to listen: `tcp` or `unix`. It may be given several times."},
	{
		name: "seal", kind: "block", byDefault: "shamir",
		doc: "How the server is unsealed: `shamir`, with shares of a key, or `static`, automatically.",
	},
	{
		name: "storage", kind: "block",
		doc: "Where everything is stored: `pebble`, in a folder, or `memory` (also `inmem`), which loses it when " +
			"the server stops.",
	},
}
