package node

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
)

// Config contains what the routes need.
type Config struct {
	Server
	Keys Keys
	// View reads and writes the store by absolute keys.
	View   *barrier.View
	Mounts *mounts.Manager
	// Versions lists the versions that have served this store, oldest first.
	Versions func(ctx context.Context) ([]InstalledVersion, error)
	// Tokens counts the service tokens.
	Tokens func(ctx context.Context) (int64, error)
}

// A Server is what is known about this server before it is unsealed.
type Server struct {
	Hostname string
	Address  string // where clients reach it: https://host:port
	Version  string // Keyturn's own
	// Plugins are the engines, login methods and databases that are built in.
	Plugins []Plugin
	// Host describes the machine as a JSON object; nil: unknown.
	Host func(ctx context.Context) ([]byte, error)
	// InFlight lists the requests that are being served; nil: none are counted.
	InFlight func() []Flight
	// State is the configuration as a JSON object, without possible secrets; nil: there is none.
	State func() ([]byte, error)
	// Log is the server's log.
	Log Log
	// RawStorage and Introspection enable sys/raw and sys/internal/inspect.
	RawStorage, Introspection bool
}

// An InstalledVersion is a version of Keyturn and when it first served the store.
type InstalledVersion struct {
	Version string
	Since   time.Time
}

// A Plugin is an implementation that is built in.
type Plugin struct {
	Type string // "auth", "database" or "secret"
	Name string
}

// A Flight is a request that is being served.
type Flight struct {
	ID     string
	Start  time.Time
	Remote string
	Path   string // with /v1/
	Method string
}

// Keys are functions for the barrier's data keys.
type Keys struct {
	Status      func() (barrier.KeyStatus, error)
	Rotate      func(ctx context.Context) (term int, err error)
	Rotation    func(ctx context.Context) (KeyRotation, error)
	SetRotation func(ctx context.Context, c KeyRotation) error
}

// A KeyRotation says when the server rotates the barrier's data key by itself.
type KeyRotation struct {
	Enabled       bool          `json:"enabled"`
	MaxOperations int64         `json:"max_operations"` // encryptions
	Interval      time.Duration `json:"interval"`       // 0: the age does not matter
}

// Log contains functions for the server's log. Those that are nil are not served.
type Log struct {
	// Level is the log level. SetLevel changes it until the configuration is re-read or Revert is
	// called. An error names the possible levels, for the client.
	Level    func() string
	SetLevel func(level string) error
	Revert   func()
	// Watch returns the future lines of a level in a format ("": the log's own), until stop is
	// called. If too many clients already watch, ok is false. An error names the possible levels
	// or formats, for the client.
	Watch func(level, form string) (lines <-chan []byte, stop func(), ok bool, err error)
}
