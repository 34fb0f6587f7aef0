package token

import (
	"net/netip"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/wire"
)

// parseCIDRs reads the addresses and networks of a field.
func parseCIDRs(field string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range texts {
		p, ok := wire.ParseNetwork(s)
		if !ok {
			return nil, fault.New("token.create", fault.Invalid,
				"field %q: want addresses or networks such as 10.0.0.0/8, not %.80q", field, s)
		}
		out = append(out, p)
	}
	return out, nil
}
