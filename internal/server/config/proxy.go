package config

import (
	"net/textproto"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"golang.org/x/net/http/httpguts"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// proxyKeys are those that say how the client behind a proxy is known.
func proxyKeys(r *report, d *draft) []key {
	l, f := &d.listener, &d.forwarded
	return []key{
		{name: "proxy_protocol_authorized_addrs", takes: "list of networks", reload: true,
			set: r.prefixes(&l.Proxy.By),
			doc: "The proxies whose PROXY protocol header is trusted."},
		{name: "proxy_protocol_behavior", takes: "text", reload: true,
			set: r.oneOf(&l.Proxy.Behavior, UseAlways, AllowAuthorized, DenyUnauthorized),
			doc: "Who may name the client in the header of the PROXY protocol, version 1 or 2: `use_always` trusts every address, `allow_authorized` trusts the listed ones, `deny_unauthorized` also closes connections from all others."},
		{name: "x_forwarded_for_authorized_addrs", takes: "list of networks", reload: true, set: r.prefixes(&f.By),
			doc: "The proxies that are trusted to name the client in X-Forwarded-For. Without a list, the header is ignored."},
		{name: "x_forwarded_for_hop_skips", takes: "number", without: "0", reload: true,
			set: r.small(&f.Hops, 0, 1000, "a number of addresses"),
			doc: "How many addresses at the end of X-Forwarded-For are skipped, because they are proxies."},
		{name: "x_forwarded_for_reject_not_authorized", takes: "boolean", without: "true", reload: true,
			set: r.untruth(&f.TakeUntrusted),
			doc: "Whether a request with X-Forwarded-For from an address that is not listed is refused; if not, the header is ignored."},
		{name: "x_forwarded_for_reject_not_present", takes: "boolean", without: "true", reload: true,
			set: r.untruth(&f.TakeAbsent),
			doc: "Whether a request without X-Forwarded-For is refused."},
	}
}

// proxies checks what a listener says of proxies as a whole.
func proxies(r *report, d *draft) {
	l := &d.listener
	switch b := l.Proxy.Behavior; {
	case (b == AllowAuthorized || b == DenyUnauthorized) && len(l.Proxy.By) == 0:
		r.problem(l.At, "proxy_protocol_behavior: %s needs proxy_protocol_authorized_addrs, with at least one address",
			b)
	case b == UseAlways:
		r.warn(l.At,
			"proxy_protocol_behavior: with use_always, any client that can connect may claim any address; prefer allow_authorized")
	case b == "" && len(l.Proxy.By) > 0:
		r.warn(l.At,
			"proxy_protocol_authorized_addrs: it has no effect without proxy_protocol_behavior; set that, or take it out")
	}
	if len(d.forwarded.By) > 0 {
		l.HTTP.Forwarded = &d.forwarded
		return
	}
	for _, name := range []string{
		"x_forwarded_for_hop_skips", "x_forwarded_for_reject_not_authorized", "x_forwarded_for_reject_not_present",
	} {
		if _, ok := l.given[name]; ok {
			r.warn(l.At, "%s: it has no effect without x_forwarded_for_authorized_addrs; set that, or take it out",
				name)
		}
	}
}

// headers sets what answers carry.
func headers(r *report, into **httpapi.Headers) setter {
	return func(item *ast.ObjectItem) {
		all := map[string]map[string]string{}
		for _, status := range r.block(item).Items {
			name := label(status, 0)
			if !httpapi.StatusName(name) {
				r.problem(r.at(status),
					"custom_response_headers: want \"default\", a class of statuses such as \"2xx\" or a status such as \"307\", not %q",
					name)
				continue
			}
			if _, twice := all[name]; twice {
				r.problem(r.at(status), "custom_response_headers: %q is given twice; take one out", name)
			}
			all[name] = headersOf(r, status)
		}
		*into = httpapi.NewHeaders(all)
	}
}

// headersOf reads the headers of one status.
func headersOf(r *report, status *ast.ObjectItem) map[string]string {
	values := map[string]string{}
	for _, item := range r.block(status).Items {
		name := textproto.CanonicalMIMEHeaderKey(label(item, 0))
		texts, ok := lines(r, item)
		value := strings.Join(texts, "; ")
		switch {
		case !ok:
			r.problem(r.at(item), "custom_response_headers: %s: want a list of texts such as [\"value\"]", name)
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
			r.problem(r.at(item), "custom_response_headers: %s is not a valid header name; check its characters",
				strconv.Quote(name))
		case httpapi.OwnHeader(name):
			r.warn(r.at(item),
				"custom_response_headers: %s is ignored, because the server sets this header itself; take it out",
				name)
		default:
			values[name] = value
		}
	}
	return values
}

// lines is the texts of a list, or one text.
func lines(r *report, item *ast.ObjectItem) ([]string, bool) {
	nodes := []ast.Node{item.Val}
	if list, ok := item.Val.(*ast.ListType); ok {
		nodes = list.List
	}
	var all []string
	for _, n := range nodes {
		lit, ok := n.(*ast.LiteralType)
		if !ok {
			return nil, false
		}
		text, ok := lit.Token.Value().(string)
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
	return all, true
}
