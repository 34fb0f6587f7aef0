package server

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/storage"
)

// options are the flags of `keyturn server`.
type options struct {
	config []string
	check  bool
	level  string
	format string
	file   string
	rotate struct {
		bytes int64
		every time.Duration
		files int
	}
	given map[string]bool // which flags there were

	dev     bool
	root    string
	listen  string
	noStore bool
	kvV1    bool
	devTLS  bool
	certDir string
	sans    []string
}

// Plugins are the implementations that a server can be built of.
type Plugins struct {
	Storage []storage.Driver
	Seals   []seal.Driver
	Audits  []audit.Type
	Engines []engine.Type
	Auths   []auth.Type
	// Databases are the names that a connection's plugin_name may have.
	Databases []string
}

// apply lets flags and environment variables override the configuration. They have been checked.
// At a reload, the configuration's log level overrides them, as in Vault.
func (o *options) apply(c *config.Server, reload bool) error {
	if o.level != "" && !(reload && c.Says("log_level")) {
		c.Log.Level, _ = config.Level(o.level)
	}
	if o.format != "" {
		c.Log.Format, _ = config.Format(o.format)
	}
	if o.given["log-file"] {
		c.Log.File = o.file
	}
	if o.given["log-rotate-bytes"] {
		c.Log.RotateBytes = o.rotate.bytes
	}
	if o.given["log-rotate-duration"] {
		c.Log.RotateEvery = o.rotate.every
	}
	if o.given["log-rotate-max-files"] {
		c.Log.MaxFiles = o.rotate.files
	}
	if addr := os.Getenv("VAULT_API_ADDR"); addr != "" {
		if !config.ServerURL(addr) {
			return errors.New("variable VAULT_API_ADDR: want a URL such as \"https://keyturn.example.org:8200\"")
		}
		c.APIAddr = addr
	}
	return nil
}

// contradiction returns what is contradictory in the options.
func (o *options) contradiction() error {
	switch {
	case o.dev && o.check && len(o.config) == 0:
		return errors.New("-check needs -config: -dev has nothing to check")
	case o.dev && o.listen == "":
		return errors.New("-dev-listen-address: want a host and a port such as \"127.0.0.1:8200\"")
	case !o.devTLS && (o.certDir != "" || len(o.sans) > 0):
		return errors.New("-dev-tls-cert-dir and -dev-tls-san need -dev-tls; add it")
	case o.kvV1 && !o.dev:
		return errors.New("-dev-kv-v1 needs -dev; add it, or mount the engine with \"secrets enable -version=1 kv\"")
	case !o.dev && len(o.config) == 0:
		return errors.New("the server needs a configuration: -config FILE, or -dev for trying things out")
	}
	if o.level != "" {
		if _, err := config.Level(o.level); err != nil {
			return fmt.Errorf("-log-level: %w", err)
		}
	}
	if _, err := config.Format(o.format); err != nil {
		return fmt.Errorf("-log-format: %w", err)
	}
	switch {
	case o.rotate.bytes < 0:
		return errors.New("-log-rotate-bytes: want a number of bytes, or 0 for no limit")
	case o.rotate.every < time.Second:
		return errors.New("-log-rotate-duration: want a duration of at least a second")
	case o.rotate.files < -1:
		return errors.New("-log-rotate-max-files: want how many old files are kept, 0 for all or -1 for none")
	}
	return nil
}
