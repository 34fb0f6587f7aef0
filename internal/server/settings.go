package server

import (
	"os"

	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// settings are what c says of the requests of the ith listener.
func (s *server) settings(c *config.Server, i int) httpapi.Settings {
	h := c.Listeners[i].HTTP
	if c.ShowHostname {
		name, err := os.Hostname()
		if err != nil {
			s.log.Warn("enable_response_header_hostname: the host's name is not known", "error", err)
		}
		h.Hostname = name
	}
	return h
}
