package config

import (
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// A draft is a listener before the top level is known.
type draft struct {
	listener Listener

	minVersion, maxVersion string
	forwarded              httpapi.Forwarded

	maxTime, readTime, writeTime, headerTime, idleTime time.Duration
}

// isPort reports whether text is a port to listen at. 0 is any that is free.
func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}
