// Package config parses the server's configuration files. It has the keys with their
// documentation, and checks everything that can be checked before anything is opened.
//
// Files are HCL 1 or JSON, as Vault's, and read strictly: an unknown key is an
// error, and all problems are reported together, each with its line.
//
// A key is a row of a table: its type, its default, its purpose, whether SIGHUP re-reads it, and
// where the value is stored. The reference is generated from the same rows. Keys that Vault
// documents, but this server does not have, are in the tables of absent.go, which say what to use
// instead.
package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/server/httpapi"
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
	MaxRequestTime  time.Duration // of listeners that say nothing else

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

// Log is the configuration of the log.
type Log struct {
	Level    slog.Level
	Format   string      // "text" or "json"
	Requests *slog.Level // of the line about each request that was answered; nil: there is none

	// File is the log file in addition to standard error; "": none. It is rotated after
	// RotateBytes (0: no limit) or RotateEvery, and MaxFiles old ones are kept: 0: all, below
	// zero: none.
	File        string
	RotateBytes int64
	RotateEvery time.Duration
	MaxFiles    int
}

// Kinds of listener.
const (
	TCP  = "tcp"
	Unix = "unix"
)

// A Listener is one address to serve on.
type Listener struct {
	At      Position
	Kind    string // TCP or Unix
	Address string // host:port, or the path of a socket

	Socket   Socket // of kind Unix
	TLS      TLS    // of kind TCP
	Proxy    Proxy  // of kind TCP
	HTTP     httpapi.Settings
	Timeouts httpapi.Timeouts

	given given
}

// Socket has the permissions of a Unix socket.
type Socket struct {
	Mode        uint32 // of the file; 0: what the process's umask leaves
	User, Group string // names or numbers; "": those of the process
}

// Proxy is what a listener makes of the header of the PROXY protocol.
type Proxy struct {
	Behavior string // "": it does not know the protocol
	By       []netip.Prefix
}

// What a listener makes of the header of the PROXY protocol.
const (
	UseAlways        = "use_always"        // every sender is trusted
	AllowAuthorized  = "allow_authorized"  // some are; that of others is read and passed over
	DenyUnauthorized = "deny_unauthorized" // some are; others are hung up on
)

// URL is a listener in a log line.
func (l *Listener) URL() string {
	switch {
	case l.Kind == Unix:
		return "unix://" + l.Address
	case l.TLS.Disable:
		return "http://" + l.Address
	}
	return "https://" + l.Address
}

// A Stanza is a block whose label is a driver, and whose members are the driver's parameters.
type Stanza struct {
	At     Position
	Name   string
	Params map[string]string
}

// A Position is a line of a file.
type Position struct {
	File string
	Line int // 0: the file as a whole
}

// String is "file:line".
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// A Problem is one mistake in a configuration.
type Problem struct {
	At   Position
	Text string
}

// Problems are all mistakes in a configuration, in the order of its lines. They are an error.
type Problems []Problem

// Error has one problem on each line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Text
		if one.At.File != "" {
			lines[i] = one.At.String() + ": " + one.Text
		}
	}
	return strings.Join(lines, "\n")
}

// Known are the drivers that a configuration can name.
type Known struct {
	Storage []storage.Driver
	Seals   []seal.Driver
}

// Says reports whether the top level has the key.
func (c *Server) Says(key string) bool {
	_, ok := c.given[key]
	return ok
}

// Trusts reports whether the proxy at an address may name its client.
func (p *Proxy) Trusts(from net.Addr) bool {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	addr := at.Addr().Unmap().WithZone("")
	for _, by := range p.By {
		if by.Contains(addr) {
			return true
		}
	}
	return false
}
