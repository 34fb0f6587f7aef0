package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/hostfile"
)

// harmlessSettings change neither where the password is sent nor who can read it there.
var harmlessSettings = []string{
	"application_name", "fallback_application_name", "connect_timeout", "target_session_attrs", "keepalives",
	"keepalives_idle",
	"keepalives_interval", "keepalives_count",
}

// destination implements [database.Provider].Destination.
func destination(c database.Config) (database.Destination, bool) {
	s, err := split(c.URL.RevealString())
	if err != nil || c.DisableEscaping { // a value that is filled in could change how the URL is parsed
		return database.Destination{}, false
	}
	roots := s["sslrootcert"]
	c.Files = hostfile.Folders{} // reads no file, whose content may change
	if err := s.inline(&c); err != nil {
		return database.Destination{}, false
	}
	m, err := checkTLS(c, s["sslmode"])
	if err != nil {
		return database.Destination{}, false
	}
	if m.mode == "" {
		m.mode = neutral["sslmode"]
	}
	place := settings{"user": userMark, "port": neutral["port"]}
	maps.Copy(place, s)
	place["sslrootcert"] = roots
	for _, key := range harmlessSettings {
		if !strings.Contains(place[key], "{{") { // application_name={{password}} would send the password
			delete(place, key)
		}
	}
	for _, key := range []string{"sslmode", "password", "sslpassword"} {
		if value := place[key]; !strings.Contains(value, "{{") || value == passwordMark {
			delete(place, key)
		}
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(place)) {
		fmt.Fprintf(&text, "%s=%q ", key, place[key])
	}
	return database.Destination{Place: text.String(), Guard: slices.Index(sslModes, m.mode)}, true
}
