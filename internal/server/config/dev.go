package config

import "slices"

// ReadDev is Read for the development mode. The mode's own settings (its listener,
// and storage in memory) apply in addition to the files, and the files cannot
// change them. One exception: a listener in a file replaces the mode's listener if
// it has the same address.
func ReadDev(paths []string, known Known, mode Server) (*Server, error) {
	return readAll(paths, known, &mode)
}

// develop joins what the files say with the development mode.
func (p *parser) develop(mode *Server) {
	c := &p.server
	for _, l := range mode.Listeners {
		l.given = given{}
		if c.Listener(&l) == nil {
			c.Listeners = slices.Insert(c.Listeners, 0, p.settle(&draft{listener: l}))
		}
	}
	if name := c.Storage.Name; name != "" && name != mode.Storage.Name {
		p.report.warn(c.Storage.At,
			"storage %q: it is not used, because -dev keeps everything in memory; start without -dev to use it", name)
	}
	if name := c.Seal.Name; name != "" && name != "shamir" {
		p.report.warn(c.Seal.At,
			"seal %q: -dev unseals itself with a key that it prints; start without -dev to use it", name)
	}
	c.Storage, c.Seal = mode.Storage, mode.Seal
	c.OutboundAllow = append(c.OutboundAllow, mode.OutboundAllow...)
}
