package server

import (
	"crypto/tls"

	"github.com/keyturn/keyturn/internal/server/config"
)

// reload applies settings that may change while the server runs. Everything new is created before
// anything old is replaced.
func (s *server) reload() {
	if s.reread != nil && !s.reconfigure() {
		return
	}
	if err := s.logs.Reopen(); err != nil {
		s.log.Error("reopening the log file", "error", err)
	}
	if err := s.core.ReloadAudit(); err != nil {
		s.log.Error("reopening the audit devices", "error", err)
	}
	if s.reread != nil {
		s.log.Info("reloaded")
	}
}

// reconfigure re-reads the configuration. It returns false if the configuration is wrong; nothing
// has changed then.
func (s *server) reconfigure() bool {
	next, err := s.reread()
	if err != nil {
		s.log.Error("reloading: the configuration is wrong; everything stays as it is", "error", err)
		return false
	}
	was := s.running.Load()
	now := was.Reloaded(next)
	fresh := make([]*tls.Config, len(s.listeners))
	for i := range s.listeners {
		l := &now.Listeners[i]
		if l.Kind == config.Unix {
			continue
		}
		if fresh[i], err = l.TLS.Config(); err != nil {
			s.log.Error("reloading failed; the configuration is unchanged", "error",
				config.Problems{{At: l.At, Text: err.Error()}})
			return false
		}
	}
	for i, d := range s.listeners {
		d.tls.Store(fresh[i])
		d.proxy.Store(&now.Listeners[i].Proxy)
		d.handler.Apply(s.settings(now, i))
	}
	s.logs.SetLevel(now.Log.Level)
	s.running.Store(now)
	for _, w := range next.Warnings {
		s.log.Warn(w)
	}
	for _, what := range was.Later(next) {
		s.log.Warn("reloading: this change needs a restart", "setting", what)
	}
	return true
}
