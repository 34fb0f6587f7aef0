package config

import (
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/hcl/hcl/ast"
)

// labelledKeys are the keys of the top level that are blocks with a label, for the
// reference; top reads them.
var labelledKeys = []key{
	{name: "backend", takes: "block", doc: "The old name of `storage`, with the same content."},
	{name: "listener", takes: "block", doc: "Where to listen: `tcp` or `unix`. It may be given several times."},
	{
		name: "seal", takes: "block", without: "shamir",
		doc: "How the server is unsealed: `shamir`, with shares of a key, or `static`, automatically.",
	},
	{
		name: "storage", takes: "block",
		doc: "Where everything is stored: `pebble`, in a folder, or `memory` (also `inmem`), which loses it when the server stops.",
	},
}

// top reads the top level of a file. A key in two files is a contradiction, even if both are
// equal.
func (p *parser) top(list *ast.ObjectList) {
	blocks := map[string]func(labelled){
		"listener": p.listener, "storage": p.storage, "backend": p.storage, "seal": p.seal,
	}
	rest := &ast.ObjectList{}
	for _, item := range list.Items {
		read, ok := blocks[label(item, 0)]
		if !ok {
			rest.Add(item)
			continue
		}
		for _, b := range p.report.blocks(item) {
			read(b)
		}
	}
	keys := topKeys(p.report, &p.server)
	for i, k := range keys {
		keys[i].set = p.once(k.set)
	}
	p.report.members(rest, topBlock, keys, p.server.given)
}

// once is a setter that complains if another file has set its key already.
func (p *parser) once(set setter) setter {
	return func(item *ast.ObjectItem) {
		name := label(item, 0)
		if before, twice := p.set[name]; twice {
			p.report.problem(p.report.at(item), "%s: it is given already at %s; take one out", name, before)
			return
		}
		p.set[name] = p.report.at(item)
		set(item)
	}
}

// topKeys are the keys of the top level but the blocks with a label.
func topKeys(r *report, c *Server) []key {
	all := processKeys(r, c)
	all = append(all, logKeys(r, &c.Log)...)
	return append(all, noEffectKeys(r)...)
}

func processKeys(r *report, c *Server) []key {
	return []key{
		{name: "api_addr", takes: "URL or template", set: r.address(&c.APIAddr),
			doc: "Where clients reach this server. The variable `VAULT_API_ADDR` overrides it."},
		{name: "audit_folders", takes: "list of folders", without: "all but the system's",
			set: auditFolders(r, &c.AuditFolders),
			doc: "Where audit files may be written that are enabled by sys/audit. Files below a folder count as in it."},
		{name: "connection_folders", takes: "list of folders", without: "none", set: r.folders(&c.ConnectionFolders),
			doc: "Folders of this machine whose files a connection's configuration may name: certificates and keys in connection_url, and AWS's shared files. Every client that may write such a configuration can then present these keys to any server."},
		{name: "cluster_name", takes: "text", without: "keyturn- and the installation's id",
			set: r.words(&c.ClusterName),
			doc: "The name that sys/health and sys/seal-status show."},
		{name: "default_lease_ttl", takes: "duration", without: "768h", set: r.duration(&c.DefaultLeaseTTL),
			doc: "The TTL of leases and tokens whose request, role and mount have none."},
		{name: "default_max_request_duration", takes: "duration", without: "90s", set: maxTime(r, &c.MaxRequestTime),
			doc: "How long a request may take at a listener that does not say `max_request_duration`."},
		{name: "disable_cache", takes: "boolean", without: "false", set: r.truth(&c.DisableCache),
			doc: "Whether the store's cache is made as small as it can be. What else is kept in memory is small, and never older than the store."},
		{name: "enable_response_header_hostname", takes: "boolean", without: "false", reload: true,
			set: r.truth(&c.ShowHostname),
			doc: "Whether each answer carries the host's name as X-Vault-Hostname."},
		{name: "introspection_endpoint", takes: "boolean", without: "false", set: r.truth(&c.Introspection),
			doc: "Whether sys/internal/inspect shows how requests are routed, to callers with sudo on it."},
		{name: "max_lease_ttl", takes: "duration", without: "768h", set: r.duration(&c.MaxLeaseTTL),
			doc: "The longest TTL of leases and tokens."},
		{name: "outbound_allow", takes: "list of networks", without: "none", set: r.prefixes(&c.OutboundAllow),
			doc: "Addresses of this machine, of its link or of a cloud's metadata service that engines may connect to. They are refused otherwise."},
		{name: "pid_file", takes: "path", set: r.words(&c.PIDFile),
			doc: "The file that holds the server's process id while it runs."},
		{name: "rotation_metrics_limit", takes: "number", without: "5000",
			set: r.small(&c.RotationSeries, 0, 1_000_000, "how many credentials have series of their own"),
			doc: "How many credentials that rotate have series of their own in the metrics, those in trouble first. All are counted by mount. Each has eight series."},
		{name: "raw_storage_endpoint", takes: "boolean", without: "false", set: r.truth(&c.RawStorage),
			doc: "Whether sys/raw reads and writes the decrypted rows of the store, for callers with sudo on it. Set it for as long as it is needed: no other policy guards what it shows."},
	}
}

