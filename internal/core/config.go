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

// What sys/ tells of a server, its plugins and the requests that it serves; see the package node.
type (
	Server = node.Server
	Plugin = node.Plugin
	Log    = node.Log
	Flight = node.Flight
	CORS   = node.CORS
)

// TTLs of the system where the configuration says nothing: 32 days, as Vault.
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
	// RefusedFolders may not hold an audit file: the storage folder.
	RefusedFolders []string
	// AuditFolders are where audit files may be; none: everywhere but in folders of the system.
	AuditFolders []string
	// ConnectionFolders hold the files that clients may name in the configuration of a connection.
	ConnectionFolders []string
	// Dial is the engines' one way out; see [engine.Host].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Boot guards the clock across restarts; nil: it is not checked at the start.
	Boot Boot
	// Metrics renders the metrics in the form that the parameter "format" or the
	// header Accept asks for, and says their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
	// Server is what sys/ tells of this server; core itself adds what the store knows.
	Server Server
	// Observe is told of each request that was served; may be nil.
	Observe func(o Observation)
}

// An Observation is what metrics learn of one request.
type Observation struct {
	Op     string
	Mount  string // type of the mount, "" where none
	Status fault.Kind
	OK     bool
	Took   time.Duration
}
