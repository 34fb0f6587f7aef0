// Package outbound makes all outgoing connections that users configure.
//
// A user can configure the name of an internal host, and DNS can change its answer between a check
// and a call. Therefore a [Dialer] checks the address that a socket connects to, not the name: it
// refuses addresses of this machine (loopback or an interface), link-local addresses, and metadata
// services of clouds, unless the operator has listed them. A client of [NewClient] only calls
// declared origins, and uses no redirect and no proxy.
//
// It also limits what is received: the bytes of each connection, and the bytes and duration of
// each reply. A parser of these bytes has its own limits.
package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A Dialer opens TCP connections to allowed addresses. The zero value allows all addresses except
// those of [Guarded] and of this machine's interfaces. Safe for concurrent use.
type Dialer struct {
	// Allow lists guarded addresses that are allowed nevertheless. It comes from the server's
	// configuration file, never from a user.
	Allow []netip.Prefix

	// Timeout limits connecting; 0: 10 s.
	Timeout time.Duration

	// Resolver is for tests; nil means the system's.
	Resolver *net.Resolver

	interfaces func() ([]net.Addr, error) // for tests; nil means this machine's
}

// Anywhere is the default dialer for callers without one. It allows every address, but limits what
// is received.
var Anywhere = &Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}

// DialContext connects to address, a host and port. Each address of the host is checked when the
// socket connects; those that are refused are skipped, and if none is left, the error has the kind
// Denied. A connection that receives too much is broken; see limit.go.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fault.New("outbound.Dial", fault.Denied, "only TCP goes out, not %q", network)
	}
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	dialer := net.Dialer{Timeout: timeout,
		Resolver: d.Resolver, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return d.check(address)
		}}
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil {
		return meter(conn), nil
	}
	if fault.Is(err, fault.Denied) {
		return nil, err
	}
	return nil, fault.Wrap("outbound.Dial", fault.Upstream, err)
}

// check checks the address "ip:port" that a socket is about to connect to.
func (d *Dialer) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fault.New("outbound.Dial", fault.Denied,
			"the address %q cannot be judged; want an IP address and a port", address)
	}
	return d.Check(ap.Addr())
}

// Check reports, as an error of kind Denied, that addr is guarded and not allowed.
func (d *Dialer) Check(addr netip.Addr) error {
	plain := addr.WithZone("").Unmap()
	for _, p := range d.Allow {
		if p.Contains(plain) {
			return nil
		}
	}
	why := Guarded(addr)
	if why == "" {
		own, err := d.own(plain)
		switch {
		case err != nil:
			return &fault.Error{Op: "outbound.Dial", Kind: fault.Denied, Err: err, Msg: fmt.Sprintf(
				"connecting to %s is refused: whether it is an address of this machine cannot be found out; "+
					"allow the server AF_NETLINK, or let the operator list the address in outbound_allow",
				plain)}
		case !own:
			return nil
		}
		why = "an address of this machine"
	}
	return fault.New("outbound.Dial", fault.Denied,
		"connecting to %s is refused: it is %s; the operator can allow it with outbound_allow in the server's "+
			"configuration",
		plain,
		why)
}

// own reports whether addr, or an address that it carries, belongs to an interface of this
// machine. The interfaces are read for each connection, because their addresses change.
func (d *Dialer) own(addr netip.Addr) (bool, error) {
	list := d.interfaces
	if list == nil {
		list = net.InterfaceAddrs
	}
	all, err := list()
	if err != nil {
		return false, err
	}
	meant := []netip.Addr{addr}
	for i := 0; i < len(meant); i++ {
		for _, inner := range carried(meant[i]) {
			meant = append(meant, inner.Unmap())
		}
	}
	for _, a := range all {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(network.IP); ok && slices.Contains(meant, ip.Unmap()) {
			return true, nil
		}
	}
	return false, nil
}

// guarded lists the addresses that a user must not reach, with reasons. Private networks are not
// in it, because services whose keys are rotated are often there.
var guarded = func() (rows []guard) {
	for _, row := range []string{
		"0.0.0.0/8 an address of this machine",
		"127.0.0.0/8 an address of this machine",
		"::/128 an address of this machine",
		"::1/128 an address of this machine",
		"169.254.0.0/16 on the link, where clouds keep their metadata",
		"fe80::/10 on the link",
		"224.0.0.0/4 a multicast address",
		"ff00::/8 a multicast address",
		"240.0.0.0/4 a reserved address",
		"100.100.100.200/32 a cloud's metadata service",
		"168.63.129.16/32 a cloud's metadata service",
		"192.0.0.192/32 a cloud's metadata service",
		"fd00:ec2::/32 a cloud's metadata service",
		"fd20:ce::/32 a cloud's metadata service",
	} {
		prefix, why, _ := strings.Cut(row, " ")
		rows = append(rows, guard{netip.MustParsePrefix(prefix), why})
	}
	return rows
}()

type guard struct {
	prefix netip.Prefix
	why    string
}

// Guarded returns why addr must not be reached, or "". An IPv6 address that carries an IPv4
// address is checked as both.
func Guarded(addr netip.Addr) string {
	addr = addr.WithZone("").Unmap()
	if !addr.IsValid() {
		return "no address"
	}
	for _, g := range guarded {
		if g.prefix.Contains(addr) {
			return g.why
		}
	}
	for _, inner := range carried(addr) {
		if why := Guarded(inner); why != "" {
			return why
		}
	}
	return ""
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	teredo     = netip.MustParsePrefix("2001::/32")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
)

// carried returns the IPv4 addresses that a translator or tunnel may extract from an IPv6 address.
// A translator can be configured to use any of several positions (RFC 6052), so all are tried.
func carried(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case sixToFour.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case nat64Local.Contains(addr):
		return slices.DeleteFunc([]netip.Addr{last, netip.AddrFrom4([4]byte{
			b[6], b[7], b[9], b[10],
		}), netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}), netip.AddrFrom4([4]byte(b[9:13]))},
			func(a netip.Addr) bool { return a.As4()[0] == 0 && b != zeroNAT64 }) // a place that is not used
	case teredo.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case isatap(b):
		return []netip.Addr{last}
	case nat64.Contains(addr), compatible.Contains(addr), translated.Contains(addr):
		return []netip.Addr{last}
	}
	return nil
}

// zeroNAT64 carries 0.0.0.0 at every position.
var zeroNAT64 = netip.MustParseAddr("64:ff9b:1::").As16()

// isatap reports whether the address contains that of a tunnel's other end (RFC 5214).
func isatap(b [16]byte) bool {
	return b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
