package config

import (
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/wire"
)

// Kinds of listener.
const (
	TCP  = "tcp"
	Unix = "unix"
)

// A Listener is one address to serve on.
type Listener struct {
	At      Position
	Kind    string // TCP or Unix
	Address string // host:port, or the path of a socket

	Socket   Socket // of kind Unix
	TLS      TLS    // of kind TCP
	Proxy    Proxy  // of kind TCP
	HTTP     httpapi.Settings
	Timeouts httpapi.Timeouts

	given given
}

// Socket has the permissions of a Unix socket.
type Socket struct {
	Mode        uint32 // of the file; 0: by the process's umask
	User, Group string // names or numbers; "": those of the process
}

// URL names a listener in log lines.
func (l *Listener) URL() string {
	switch {
	case l.Kind == Unix:
		return "unix://" + l.Address
	case l.TLS.Disable:
		return "http://" + l.Address
	}
	return "https://" + l.Address
}

func (l *Listener) block() string {
	if l.Kind == Unix {
		return unixBlock
	}
	return tcpBlock
}

// A draft is a listener before the top level is known.
type draft struct {
	listener  Listener
	forwarded httpapi.Forwarded

	maxTime, readTime, writeTime, headerTime, idleTime time.Duration
}

// maxListeners limits the listeners, because each is compared with each other.
const maxListeners = 100

// readListener reads the block of a listener; nil: its kind is unknown.
func readListener(r *report, b labelled) *draft {
	d := &draft{listener: Listener{At: b.at, Kind: b.label, given: given{}}}
	l := &d.listener
	switch b.label {
	case TCP:
		l.Address = "127.0.0.1:8200"
		r.members(b.list, tcpBlock, tcpKeys(r, d), l.given)
		if _, port, err := net.SplitHostPort(l.Address); err != nil || !isPort(port) {
			r.problem(b.at, "address: want a host and a port such as \"0.0.0.0:8200\", not %q", l.Address)
		}
		checkTLS(r, l.At, &l.TLS)
		checkProxies(r, l.At, &l.Proxy, &d.forwarded, l.given)
		if len(d.forwarded.By) > 0 {
			l.HTTP.Forwarded = &d.forwarded
		}
	case Unix:
		l.Address = "/run/vault.sock"
		r.members(b.list, unixBlock, unixKeys(r, d), l.given)
		if !filepath.IsAbs(l.Address) {
			r.problem(b.at, "address: want the absolute path of a socket such as \"/run/vault.sock\", not %q",
				l.Address)
		}
	default:
		r.problem(b.at, "there is no listener %q; write listener \"tcp\" or listener \"unix\"", b.label)
		return nil
	}
	return d
}

// finish returns the listener, with the settings of the top level.
func (d *draft) finish(maxTime time.Duration, requests *slog.Level) Listener {
	l := d.listener
	h := &l.HTTP
	if h.MaxTime = d.maxTime; h.MaxTime == 0 {
		h.MaxTime = maxTime
	}
	h.ReadTime, h.LogRequests = d.readTime, requests
	l.Timeouts = httpapi.DefaultTimeouts(h.MaxTime)
	for _, t := range []struct {
		key  string
		to   *time.Duration
		from time.Duration
	}{
		{"http_read_header_timeout", &l.Timeouts.ReadHeader, d.headerTime},
		{"http_write_timeout", &l.Timeouts.Write, d.writeTime},
		{"http_idle_timeout", &l.Timeouts.Idle, d.idleTime},
	} {
		if _, ok := l.given[t.key]; ok {
			*t.to = t.from
		}
	}
	// As in Vault, 0 means the same as the next longer timeout.
	if l.Timeouts.ReadHeader == 0 {
		l.Timeouts.ReadHeader = d.readTime
	}
	if l.Timeouts.Idle == 0 {
		l.Timeouts.Idle = max(d.readTime, l.Timeouts.ReadHeader)
	}
	return l
}

