package config

import "slices"

// ReadDev is Read for the development mode. What the mode is made of – where it
// listens, and that it keeps everything in memory – holds besides what the files
// say, and a file says nothing against it: a listener of a file's at the same
// address takes the place of the mode's own.
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
		p.report.warn(c.Storage.At, "storage %q: -dev keeps everything in memory, and nothing there; start without -dev to use it", name)
	}
	if name := c.Seal.Name; name != "" && name != "shamir" {
		p.report.warn(c.Seal.At, "seal %q: -dev unseals itself with a key that it prints; start without -dev to use it", name)
	}
	c.Storage, c.Seal = mode.Storage, mode.Seal
	c.OutboundAllow = append(c.OutboundAllow, mode.OutboundAllow...)
}
