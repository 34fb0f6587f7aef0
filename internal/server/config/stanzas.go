package config

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
)

// top reads the top level of a file. A key that stands in two files is a
// contradiction, even if both agree.
func (p *parser) top(list *ast.ObjectList) {
	setters := p.topSetters()
	blocks := map[string]func(labelled){"listener": p.listener, "storage": p.storage, "seal": p.seal}
	rest := &ast.ObjectList{}
	for _, item := range list.Items {
		read, ok := blocks[key(item, 0)]
		if !ok {
			rest.Add(item)
			continue
		}
		for _, b := range p.blocks(item) {
			read(b)
		}
	}
	for name := range blocks { // they are known, too
		setters[name] = func(*ast.ObjectItem) {}
	}
	p.members(rest, "the configuration", setters)
}

// topSetters are the keys of the top level that are no blocks with a label.
func (p *parser) topSetters() map[string]setter {
	c := &p.config
	var scratch struct {
		ui, mlock    bool
		level, shape string
		cluster      string
	}
	once := func(set setter) setter {
		return func(item *ast.ObjectItem) {
			name := key(item, 0)
			if before, twice := p.set[name]; twice {
				p.problem(p.at(item), "%s: it is given already at %s; take one out", name, before)
				return
			}
			p.set[name] = p.at(item)
			set(item)
		}
	}
	return map[string]setter{
		"audit_folders": once(then(folders(p, &c.AuditFolders), func(i *ast.ObjectItem) {
			if list, ok := i.Val.(*ast.ListType); ok && len(list.List) == 0 { // which would mean what no list means
				p.problem(p.at(i), "audit_folders: the list is empty; name a folder, or leave the key out")
			}
		})),
		"connection_folders": once(folders(p, &c.ConnectionFolders)),

		"api_addr":          once(p.address(&c.APIAddr)),
		"cluster_addr":      once(p.unbuilt(p.address(&scratch.cluster), "there are no clusters yet; one server serves")),
		"cluster_name":      once(p.words(&c.ClusterName)),
		"default_lease_ttl": once(p.duration(&c.DefaultLeaseTTL)),
		"max_lease_ttl":     once(p.duration(&c.MaxLeaseTTL)),
		"outbound_allow":    once(p.prefixes(&c.OutboundAllow)),
		"log_level":         once(then(p.words(&scratch.level), func(i *ast.ObjectItem) { p.level(i, scratch.level) })),
		"log_format":        once(then(p.words(&scratch.shape), func(i *ast.ObjectItem) { p.format(i, scratch.shape) })),
		"ui": once(then(p.truth(&scratch.ui), func(i *ast.ObjectItem) {
			if scratch.ui {
				p.warn(p.at(i), "ui: the web interface is not built yet; use the command line")
			}
		})),
		"disable_mlock": once(then(p.truth(&scratch.mlock), func(i *ast.ObjectItem) {
			if !scratch.mlock {
				p.warn(p.at(i), "disable_mlock: memory is not locked by this version; turn swap off or encrypt it")
			}
		})),
		"telemetry": once(p.unbuilt(func(*ast.ObjectItem) {}, "pushing metrics is not built yet; let Prometheus read /v1/sys/metrics?format=prometheus")),
	}
}

// then does one after the other.
func then(first, second setter) setter {
	return func(item *ast.ObjectItem) {
		first(item)
		second(item)
	}
}

// unbuilt takes a member that has no effect yet, and says so.
func (p *parser) unbuilt(set setter, why string) setter {
	return then(set, func(item *ast.ObjectItem) { p.warn(p.at(item), "%s: %s", key(item, 0), why) })
}

func (p *parser) level(item *ast.ObjectItem, text string) {
	l, err := Level(text)
	if err != nil {
		p.problem(p.at(item), "log_level: %v", err)
	}
	p.config.LogLevel = l
}

