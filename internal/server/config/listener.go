package config

import (
	"math"
	"net"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/wire"
)

// maxListeners is how many listeners a server has: each is compared with each other.
const maxListeners = 100

// listener reads one listener block.
func (p *parser) listener(b labelled) {
	if len(p.drafts) >= maxListeners {
		p.report.problem(b.at, "there are more than %d listeners; take some out", maxListeners)
		return
	}
	d := &draft{listener: Listener{At: b.at, Kind: b.label, given: given{}}}
	l := &d.listener
	switch b.label {
	case TCP:
		l.Address = "127.0.0.1:8200"
		p.report.members(b.list, tcpBlock, tcpKeys(p.report, d), l.given)
		if _, port, err := net.SplitHostPort(l.Address); err != nil || !isPort(port) {
			p.report.problem(b.at, "address: want a host and a port such as \"0.0.0.0:8200\", not %q", l.Address)
		}
		tlsOf(p.report, d)
		proxies(p.report, d)
	case Unix:
		l.Address = "/run/vault.sock"
		p.report.members(b.list, unixBlock, unixKeys(p.report, d), l.given)
		if !filepath.IsAbs(l.Address) {
			p.report.problem(b.at, "address: want the absolute path of a socket such as \"/run/vault.sock\", not %q",
				l.Address)
		}
	default:
		p.report.problem(b.at, "there is no listener %q; write listener \"tcp\" or listener \"unix\"", b.label)
		return
	}
	p.drafts = append(p.drafts, d)
}

// settle makes the listener, now that the top level is known.
func (p *parser) settle(d *draft) Listener {
	l, h := d.listener, &d.listener.HTTP
	if h.MaxTime = d.maxTime; h.MaxTime == 0 {
		h.MaxTime = p.server.MaxRequestTime
	}
	h.ReadTime = d.readTime
	h.LogRequests = p.server.Log.Requests
	l.HTTP, l.Timeouts = *h, httpapi.DefaultTimeouts(h.MaxTime)
	for name, set := range map[string]func(){
		"http_read_header_timeout": func() { l.Timeouts.ReadHeader = d.headerTime },
		"http_write_timeout":       func() { l.Timeouts.Write = d.writeTime },
		"http_idle_timeout":        func() { l.Timeouts.Idle = d.idleTime },
	} {
		if _, ok := l.given[name]; ok {
			set()
		}
	}
	// As Vault has it: nothing said stands for the next wider time.
	if l.Timeouts.ReadHeader == 0 {
		l.Timeouts.ReadHeader = d.readTime
	}
	if l.Timeouts.Idle == 0 {
		l.Timeouts.Idle = max(d.readTime, l.Timeouts.ReadHeader)
	}
	return l
}

// tcpKeys are the keys of a listener on a port.
func tcpKeys(r *report, d *draft) []key {
	l := &d.listener
	var cluster string
	all := []key{
		{name: "address", takes: "host:port or template", without: "127.0.0.1:8200", set: r.place(
			&l.Address), doc: "Where to listen."},
		{name: "cluster_address", takes: "host:port", doc: "Accepted with a warning: there are no clusters yet.",
			set: then(r.words(&cluster), func(i *ast.ObjectItem) {
				r.warn(r.at(i), "cluster_address: clusters are not implemented yet; take it out")
			})},
	}
	all = append(all, httpKeys(r, d)...)
	all = append(all, proxyKeys(r, d)...)
	return append(all, tlsKeys(r, d)...)
}

// unixKeys are the keys of a listener on a socket of this machine.
func unixKeys(r *report, d *draft) []key {
	l := &d.listener
	var sink bool
	all := []key{
		{name: "address", takes: "path", without: "/run/vault.sock", set: r.words(&l.Address),
			doc: "The path of the socket. A socket that no process listens on any more is replaced."},
		{name: "socket_group", takes: "name or number", set: owner(r,
			&l.Socket.Group), doc: "The group of the socket."},
		{name: "socket_mode", takes: "octal text", without: "by the process's umask", set: mode(r, &l.Socket.Mode),
			doc: "Who may use the socket, as for chmod: \"660\" for its user and group."},
		{name: "socket_user", takes: "name or number", set: owner(r,
			&l.Socket.User), doc: "The user that owns the socket."},
		{name: "tls_disable", takes: "boolean", without: "true",
			doc: "Accepted without effect: what goes through a socket of this machine is not encrypted.",
			set: then(r.truth(&sink), func(i *ast.ObjectItem) {
				if !sink {
					r.problem(r.at(i),
						"tls_disable: there is no TLS on a Unix socket; take it out, or use listener \"tcp\"")
				}
			})},
	}
	return append(all, httpKeys(r, d)...)
}

// httpKeys are those that say what requests may be, and what answers carry.
func httpKeys(r *report, d *draft) []key {
	return append(requestKeys(r, d), answerKeys(r, d)...)
}

