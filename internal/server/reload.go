package server

import (
	"crypto/tls"

	"github.com/keyturn/keyturn/internal/server/config"
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
	for _, what := range s.cfg.Later(next) {
		s.log.Warn("reloading: this takes effect at the next start only", "setting", what)
	}
	s.reopenAudit()
	s.log.Info("reloaded")
}

// renewed is the TLS configuration of a door as the new configuration has it;
// nil where it stays.
func (s *server) renewed(i int, next *config.Server) (*tls.Config, error) {
	old := s.cfg.Listeners[i]
	for _, l := range next.Listeners {
		if l.Address == old.Address && !l.TLSDisable && !old.TLSDisable {
			t, err := l.TLS()
			if err != nil {
				return nil, config.Problems{{At: l.At, Text: err.Error()}}
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