func (p *parser) format(item *ast.ObjectItem, text string) {
	f, err := Format(text)
	if err != nil {
		p.problem(p.at(item), "log_format: %v", err)
	}
	p.config.LogFormat = f
}

// address sets a URL of this server.
func (p *parser) address(into *string) setter {
	return then(p.words(into), func(item *ast.ObjectItem) {
		u, err := url.Parse(*into)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			p.problem(p.at(item), "%s: want a URL such as \"https://keyturn.example.org:8200\"", key(item, 0))
		}
	})
}

// tlsVersions are the names that tls_min_version takes.
var tlsVersions = map[string]uint16{"": tls.VersionTLS12, "tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13}

// listener reads one listener block.
func (p *parser) listener(b labelled) {
	if b.label != "tcp" {
		p.problem(b.at, "listener %q: only listener \"tcp\" is built", b.label)
		return
	}
	l := Listener{At: b.at, Address: "127.0.0.1:8200"}
	var version string
	p.members(b.list, `listener "tcp"`, p.listenerSetters(&l, &version))
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		p.problem(b.at, "address: want a host and a port such as \"0.0.0.0:8200\", not %q", l.Address)
	}
	v, ok := tlsVersions[version]
	if !ok {
		p.problem(b.at, "tls_min_version: want tls12 or tls13, not %q; older ones are broken", version)
	}
	l.MinVersion = v
	p.config.Listeners = append(p.config.Listeners, l)
	if why := l.contradiction(); why != "" {
		p.problem(b.at, "%s", why)
		return
	}
	if _, err := l.TLS(); ok && err != nil {
		p.problem(b.at, "%v", err)
	}
}

// listenerSetters are the keys of a listener block.
func (p *parser) listenerSetters(l *Listener, version *string) map[string]setter {
	var cluster string
	return map[string]setter{
		"address":                            p.words(&l.Address),
		"cluster_address":                    p.unbuilt(p.words(&cluster), "there are no clusters yet; one server serves"),
		"tls_disable":                        p.truth(&l.TLSDisable),
		"tls_cert_file":                      p.words(&l.CertFile),
		"tls_key_file":                       p.words(&l.KeyFile),
		"tls_min_version":                    p.words(version),
		"tls_client_ca_file":                 p.words(&l.ClientCAFile),
		"tls_require_and_verify_client_cert": p.truth(&l.RequireClient),
		"max_request_size":                   p.size(&l.MaxBody),
		"max_request_duration":               p.duration(&l.MaxTime),
		"telemetry": func(item *ast.ObjectItem) {
			body, ok := item.Val.(*ast.ObjectType)
			if !ok {
				p.problem(p.at(item), "telemetry: want a block")
				return
			}
			p.members(body.List, "telemetry", p.telemetrySetters(l))
		},
	}
}

// telemetrySetters are the keys of a listener's telemetry block.
func (p *parser) telemetrySetters(l *Listener) map[string]setter {
	return map[string]setter{"unauthenticated_metrics_access": p.truth(&l.OpenMetrics)}
}

// contradiction says what in the TLS settings cannot be meant.
func (l *Listener) contradiction() string {
	switch has := l.CertFile != "" || l.KeyFile != "" || l.ClientCAFile != "" || l.RequireClient; {
	case l.TLSDisable && has:
		return "tls_disable is true, and other TLS settings are there: take one or the other out"
	case l.TLSDisable:
		return ""
	case l.CertFile == "" && l.KeyFile == "":
		return "tls_cert_file and tls_key_file are missing: give them, or say tls_disable = true if everything may travel in the clear"
	case l.CertFile == "":
		return "tls_cert_file is missing; name the certificate that belongs to tls_key_file"
	case l.KeyFile == "":
		return "tls_key_file is missing; name the key that belongs to tls_cert_file"
	case l.RequireClient && l.ClientCAFile == "":
		return "tls_require_and_verify_client_cert needs tls_client_ca_file"
	}
	return ""
}

