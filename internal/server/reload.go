package server

import (
	"crypto/tls"
	"maps"
	"slices"
)

// reload takes over what may change while the server runs. Everything new is
// made before anything old is replaced.
func (s *server) reload() {
	if s.reread == nil {
		s.reopenAudit()
		return
	}
	next, err := s.reread()
	if err != nil {
		s.log.Error("reloading: the configuration is wrong; everything stays as it is", "error", err)
		return
	}
	fresh := make([]*tls.Config, len(s.doors))
	for i := range s.doors {
		if fresh[i], err = s.renewed(i, next); err != nil {
			s.log.Error("reloading: everything stays as it is", "error", err)
			return
		}
	}
	for i, d := range s.doors {
		if fresh[i] != nil {
			d.tls.Store(fresh[i])
		}
	}
	s.level.Set(next.LogLevel)
	for _, what := range s.cfg.later(next) {
		s.log.Warn("reloading: this takes effect at the next start only", "setting", what)
	}
	s.reopenAudit()
	s.log.Info("reloaded")
}

// renewed is the TLS configuration of a door as the new configuration has it;
// nil where it stays.
func (s *server) renewed(i int, next *Config) (*tls.Config, error) {
	old := s.cfg.Listeners[i]
	for _, l := range next.Listeners {
		if l.Address == old.Address && !l.TLSDisable && !old.TLSDisable {
			t, err := l.tlsConfig()
			if err != nil {
				return nil, Problems{{l.At, err.Error()}}
			}
			return t, nil
		}
	}
	return nil, nil
}

// reopenAudit opens the audit files anew, after a log rotation.
func (s *server) reopenAudit() {
	if err := s.core.ReloadAudit(); err != nil {
		s.log.Error("reopening the audit devices", "error", err)
	}
}

// later names the settings that differ and cannot change while the server runs.
func (c *Config) later(next *Config) []string {
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
	return names
}

func (s Stanza) equal(t Stanza) bool { return s.Name == t.Name && maps.Equal(s.Params, t.Params) }

// reloads reports whether all that differs between two listeners is reloaded.
func (l Listener) reloads(m Listener) bool {
	return l.Address == m.Address && l.TLSDisable == m.TLSDisable && l.MaxBody == m.MaxBody && l.MaxTime == m.MaxTime && l.OpenMetrics == m.OpenMetrics
}
