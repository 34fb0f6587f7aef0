// Package config parses the server's configuration files. It has the keys with their
// documentation, and checks everything that can be checked before anything is opened.
//
// Files are HCL 1 or JSON, as Vault's, and read strictly: an unknown key is an error, and all
// problems are reported together, each with its line.
//
// A key is a row of a table: its type, its default, its purpose, whether SIGHUP re-reads it, and
// where the value is stored. The reference is generated from the same rows. Keys that Vault
// documents, but this server does not have, are in the tables of absent.go, which say what to use
// instead.
package config

import (
	"net/netip"
	"time"

	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Server is the parsed configuration.
type Server struct {
	Listeners []Listener
	Storage   Stanza
	Seal      Stanza // without a name: shamir

	APIAddr     string // where clients reach this server; a URL
	ClusterName string
	PIDFile     string
	Log         Log

	DefaultLeaseTTL time.Duration // 0: 32 days
	MaxLeaseTTL     time.Duration // 0: 32 days
	MaxRequestTime  time.Duration // of listeners that do not set it

	// OutboundAllow lists addresses of this machine, link-local ones or those of a cloud's
	// metadata service that engines may connect to nevertheless.
	OutboundAllow []netip.Prefix
	RawStorage    bool // sys/raw reads and writes the store's rows
	Introspection bool // sys/internal/inspect shows the server's tables
	DisableCache  bool // keep as little as possible of the store in memory
	ShowHostname  bool // as a header of each answer
	// RotationSeries is how many rotating credentials have their own series in the metrics.
	RotationSeries int

	// AuditFolders and ConnectionFolders list the folders of this machine in which clients may
	// name files: audit files, and files that a connection's configuration refers to. See package
	// hostfile.
	AuditFolders      []string // none: everywhere except in system folders
	ConnectionFolders []string // none: nowhere

	// Warnings list settings that are accepted without effect.
	Warnings []string

	given given // the top level
}

// Says reports whether the top level has the key.
func (c *Server) Says(key string) bool {
	_, ok := c.given[key]
	return ok
}

// Known has the drivers that a configuration can name.
type Known struct {
	Storage []storage.Driver
	Seals   []seal.Driver
}