// storageHints say what to use in place of Vault's storages that are not here.
var storageHints = map[string]string{
	"raft":   "Keyturn's own store for one server is pebble; clusters come later",
	"inmem":  `for a trial run "keyturn server -dev"; its name here is memory`,
	"file":   "Keyturn's own store on a disk is pebble",
	"consul": "external stores are not built yet; use pebble", "etcd": "external stores are not built yet; use pebble",
	"postgresql": "external stores are not built yet; use pebble", "mysql": "external stores are not built yet; use pebble",
}

func (p *parser) storage(b labelled) {
	if p.config.Storage.Name != "" {
		p.problem(b.at, "storage: it is given already at %s; take one out", p.config.Storage.At)
		return
	}
	p.config.Storage = Stanza{b.at, b.label, p.params(b, "storage")}
	names := make([]string, 0, len(p.known.Storage))
	for _, d := range p.known.Storage {
		names = append(names, d.Name)
	}
	if slices.Contains(names, b.label) {
		if b.label == "memory" {
			p.warn(b.at, "storage \"memory\": nothing survives the end of the process; use storage \"pebble\" for what must last")
		}
		return
	}
	hint := storageHints[b.label]
	if hint == "" {
		hint = "use pebble"
	}
	p.problem(b.at, "there is no storage %q: %s; write %s (there are: %s)", b.label, hint, examples["storage"], strings.Join(names, ", "))
}

func (p *parser) seal(b labelled) {
	if p.seals++; p.seals > 1 {
		p.problem(b.at, "seal: it is given already at %s; several seals, and moving from one to another, are not built yet", p.config.Seal.At)
		return
	}
	p.config.Seal = Stanza{b.at, b.label, p.params(b, "seal")}
	var names []string
	for _, d := range p.known.Seals {
		names = append(names, d.Name)
		if d.Name != b.label {
			continue
		}
		if _, err := d.Open(p.config.Seal.Params); err != nil {
			p.problem(b.at, "%s", Reason(err))
		}
		return
	}
	p.problem(b.at, "there is no seal %q yet; use one of: %s", b.label, strings.Join(names, ", "))
}

// params reads a driver's own members. The driver checks them.
func (p *parser) params(b labelled, what string) map[string]string {
	params := map[string]string{}
	for _, item := range b.list.Items {
		name := key(item, 0)
		if _, twice := params[name]; twice {
			p.problem(p.at(item), "%s: it is given twice in %s %q; take one out", name, what, b.label)
		}
		if text, _, ok := p.literal(item); ok {
			params[name] = text
		}
	}
	return params
}

// whole checks what no line alone can tell.
func (p *parser) whole() {
	c := &p.config
	whole := len(p.problems) == 0 // a file that could not be read may have what is missing
	if whole && len(c.Listeners) == 0 {
		p.problem(Position{}, "the configuration has no listener; it needs one such as %s", examples["listener"])
	}
	if whole && c.Storage.Name == "" {
		p.problem(Position{}, "the configuration has no storage; it needs one such as %s", examples["storage"])
	}
	for i, l := range c.Listeners {
		for _, before := range c.Listeners[:i] {
			if l.Address == before.Address {
				p.problem(l.At, "address: %s is given already at %s; take one out", l.Address, before.At)
			}
		}
	}
	if c.MaxLeaseTTL > 0 && c.DefaultLeaseTTL > c.MaxLeaseTTL {
		p.problem(p.set["default_lease_ttl"], "default_lease_ttl: %s must not be more than max_lease_ttl, which is %s", c.DefaultLeaseTTL, c.MaxLeaseTTL)
	}
}

// Handler writes the log in the configured form, at a level that can be changed.
func (c *Server) Handler(w io.Writer, level *slog.LevelVar) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// URL is a listener in a log line.
func (l *Listener) URL() string {
	if l.TLSDisable {
		return fmt.Sprintf("http://%s", l.Address)
	}
	return fmt.Sprintf("https://%s", l.Address)
}