// defaultReadTime is Vault's.
const defaultReadTime = 30 * time.Second

// tcpKeys are the keys of a listener on a port.
func tcpKeys(r *report, d *draft) []key {
	l := &d.listener
	var cluster string
	all := []key{
		{name: "address", kind: "host:port or template", byDefault: "127.0.0.1:8200", set: r.template(&l.Address),
			doc: "Where to listen."},
		{name: "cluster_address", kind: "host:port", doc: "Accepted with a warning: there are no clusters yet.",
			set: then(r.text(&cluster), func(i *ast.ObjectItem) {
				r.warn(r.at(i), "cluster_address: clusters are not implemented yet; remove it")
			})},
	}
	all = append(all, httpKeys(r, d)...)
	all = append(all, proxyKeys(r, &l.Proxy, &d.forwarded)...)
	return append(all, tlsKeys(r, &l.TLS)...)
}

// unixKeys are the keys of a listener on a socket of this machine.
func unixKeys(r *report, d *draft) []key {
	l := &d.listener
	var ignored bool
	all := []key{
		{name: "address", kind: "path", byDefault: "/run/vault.sock", set: r.text(&l.Address),
			doc: "The path of the socket. A socket that no process listens on any more is replaced."},
		{name: "socket_group", kind: "name or number", set: r.scalar(&l.Socket.Group),
			doc: "The group of the socket."},
		{name: "socket_mode", kind: "octal text", byDefault: "by the process's umask",
			set: permissions(r, &l.Socket.Mode),
			doc: "Who may use the socket, as for chmod: \"660\" for its user and group."},
		{name: "socket_user", kind: "name or number", set: r.scalar(&l.Socket.User),
			doc: "The user that owns the socket."},
		{name: "tls_disable", kind: "boolean", byDefault: "true",
			doc: "Accepted without effect: traffic through a socket of this machine is not encrypted.",
			set: then(r.boolean(&ignored), func(i *ast.ObjectItem) {
				if !ignored {
					r.problem(r.at(i),
						"tls_disable: there is no TLS on a Unix socket; remove it, or use listener \"tcp\"")
				}
			})},
	}
	return append(all, httpKeys(r, d)...)
}

// httpKeys are the keys for requests and answers.
func httpKeys(r *report, d *draft) []key {
	return append(requestKeys(r, d), answerKeys(r, d)...)
}

func requestKeys(r *report, d *draft) []key {
	h := &d.listener.HTTP
	limit := wire.DefaultLimits
	d.readTime = defaultReadTime
	count := func(into *int, high int) setter {
		return r.integer(into, 0, high, "a number from 1 to "+strconv.Itoa(high)+", or 0 for the default")
	}
	return []key{
		{name: "http_idle_timeout", kind: "duration", byDefault: "5m", set: r.durationOrZero(&d.idleTime),
			doc: "How long a connection waits for its next request. 0 stands for http_read_timeout."},
		{name: "http_read_header_timeout", kind: "duration", byDefault: "10s", set: r.durationOrZero(&d.headerTime),
			doc: "How long the header of a request may take. 0 stands for http_read_timeout."},
		{name: "http_read_timeout", kind: "duration", byDefault: "30s", set: r.durationOrZero(&d.readTime),
			doc: "How long it may take to read a request with its body. 0 stands for the longest time of a request."},
		{name: "http_write_timeout", kind: "duration", byDefault: "the longest time of a request and ten seconds",
			set: r.durationOrZero(&d.writeTime),
			doc: "How long after its header a request may still be answered. 0 is no limit."},
		{name: "max_json_array_element_count", kind: "number", byDefault: strconv.Itoa(limit.Elements), reload: true,
			set: count(&h.JSON.Elements, math.MaxInt32), doc: "How many elements one array in a request may have."},
		{name: "max_json_depth", kind: "number", byDefault: strconv.Itoa(limit.Depth), reload: true,
			set: count(&h.JSON.Depth, wire.MaxDepth), doc: "How deep the objects and arrays of a request may nest."},
		{name: "max_json_object_entry_count", kind: "number", byDefault: strconv.Itoa(limit.Entries), reload: true,
			set: count(&h.JSON.Entries, math.MaxInt32), doc: "How many keys one object in a request may have."},
		{name: "max_json_string_value_length", kind: "bytes", byDefault: strconv.Itoa(limit.StringLen), reload: true,
			set: count(&h.JSON.StringLen, math.MaxInt32), doc: "How long one string in a request may be."},
		{name: "max_json_token", kind: "number", byDefault: strconv.Itoa(limit.Tokens), reload: true,
			set: count(&h.JSON.Tokens, math.MaxInt32), doc: "How many keys, values and brackets a request may have."},
		{name: "max_request_duration", kind: "duration", byDefault: "default_max_request_duration",
			set: r.durationOrZero(&d.maxTime), doc: "How long a request may take."},
		{name: "max_request_size", kind: "bytes", byDefault: strconv.Itoa(httpapi.DefaultMaxBody), reload: true,
			set: bodySize(r, &h.MaxBody),
			doc: "How large a request's body may be. 0 is the default; a number below zero lifts the limit, with a " +
				"warning."},
	}
}

