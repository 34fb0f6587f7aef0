package config

import (
	"maps"
	"slices"
)

// A Field is one key of the configuration, for the reference.
type Field struct {
	Block   string // "" for the top level, `listener "tcp"`, `storage "pebble"` …
	Name    string
	Type    string
	Default string
	Doc     string
}

// Fields describes every key that the parser takes, the top level first, and
// those of drivers that are known here.
func Fields() []Field {
	p := newParser(Known{})
	var version string
	all := fieldsOf("", p.topSetters())
	all = append(all, fieldsOf(`listener "tcp"`, p.listenerSetters(&Listener{}, &version))...)
	all = append(all, fieldsOf("telemetry of a listener", p.telemetrySetters(&Listener{}))...)
	for _, block := range []string{`storage "pebble"`, `seal "static"`} {
		for _, name := range slices.Sorted(maps.Keys(described[block])) {
			all = append(all, field(block, name))
		}
	}
	return all
}

func fieldsOf(block string, setters map[string]setter) []Field {
	var all []Field
	for _, name := range slices.Sorted(maps.Keys(setters)) {
		all = append(all, field(block, name))
	}
	return all
}

func field(block, name string) Field {
	d := described[block][name]
	return Field{Block: block, Name: name, Type: d.kind, Default: d.without, Doc: d.doc}
}

// described says of each key what it takes, what holds without it, and what it
// is for. A test wants every key of the parser's here.
var described = map[string]map[string]struct{ kind, without, doc string }{
	"": {
		"api_addr":           {"URL", "", "Where clients reach this server."},
		"audit_folders":      {"list of folders", "all but the system's", "Where audit files may be written that are enabled by sys/audit. Files below a folder count as in it."},
		"connection_folders": {"list of folders", "none", "Folders of this machine whose files a connection's configuration may name: certificates and keys in connection_url, and AWS's shared files. Whoever may write such a configuration can then present these keys anywhere."},
		"cluster_addr":       {"URL", "", "Taken with a warning: there are no clusters yet."},
		"cluster_name":       {"text", "keyturn- and the installation's id", "The name that sys/health and sys/seal-status show."},
		"default_lease_ttl":  {"duration", "768h", "The TTL of leases and tokens whose request, role and mount have none."},
		"disable_mlock":      {"boolean", "", "Taken for the sake of old configurations: memory is not locked by this version, and false is warned of."},
		"log_format":         {"text", "text", "The form of the log: text (or standard) or json."},
		"log_level":          {"text", "info", "What the log tells: trace, debug, info, warn or error. SIGHUP reads it anew."},
		"max_lease_ttl":      {"duration", "768h", "The longest TTL of leases and tokens."},
		"outbound_allow":     {"list of networks", "none", "Addresses on this machine, on the link or of a cloud's metadata service that engines may connect to all the same."},
		"telemetry":          {"block", "", "Taken with a warning: let Prometheus read /v1/sys/metrics?format=prometheus."},
		"ui":                 {"boolean", "false", "Taken with a warning: the web interface is not built yet."},
	},
	`listener "tcp"`: {
		"address":                            {"host:port", "127.0.0.1:8200", "Where to listen."},
		"cluster_address":                    {"host:port", "", "Taken with a warning: there are no clusters yet."},
		"max_request_duration":               {"duration", "90s", "How long a request may take."},
		"max_request_size":                   {"bytes", "33554432", "How large a request's body may be."},
		"telemetry":                          {"block", "", "Who may read the metrics."},
		"tls_cert_file":                      {"path", "", "The server's certificate and those that signed it, in PEM. SIGHUP reads it anew."},
		"tls_client_ca_file":                 {"path", "", "The authorities whose client certificates are accepted, in PEM."},
		"tls_disable":                        {"boolean", "false", "Whether everything travels in the clear."},
		"tls_key_file":                       {"path", "", "The certificate's key, in PEM. SIGHUP reads it anew."},
		"tls_min_version":                    {"text", "tls12", "The oldest version of TLS that is spoken: tls12 or tls13."},
		"tls_require_and_verify_client_cert": {"boolean", "false", "Whether clients without a certificate are refused."},
	},
	"telemetry of a listener": {
		"unauthenticated_metrics_access": {"boolean", "false", "Whether sys/metrics is served without a token."},
	},
	`storage "pebble"`: {
		"cache_bytes": {"bytes", "29360128", "How much memory the cache of blocks takes, at least 1048576."},
		"path":        {"path", "", "The folder to keep everything in."},
	},
	`seal "static"`: {
		"current_key":     {"file:///path or env://NAME", "", "Where the key is: 32 random bytes that unseal the server."},
		"current_key_id":  {"text", "", "What the key is called, so that it is known after a change."},
		"previous_key":    {"file:///path or env://NAME", "", "Where the key before is, while the seal is still made with it."},
		"previous_key_id": {"text", "", "What the key before is called."},
	},
}
