package config

import (
	"net"
	"net/netip"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// Proxy says how a listener treats the header of the PROXY protocol.
type Proxy struct {
	Behavior string         // "": the protocol is not supported
	By       []netip.Prefix // the trusted senders
}

// The values of Behavior.
const (
	UseAlways        = "use_always"        // every sender is trusted
	AllowAuthorized  = "allow_authorized"  // the header of other senders is ignored
	DenyUnauthorized = "deny_unauthorized" // connections of other senders are closed
)

// Trusts reports whether the proxy at an address may name its client.
func (p *Proxy) Trusts(from net.Addr) bool {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	addr := at.Addr().Unmap().WithZone("")
	for _, by := range p.By {
		if by.Contains(addr) {
			return true
		}
	}
	return false
}

// proxyKeys are the keys about the proxies in front of a listener.
func proxyKeys(r *report, p *Proxy, f *httpapi.Forwarded) []key {
	return []key{
		{name: "proxy_protocol_authorized_addrs", kind: "list of networks", reload: true, set: r.networks(&p.By),
			doc: "The proxies whose PROXY protocol header is trusted."},
		{name: "proxy_protocol_behavior", kind: "text", reload: true,
			set: r.oneOf(&p.Behavior, UseAlways, AllowAuthorized, DenyUnauthorized),
			doc: "Who may name the client in the header of the PROXY protocol, version 1 or 2: `use_always` trusts " +
				"every address, `allow_authorized` trusts the listed ones, `deny_unauthorized` also closes " +
				"connections from all others."},
		{name: "x_forwarded_for_authorized_addrs", kind: "list of networks", reload: true, set: r.networks(&f.By),
			doc: "The proxies that are trusted to name the client in X-Forwarded-For. Without a list, the header is " +
				"ignored."},
		{name: "x_forwarded_for_hop_skips", kind: "number", byDefault: "0", reload: true,
			set: r.integer(&f.Hops, 0, 1000, "a number of addresses"),
			doc: "How many addresses at the end of X-Forwarded-For are skipped, because they are proxies."},
		{name: "x_forwarded_for_reject_not_authorized", kind: "boolean", byDefault: "true", reload: true,
			set: r.negated(&f.TakeUntrusted),
			doc: "Whether a request with X-Forwarded-For from an address that is not listed is refused; if not, the " +
				"header is ignored."},
		{name: "x_forwarded_for_reject_not_present", kind: "boolean", byDefault: "true", reload: true,
			set: r.negated(&f.TakeAbsent), doc: "Whether a request without X-Forwarded-For is refused."},
	}
}

// checkProxies checks the settings about proxies as a whole.
func checkProxies(r *report, at Position, p *Proxy, f *httpapi.Forwarded, g given) {
	switch b := p.Behavior; {
	case (b == AllowAuthorized || b == DenyUnauthorized) && len(p.By) == 0:
		r.problem(at, "proxy_protocol_behavior: %s needs proxy_protocol_authorized_addrs, with at least one address",
			b)
	case b == UseAlways:
		r.warn(at,
			"proxy_protocol_behavior: with use_always, any client that can connect may claim any address; prefer "+
				"allow_authorized")
	case b == "" && len(p.By) > 0:
		r.warn(at,
			"proxy_protocol_authorized_addrs: it has no effect without "+
				"proxy_protocol_behavior; set that, or remove it")
	}
	if len(f.By) > 0 {
		return
	}
	for _, name := range []string{
		"x_forwarded_for_hop_skips", "x_forwarded_for_reject_not_authorized", "x_forwarded_for_reject_not_present",
	} {
		if _, ok := g[name]; ok {
			r.warn(at, "%s: it has no effect without x_forwarded_for_authorized_addrs; set that, or remove it", name)
		}
	}
}