func answerKeys(r *report, d *draft) []key {
	h := &d.listener.HTTP
	return []key{
		{name: "custom_response_headers", kind: "block", reload: true, set: headers(r, &h.Headers),
			doc: "Headers of answers, by status: `\"default\" = { \"X-Header\" = [\"value\"] }`, `\"2xx\" = …` or " +
				"`\"307\" = …`. The most specific match applies; several values are joined by a semicolon."},
		{name: "redact_addresses", kind: "boolean", byDefault: "false", reload: true,
			set: r.boolean(&h.Redact.Addresses), doc: "Whether sys/leader leaves out addresses."},
		{name: "redact_cluster_name", kind: "boolean", byDefault: "false", reload: true,
			set: r.boolean(&h.Redact.ClusterName),
			doc: "Whether sys/health and sys/seal-status leave out the cluster's name."},
		{name: "redact_version", kind: "boolean", byDefault: "false", reload: true, set: r.boolean(&h.Redact.Version),
			doc: "Whether sys/health and sys/seal-status leave out versions and build dates."},
		{name: "telemetry", kind: "block", doc: "Who may read the metrics.", reload: true,
			set: func(i *ast.ObjectItem) { r.members(r.block(i), listenerTelemetry, telemetryKeys(r, d), given{}) }},
	}
}

// telemetryKeys are the keys of a listener's telemetry block.
func telemetryKeys(r *report, d *draft) []key {
	return []key{{name: "unauthenticated_metrics_access", kind: "boolean", byDefault: "false", reload: true,
		set: r.boolean(&d.listener.HTTP.OpenMetrics), doc: "Whether sys/metrics is served without a token."}}
}

// bodySize sets how large a body may be.
func bodySize(r *report, into *int64) setter {
	return then(r.number(into, math.MinInt64, math.MaxInt64, "a number of bytes"), func(item *ast.ObjectItem) {
		if *into < 0 {
			r.warn(r.at(item), "max_request_size: without a limit any client can fill the server's memory; set one")
		}
	})
}

// permissions sets the permissions of a file. A number without quotes is octal, too.
func permissions(r *report, into *uint32) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := r.literal(item)
		if lit, is := item.Val.(*ast.LiteralType); is && !lit.Token.JSON {
			if _, number := lit.Token.Value().(int64); number {
				text = lit.Token.Text
			}
		}
		n, err := strconv.ParseUint(text, 8, 32)
		if ok && text != "" && (err != nil || n > 0o7777) {
			r.problem(r.at(item), "%s: want permissions such as \"660\", not %q", label(item, 0), text)
			return
		}
		*into = uint32(n)
	}
}
