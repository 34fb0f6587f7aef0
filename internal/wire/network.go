package wire

import "net/netip"

// ParseNetwork reads an address or a network, such as "10.1.0.0/16". IPv4 written as IPv6 becomes
// IPv4, because requests have their addresses so. ok is false for a network that begins before the
// IPv4 part of such an address, as that of ::ffff:10.0.0.0/8 does, and for an address of one
// interface: neither would ever match.
func ParseNetwork(text string) (p netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return p, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}
