// Package config is what the server's configuration files say: the language, its
// keys with their documentation, and all that can be checked before anything is
// opened.
//
// Files are HCL 1 or JSON, as Vault's, and read strictly: an unknown key is an
// error, and all problems are reported together, each with its line.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Server is what the configuration files say. They are HCL 1 or JSON, as
// Vault's, and read strictly: what is not known is an error.
type Server struct {
	Listeners []Listener
	Storage   Stanza
	Seal      Stanza // without a name: shamir

	APIAddr     string // where clients reach this server; a URL
	ClusterName string

	LogLevel  slog.Level
	LogFormat string // "text" or "json"

	DefaultLeaseTTL time.Duration // 0: 32 days
	MaxLeaseTTL     time.Duration // 0: 32 days

	// OutboundAllow lists addresses on this machine, on the link or of a cloud's
	// metadata service that engines may connect to all the same.
	OutboundAllow []netip.Prefix

	// AuditFolders and ConnectionFolders list the folders of this machine in which clients may name files: audit
	// files to be written, and files that a connection's configuration refers to. See package hostfile.
	AuditFolders      []string // none: everywhere but in folders of the system
	ConnectionFolders []string // none: nowhere

	// Warnings name what is accepted and has no effect yet.
	Warnings []string
}

// A Listener is one address to serve on.
type Listener struct {
	At      Position
	Address string // host:port

	TLSDisable bool // serves plain HTTP, because the configuration says so
	CertFile   string
	KeyFile    string
	MinVersion uint16 // of TLS; at least 1.2
	// ClientCAFile holds the authorities whose client certificates are
	// accepted. RequireClient refuses clients without one.
	ClientCAFile  string
	RequireClient bool

	MaxBody     int64         // of one request, in bytes; 0: 32 MiB
	MaxTime     time.Duration // of one request; 0: 90 s
	OpenMetrics bool          // sys/metrics without a token
}

// A Stanza is a block whose label names a driver and whose members are the
// driver's own.
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

// A Problem is one thing that is wrong in a configuration.
type Problem struct {
	At   Position
	Text string
}

// Problems are all that is wrong in a configuration, in the order of its
// lines. They are an error.
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

// Read reads files, and the files *.hcl and *.json of folders, as one
// configuration. The error is [Problems].
func Read(paths []string, known Known) (*Server, error) {
	p := newParser(known)
	for _, path := range p.files(paths) {
		text, err := os.ReadFile(path)
		if err != nil {
			p.problem(Position{File: path}, "reading it: %v", cause(err))
			continue
		}
		p.file(path, text)
	}
	return p.finish()
}

// files replaces folders by what they hold.
func (p *parser) files(paths []string) []string {
	var all []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			p.problem(Position{File: path}, "reading it: %v", cause(err))
			continue
		case !info.IsDir():
			all = append(all, path)
			continue
		}
		var found []string
		for _, end := range []string{"*.hcl", "*.json"} {
			some, err := filepath.Glob(filepath.Join(path, end))
			if err != nil {
				p.problem(Position{File: path}, "looking for files: %v", err)
			}
			found = append(found, some...)
		}
		if len(found) == 0 {
			p.problem(Position{File: path}, "the folder has no file *.hcl or *.json; name a file, or a folder that has one")
		}
		slices.Sort(found)
		all = append(all, found...)
	}
	return all
}

// cause is an error of the file system without the path, which stands before it already.
func cause(err error) error {
	if pe, ok := asPathError(err); ok {
		return pe
	}
	return err
}

// levels are the names that log_level takes.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
}

// Level reads a level's name.
func Level(text string) (slog.Level, error) {
	if l, ok := levels[strings.ToLower(text)]; ok {
		return l, nil
	}
	return 0, fmt.Errorf("want trace, debug, info, warn or error, not %q", text)
}

// Format reads a form's name.
func Format(text string) (string, error) {
	switch strings.ToLower(text) {
	case "", "text", "standard":
		return "text", nil
	case "json":
		return "json", nil
	}
	return "", fmt.Errorf("want text (or standard) or json, not %q", text)
}

// Reason is an error for the person at the terminal: the message, then the cause.
func Reason(err error) string {
	text := fault.Message(err)
	if text == "" {
		return err.Error()
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ours := e.(*fault.Error); !ours && !strings.Contains(e.Error(), text) {
			return text + ": " + e.Error()
		}
	}
	return text
}
