package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/logs"
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

const usage = `Usage: keyturn server -config FILE|FOLDER [-config ...] [options]
       keyturn server -dev [-config ...] [options]

  Starts the server. It runs until it gets SIGTERM or SIGINT. SIGHUP reads the
  configuration and the certificates anew, and reopens the log and audit files.

  Check a configuration without starting:

      $ keyturn server -config /etc/keyturn/keyturn.hcl -check

  Try things out, with everything in memory and unsealed:

      $ keyturn server -dev

Options:

`

// Command returns `keyturn server`, as the command line calls it: it parses
// args, runs until ctx ends, and returns the exit code.
func Command(p Plugins, version string) func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return func(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
		o, err := parseOptions(args, stdout)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return 0
		case err != nil:
			note(stderr, "Error: %v\n\nHint: %q tells the options.", err, "keyturn server -h")
			return 1
		}
		if err := (starter{o, p, version, stdout, stderr}).start(ctx); err != nil {
			var wrong config.Problems
			if errors.As(err, &wrong) {
				note(stderr, "Error: the server does not start:\n%s", wrong)
			} else {
				note(stderr, "Error: the server does not start: %s", config.Reason(err))
			}
			return 1
		}
		return 0
	}
}

func parseOptions(args []string, stdout io.Writer) (*options, error) {
	o := &options{listen: os.Getenv("VAULT_DEV_LISTEN_ADDRESS"), root: os.Getenv("VAULT_DEV_ROOT_TOKEN_ID")}
	if o.listen == "" {
		o.listen = "127.0.0.1:8200"
	}
	f := flag.NewFlagSet("server", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("config", "`path` of a configuration file, or of a folder of them; may be given again", func(s string) error {
		o.config = append(o.config, s)
		return nil
	})
	f.BoolVar(&o.check, "check", false, "only check the configuration")
	f.StringVar(&o.level, "log-level", os.Getenv("VAULT_LOG_LEVEL"), "trace, debug, info, warn or error; goes before the configuration's (VAULT_LOG_LEVEL)")
	f.StringVar(&o.format, "log-format", os.Getenv("VAULT_LOG_FORMAT"), "text or json; goes before the configuration's (VAULT_LOG_FORMAT)")
	f.StringVar(&o.file, "log-file", "", "the `path` of a file to log to as well; this and the next three flags override the configuration")
	f.Int64Var(&o.rotate.bytes, "log-rotate-bytes", 0, "how large the log file may become")
	f.DurationVar(&o.rotate.every, "log-rotate-duration", 24*time.Hour, "how long the log file is written to")
	f.IntVar(&o.rotate.files, "log-rotate-max-files", 0, "how many old log files are kept: 0 for all, -1 for none")
	f.BoolVar(&o.dev, "dev", false, "for trying out: in memory, unsealed, nothing survives")
	f.StringVar(&o.root, "dev-root-token-id", o.root, "the first root `token` of -dev (VAULT_DEV_ROOT_TOKEN_ID)")
	f.StringVar(&o.listen, "dev-listen-address", o.listen, "the `address` of -dev (VAULT_DEV_LISTEN_ADDRESS)")
	f.BoolVar(&o.noStore, "dev-no-store-token", false, "do not write -dev's root token to ~/.vault-token")
	f.BoolVar(&o.kvV1, "dev-kv-v1", false, "mount version 1 of the key-value engine at -dev's secret/")
	f.BoolVar(&o.devTLS, "dev-tls", false, "-dev with TLS, by a certificate that is made for it")
	f.StringVar(&o.certDir, "dev-tls-cert-dir", "", "the `folder` for -dev-tls's files; without it, they are deleted when the server stops")
	f.Func("dev-tls-san", "a further `name` or address in -dev-tls's certificate; may be given again", func(s string) error {
		o.sans = append(o.sans, s)
		return nil
	})
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, meantFlag(err, f)
	case f.NArg() > 0:
		return nil, fmt.Errorf("server takes no arguments, but got %q; name files with -config", f.Arg(0))
	}
	o.given = map[string]bool{}
	f.Visit(func(set *flag.Flag) { o.given[set.Name] = true })
	o.dev = o.dev || o.devTLS
	return o, o.contradiction()
}

// meantFlag helps where a flag is not known.
func meantFlag(err error, f *flag.FlagSet) error {
	_, name, unknown := strings.Cut(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	var names []string
	f.VisitAll(func(one *flag.Flag) { names = append(names, one.Name) })
	return config.UnknownFlag(name, names)
}

// contradiction says what in the options cannot be meant.
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

// apply puts flags and variables before the configuration's settings. They were
// checked. At a reload, the level that the configuration says goes before them, as Vault has it.
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

// A starter is one start of the server.
type starter struct {
	*options
	plugins        Plugins
	version        string
	stdout, stderr io.Writer
}

// start runs, or only checks.
func (l starter) start(ctx context.Context) error {
	if l.dev {
		return l.startDev(ctx)
	}
	read := func() (*config.Server, error) { return config.Read(l.config, l.known()) }
	return l.run(ctx, read, func(ctx context.Context, s *server) error {
		h, err := s.core.Health(ctx)
		if err == nil && !h.Initialized {
			s.log.Info("the server is not initialized; run: keyturn operator init")
		}
		return err
	})
}

// known are the drivers that a configuration can name.
func (l starter) known() config.Known {
	return config.Known{Storage: l.plugins.Storage, Seals: l.plugins.Seals}
}

// run runs the server that a configuration describes, or only checks it. prepare
// comes before the first request.
func (l starter) run(ctx context.Context, files func() (*config.Server, error), prepare func(context.Context, *server) error) error {
	read := func(reload bool) (*config.Server, error) {
		c, err := files()
		if err != nil {
			return nil, err
		}
		return c, l.apply(c, reload)
	}
	c, err := read(false)
	if err != nil {
		return err
	}
	if l.check {
		for _, w := range c.Warnings {
			note(l.stdout, "Warning: %s", w)
		}
		note(l.stdout, "The configuration is good.")
		return nil
	}
	s, err := newServer(c, l.plugins, l.version, l.stderr)
	if err != nil {
		return err
	}
	s.reread = func() (*config.Server, error) { return read(true) }
	for _, w := range c.Warnings {
		s.log.Warn(w)
	}
	s.prepare = prepare
	return s.run(ctx)
}

// newServer opens the log; run closes it.
func newServer(c *config.Server, p Plugins, version string, stderr io.Writer) (*server, error) {
	l, err := logs.Open(c.Log, stderr)
	if err != nil {
		return nil, err
	}
	s := &server{plugins: p, version: version, cfg: c, logs: l, log: l.Logger()}
	s.running.Store(c)
	return s, nil
}
