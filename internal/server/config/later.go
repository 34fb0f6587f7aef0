package config

import (
	"maps"
	"slices"
)

// Later names the settings that differ and cannot change while the server runs.
func (c *Server) Later(next *Server) []string {
	var names []string
	add := func(differs bool, name string) {
		if differs {
			names = append(names, name)
		}
	}
	add(!c.Storage.equal(next.Storage), "storage")
	add(!c.Seal.equal(next.Seal), "seal")
	add(!slices.EqualFunc(c.Listeners, next.Listeners, Listener.reloads), "listener")
	add(c.LogFormat != next.LogFormat, "log_format")
	add(c.ClusterName != next.ClusterName, "cluster_name")
	add(c.APIAddr != next.APIAddr, "api_addr")
	add(c.DefaultLeaseTTL != next.DefaultLeaseTTL, "default_lease_ttl")
	add(c.MaxLeaseTTL != next.MaxLeaseTTL, "max_lease_ttl")
	add(!slices.Equal(c.OutboundAllow, next.OutboundAllow), "outbound_allow")
	add(!slices.Equal(c.AuditFolders, next.AuditFolders), "audit_folders")
	add(!slices.Equal(c.ConnectionFolders, next.ConnectionFolders), "connection_folders")
	return names
}

func (s Stanza) equal(t Stanza) bool { return s.Name == t.Name && maps.Equal(s.Params, t.Params) }

// reloads reports whether all that differs between two listeners is reloaded.
func (l Listener) reloads(m Listener) bool {
	return l.Address == m.Address && l.TLSDisable == m.TLSDisable && l.MaxBody == m.MaxBody && l.MaxTime == m.MaxTime && l.OpenMetrics == m.OpenMetrics
}
