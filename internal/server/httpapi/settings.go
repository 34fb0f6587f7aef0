package httpapi

import (
	"log/slog"
	"math"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// The default limits.
const (
	// DefaultMaxBody is Vault's. The largest honest request is a KV secret or a
	// policy of a few megabytes.
	DefaultMaxBody = 32 << 20
	// DefaultMaxTime is Vault's. A create at a slow target takes up to a minute.
	DefaultMaxTime = 90 * time.Second
)

// Settings are the configuration of one listener's requests. Zero values mean the defaults, except
// for times. They can be replaced while the listener serves, see [Handler.Apply].
type Settings struct {
	MaxBody int64         // bytes; 0: [DefaultMaxBody], below zero: no limit
	MaxTime time.Duration // of one request; 0: [DefaultMaxTime]
	// ReadTime bounds the reading of one request; 0: MaxTime does.
	ReadTime time.Duration
	JSON     wire.Limits // a zero field: that of [wire.DefaultLimits]

	Forwarded *Forwarded // proxies that may name the client in X-Forwarded-For; nil: the header is ignored
	Headers   *Headers   // of each answer; nil: none
	Hostname  string     // shown as X-Vault-Hostname; "": not
	Redact    Redact
	// OpenMetrics answers sys/metrics without a token.
	OpenMetrics bool
	// LogRequests logs each request that was answered, at this level; nil: it does not.
	LogRequests *slog.Level
}

// Redact says what the public status pages omit.
type Redact struct {
	Addresses, ClusterName, Version bool
}

// resolved fills in the defaults.
func (s Settings) resolved() Settings {
	switch {
	case s.MaxBody == 0:
		s.MaxBody = DefaultMaxBody
	case s.MaxBody < 0:
		s.MaxBody = math.MaxInt64 / 2
	}
	if s.MaxTime == 0 {
		s.MaxTime = DefaultMaxTime
	}
	for _, f := range []struct{ given, without *int }{
		{&s.JSON.Depth, &wire.DefaultLimits.Depth}, {&s.JSON.StringLen, &wire.DefaultLimits.StringLen},
		{&s.JSON.Entries, &wire.DefaultLimits.Entries}, {&s.JSON.Elements, &wire.DefaultLimits.Elements},
		{&s.JSON.Tokens, &wire.DefaultLimits.Tokens},
	} {
		if *f.given == 0 {
			*f.given = *f.without
		}
	}
	return s
}

// Timeouts bound a connection. They hold for as long as its listener is open.
type Timeouts struct {
	ReadHeader time.Duration // of one request
	Write      time.Duration // of one answer, from the end of the request's header; 0: no limit
	Idle       time.Duration // between two requests
}

// DefaultTimeouts returns the default timeouts.
func DefaultTimeouts(maxTime time.Duration) Timeouts {
	return Timeouts{
		// A silent client uses a connection; ten seconds are enough for the slowest legitimate
		// one.
		ReadHeader: 10 * time.Second,
		// A little more than a request may take, so that its error can be sent.
		Write: maxTime + 10*time.Second,
		// Agents poll every few minutes; a new handshake each time would cost more.
		Idle: 5 * time.Minute,
	}
}
