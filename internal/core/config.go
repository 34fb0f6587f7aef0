package core

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
)

// Types are the engines and login methods that can be mounted.
type Types = mounts.Types

// Types of the package node that callers of core need.
type (
	Server = node.Server
	Plugin = node.Plugin
	Log    = node.Log
	Flight = node.Flight
	CORS   = node.CORS
)

// systemTTL is the default and the maximum TTL if none is configured; it is the same as Vault's.
const systemTTL = 32 * 24 * time.Hour

// Config of a [Core].
type Config struct {
	Store       storage.Store
	StorageName string // "pebble", shown by seal-status
	Seal        seal.Seal
	Types
	Audits      []audit.Type
	Log         *slog.Logger
	DefaultTTL  time.Duration // 0: 32 days
	MaxTTL      time.Duration // 0: 32 days
	ClusterName string
	// RefusedFolders must not contain an audit file, such as the storage folder.
	RefusedFolders []string
	// AuditFolders may contain audit files; if empty, all folders except those of the system may.
	AuditFolders []string
	// ConnectionFolders contain the files that clients may name when they configure a connection.
	ConnectionFolders []string
	// Dial makes all outgoing connections of the engines; see [engine.Host].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Boot lets the clock be checked at the start; nil: it is not checked then.
	Boot Boot
	// Metrics renders the metrics in the format of the parameter "format" or the header Accept,
	// and returns their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
	// Server describes this server to clients of sys/.
	Server Server
	// Observe is called after each request; may be nil.
	Observe func(o Observation)
}

// An Observation describes one finished request, for metrics.
type Observation struct {
	Op     string
	Mount  string // type of the mount; "": none
	Status fault.Kind
	OK     bool
	Took   time.Duration
}
