package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Later returns the names of the settings that differ from next and cannot change while the server
// runs.
func (c *Server) Later(next *Server) []string {
	names := differing(topBlock, c.given, next.given)
	if !c.Storage.equal(next.Storage) {
		names = append(names, "storage")
	}
	if !c.Seal.equal(next.Seal) {
		names = append(names, "seal")
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		m := next.Listener(l)
		if m == nil {
			names = append(names, "listener "+l.Address)
			continue
		}
		for _, name := range differing(l.block(), l.given, m.given) {
			names = append(names, fmt.Sprintf("%s of listener %s", name, l.Address))
		}
	}
	for i := range next.Listeners {
		if l := &next.Listeners[i]; c.Listener(l) == nil {
			names = append(names, "listener "+l.Address)
		}
	}
	return names
}

// Listener returns the listener with the address of l; nil: there is none.
func (c *Server) Listener(l *Listener) *Listener {
	for i := range c.Listeners {
		if m := &c.Listeners[i]; m.Kind == l.Kind && m.Address == l.Address {
			return m
		}
	}
	return nil
}

// differing returns the keys of a block that have changed and that SIGHUP does not re-read.
func differing(block string, before, after given) []string {
	var names []string
	for _, k := range keysOf(block) {
		if !k.reload && !reflect.DeepEqual(before[k.name], after[k.name]) {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// Reloaded returns c after SIGHUP has read next: with next's values of the keys that SIGHUP
// re-reads, and c's values of the others.
func (c *Server) Reloaded(next *Server) *Server {
	out := *c
	out.given = overlaid(topBlock, c.given, next.given)
	out.ShowHostname = next.ShowHostname
	out.Log.Level, out.Log.Requests = next.Log.Level, next.Log.Requests
	out.Listeners = slices.Clone(c.Listeners)
	for i := range out.Listeners {
		l := &out.Listeners[i]
		m := next.Listener(l)
		if m == nil {
			l.HTTP.LogRequests = next.Log.Requests
			continue
		}
		l.given = overlaid(l.block(), l.given, m.given)
		l.Proxy = m.Proxy
		if !l.TLS.Disable && !m.TLS.Disable {
			l.TLS = m.TLS
		}
		maxTime, readTime := l.HTTP.MaxTime, l.HTTP.ReadTime
		l.HTTP = m.HTTP
		l.HTTP.MaxTime, l.HTTP.ReadTime = maxTime, readTime
	}
	return &out
}

// overlaid returns a block in which the keys that SIGHUP re-reads come from next.
func overlaid(block string, before, next given) given {
	out := maps.Clone(before)
	for _, k := range keysOf(block) {
		if !k.reload {
			continue
		}
		if v, ok := next[k.name]; ok {
			out[k.name] = v
		} else {
			delete(out, k.name)
		}
	}
	return out
}