func requestKeys(r *report, d *draft) []key {
	h := &d.listener.HTTP
	limit := wire.DefaultLimits
	d.readTime = defaultReadTime
	count := func(into *int, high int) setter {
		return r.small(into, 0, high, "a number from 1 to "+strconv.Itoa(high)+", or 0 for the default")
	}
	return []key{
		{name: "http_idle_timeout", takes: "duration", without: "5m", set: r.orNone(&d.idleTime),
			doc: "How long a connection waits for its next request. 0 stands for http_read_timeout."},
		{name: "http_read_header_timeout", takes: "duration", without: "10s", set: r.orNone(&d.headerTime),
			doc: "How long the header of a request may take. 0 stands for http_read_timeout."},
		{name: "http_read_timeout", takes: "duration", without: "30s", set: r.orNone(&d.readTime),
			doc: "How long it may take to read a request with its body. 0 stands for the longest time of a request."},
		{name: "http_write_timeout", takes: "duration", without: "the longest time of a request and ten seconds",
			set: r.orNone(&d.writeTime),
			doc: "How long after its header a request may still be answered. 0 is no limit."},
		{name: "max_json_array_element_count", takes: "number", without: strconv.Itoa(limit.Elements), reload: true,
			set: count(&h.JSON.Elements, math.MaxInt32),
			doc: "How many elements one array in a request may have."},
		{name: "max_json_depth", takes: "number", without: strconv.Itoa(limit.Depth), reload: true,
			set: count(&h.JSON.Depth, wire.MaxDepth),
			doc: "How deep the objects and arrays of a request may nest."},
		{name: "max_json_object_entry_count", takes: "number", without: strconv.Itoa(limit.Entries), reload: true,
			set: count(&h.JSON.Entries, math.MaxInt32),
			doc: "How many keys one object in a request may have."},
		{name: "max_json_string_value_length", takes: "bytes", without: strconv.Itoa(limit.StringLen), reload: true,
			set: count(&h.JSON.StringLen, math.MaxInt32),
			doc: "How long one string in a request may be."},
		{name: "max_json_token", takes: "number", without: strconv.Itoa(limit.Tokens), reload: true,
			set: count(&h.JSON.Tokens, math.MaxInt32),
			doc: "How many keys, values and brackets a request may have."},
		{name: "max_request_duration", takes: "duration", without: "default_max_request_duration",
			set: r.orNone(&d.maxTime),
			doc: "How long a request may take."},
		{name: "max_request_size", takes: "bytes", without: strconv.Itoa(httpapi.DefaultMaxBody), reload: true,
			set: bodySize(r, &h.MaxBody),
			doc: "How large a request's body may be. 0 is the default; a number below zero lifts the limit, with a warning."},
	}
}

func answerKeys(r *report, d *draft) []key {
	h := &d.listener.HTTP
	return []key{
		{name: "custom_response_headers", takes: "block", reload: true, set: headers(r, &h.Headers),
			doc: "Headers of answers, by status: `\"default\" = { \"X-Header\" = [\"value\"] }`, `\"2xx\" = …` or `\"307\" = …`. The most specific match applies; several values are joined by a semicolon."},
		{name: "redact_addresses", takes: "boolean", without: "false", reload: true, set: r.truth(&h.Redact.Addresses),
			doc: "Whether sys/leader leaves out addresses."},
		{name: "redact_cluster_name", takes: "boolean", without: "false", reload: true,
			set: r.truth(&h.Redact.ClusterName),
			doc: "Whether sys/health and sys/seal-status leave out the cluster's name."},
		{name: "redact_version", takes: "boolean", without: "false", reload: true, set: r.truth(&h.Redact.Version),
			doc: "Whether sys/health and sys/seal-status leave out versions and build dates."},
		{name: "telemetry", takes: "block", doc: "Who may read the metrics.", reload: true,
			set: func(i *ast.ObjectItem) { r.members(r.block(i), listenerTelemetry, telemetryKeys(r, d), given{}) }},
	}
}

// telemetryKeys are the keys of a listener's telemetry block.
func telemetryKeys(r *report, d *draft) []key {
	return []key{{name: "unauthenticated_metrics_access", takes: "boolean", without: "false", reload: true,
		set: r.truth(&d.listener.HTTP.OpenMetrics),
		doc: "Whether sys/metrics is served without a token."}}
}

// bodySize sets how large a body may be.
func bodySize(r *report, into *int64) setter {
	return then(r.number(into, math.MinInt64, math.MaxInt64, "a number of bytes"), func(item *ast.ObjectItem) {
		if *into < 0 {
			r.warn(r.at(item), "max_request_size: without a limit any client can fill the server's memory; set one")
		}
	})
}

// mode sets the permissions of a file. A bare number is read as it is written:
// 660 and 0660 are the same.
func mode(r *report, into *uint32) setter {
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

// owner sets the name or number of a user or group.
func owner(r *report, into *string) setter {
	return func(item *ast.ObjectItem) {
		if text, _, ok := r.literal(item); ok {
			*into = text
		}
	}
}
