package httpapi

import (
	"net/netip"
	"strings"
)

// Forwarded says which proxies may name the client in X-Forwarded-For, and how to treat other
// requests. It is Vault's x_forwarded_for_* of a listener.
//
// Each proxy appends the address that it was called from, so only the end of the list is reliable:
// Hops addresses at the end are proxies, and the one before is the client. Anybody may have
// written the addresses before that.
type Forwarded struct {
	By   []netip.Prefix // the proxies that are believed
	Hops int            // how many addresses at the end are passed over

	TakeAbsent    bool // a request without the header comes from where it comes from; else it is refused
	TakeUntrusted bool // one with the header from elsewhere does, too; else it is refused
}

// maxForwarded is the longest list in bytes: some two hundred proxies.
const maxForwarded = 8 << 10

// client is the address of the client whose request came from peer, with the values of its headers
// X-Forwarded-For. The port stays the connection's unless the header has one.
func (f *Forwarded) client(peer netip.AddrPort, values []string) (netip.AddrPort, error) {
	list := strings.Join(values, ",")
	if len(list) > maxForwarded {
		return peer, invalid(
			"header X-Forwarded-For: it is longer than %d bytes; check the proxies before this listener", maxForwarded)
	}
	if strings.TrimSpace(list) == "" {
		if f.TakeAbsent {
			return peer, nil
		}
		return peer,
			invalid(
				"header X-Forwarded-For: it is missing, and this listener is served through proxies only; call the " +
					"proxy, or set x_forwarded_for_reject_not_present = false")
	}
	if !f.trusts(peer.Addr()) {
		if f.TakeUntrusted {
			return peer, nil
		}
		return peer,
			invalid(
				"header X-Forwarded-For: it came from an address that is not in x_forwarded_for_authorized_addrs; " +
					"add the proxy's, or leave the header out")
	}
	hops := strings.Split(list, ",")
	i := len(hops) - 1 - f.Hops
	if i < 0 {
		return peer,
			invalid(
				"header X-Forwarded-For: it has fewer addresses than x_forwarded_for_hop_skips passes over; check " +
					"the proxies before this listener")
	}
	client, ok := parseHop(strings.TrimSpace(hops[i]), peer.Port())
	if !ok {
		return peer, invalid(
			"header X-Forwarded-For: the client's part is not an IP address; check the proxies before this listener")
	}
	return client, nil
}

// trusts reports whether a request that comes from a may name its client.
func (f *Forwarded) trusts(a netip.Addr) bool {
	for _, p := range f.By {
		if p.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}

// parseHop reads an address, which may have a port.
func parseHop(text string, port uint16) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap().WithZone(""), port), true
	}
	a, err := netip.ParseAddrPort(text)
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), err == nil
}

// remote is the client's address; zero where it is not an IP address.
func remote(text string) netip.AddrPort {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