func logKeys(r *report, l *Log) []key {
	return []key{
		{name: "log_file", takes: "path", set: r.words(&l.File),
			doc: "The file to log to besides the standard error; a folder, written with a slash at its end, stands for vault.log in it, and a name without an ending gets .log. SIGHUP reopens it, for tools that move it away."},
		{name: "log_format", takes: "text", without: "text", set: logFormat(r, &l.Format),
			doc: "The form of the log: text (or standard) or json. The variable `VAULT_LOG_FORMAT` overrides it."},
		{name: "log_level", takes: "text", without: "info", reload: true, set: level(r, &l.Level),
			doc: "The log level: trace, debug, info, warn or error. The variable `VAULT_LOG_LEVEL` overrides it until SIGHUP."},
		{name: "log_requests_level", takes: "text", without: "off", reload: true, set: requestsLevel(r, &l.Requests),
			doc: "The level at which each request that was answered is logged: trace, debug, info, warn, error or off."},
		{name: "log_rotate_bytes", takes: "bytes", without: "not counted",
			set: r.number(&l.RotateBytes, 0, math.MaxInt64, "a number of bytes, or 0 for no limit"),
			doc: "How large log_file may become before a new one is begun."},
		{name: "log_rotate_duration", takes: "duration", without: "24h", set: r.duration(&l.RotateEvery),
			doc: "How long log_file is written to before a new one is begun."},
		{name: "log_rotate_max_files", takes: "number", without: "0",
			set: r.small(&l.MaxFiles, -1, 1_000_000, "how many old files are kept, 0 for all or -1 for none"),
			doc: "How many old log files are kept: 0 keeps all of them, -1 none."},
	}
}

// noEffectKeys are accepted for compatibility, with little or no effect.
func noEffectKeys(r *report) []key {
	var ui, mlock, sink bool
	var old string
	return []key{
		{name: "cluster_addr", takes: "URL or template", doc: "Accepted with a warning: there are no clusters yet.",
			set: then(r.place(&old),
				func(i *ast.ObjectItem) {
					r.warn(r.at(i), "cluster_addr: clusters are not implemented yet; take it out")
				})},
		{name: "disable_mlock", takes: "boolean",
			doc: "Taken for the sake of old configurations: memory is not locked by this version, and false is warned of.",
			set: then(r.truth(&mlock), func(i *ast.ObjectItem) {
				if !mlock {
					r.warn(r.at(i), "disable_mlock: this version does not lock memory; disable swap, or encrypt it")
				}
			})},
		{name: "enable_response_header_raft_node_id", takes: "boolean", without: "false", set: r.truth(&sink),
			doc: "Accepted without effect: the header would name a node of a Raft cluster, and this server is none."},
		{name: "telemetry", takes: "block",
			doc: "Where metrics are pushed to; taken with a warning: let Prometheus read /v1/sys/metrics?format=prometheus.",
			set: func(i *ast.ObjectItem) { r.members(r.block(i), telemetryBlock, pushKeys(r), given{}) }},
		{name: "ui", takes: "boolean", without: "false",
			doc: "Accepted with a warning: the web interface is not implemented yet.",
			set: then(r.truth(&ui), func(i *ast.ObjectItem) {
				if ui {
					r.warn(r.at(i), "ui: the web interface is not implemented yet; use the command line")
				}
			})},
	}
}

// pushKeys are the keys of the telemetry block that are as they should be already.
func pushKeys(r *report) []key {
	var sink bool
	var keep time.Duration
	return []key{
		{name: "disable_hostname", takes: "boolean", without: "true", set: r.truth(&sink),
			doc: "Accepted without effect: the names of metrics never have the host's name before them."},
		{name: "prometheus_retention_time", takes: "duration", without: "for ever", set: r.orNone(&keep),
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

// level sets the level of the log.
func level(r *report, into *slog.Level) setter {
	var text string
	return then(r.words(&text), func(item *ast.ObjectItem) {
		l, err := Level(text)
		if err != nil {
			r.problem(r.at(item), "%s: %v", label(item, 0), err)
		}
		*into = l
	})
}

// requestsLevel sets the level of the line about each request.
func requestsLevel(r *report, into **slog.Level) setter {
	var text string
	return then(r.words(&text), func(item *ast.ObjectItem) {
		if strings.EqualFold(text, "off") || text == "" {
			return
		}
		l, err := Level(text)
		if err != nil {
			r.problem(r.at(item), "log_requests_level: want trace, debug, info, warn, error or off, not %q", text)
		}
		*into = &l
	})
}

func logFormat(r *report, into *string) setter {
	return then(r.words(into), func(item *ast.ObjectItem) {
		f, err := Format(*into)
		if err != nil {
			r.problem(r.at(item), "log_format: %v", err)
		}
		*into = f
	})
}

// maxTime sets how long a request may take; 0 is the default.
func maxTime(r *report, into *time.Duration) setter {
	before := *into
	return then(r.orNone(into), func(*ast.ObjectItem) {
		if *into == 0 {
			*into = before
		}
	})
}

// whole checks rules that concern several lines.
func (p *parser) whole() {
	c := &p.server
	for _, d := range p.drafts {
		c.Listeners = append(c.Listeners, p.settle(d))
	}
	if p.mode != nil {
		p.develop(p.mode)
	}
	complete := len(p.report.problems) == 0 // a file that could not be read may have what is missing
	if complete && len(c.Listeners) == 0 {
		p.report.problem(Position{}, "the configuration has no listener; it needs one such as %s",
			examples["listener"])
	}
	if complete && c.Storage.Name == "" {
		p.report.problem(Position{}, "the configuration has no storage; it needs one such as %s", examples["storage"])
	}
	for i, l := range c.Listeners {
		for _, before := range c.Listeners[:i] {
			if l.Kind == before.Kind && l.Address == before.Address {
				p.report.problem(l.At, "address: %s is given already at %s; take one out", l.Address, before.At)
			}
		}
	}
	if c.MaxLeaseTTL > 0 && c.DefaultLeaseTTL > c.MaxLeaseTTL {
		p.report.problem(p.set["default_lease_ttl"],
			"default_lease_ttl: %s must not be more than max_lease_ttl, which is %s", c.DefaultLeaseTTL, c.MaxLeaseTTL)
	}
}
