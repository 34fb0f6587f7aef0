package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/keyturn/keyturn/internal/server/config"
)

// options are the flags of `keyturn server`.
type options struct {
	config []string
	check  bool
	level  string
	format string

	dev     bool
	root    string
	listen  string
	noStore bool
}

const usage = `Usage: keyturn server -config FILE|FOLDER [-config ...] [options]
       keyturn server -dev [options]

  Starts the server. It runs until it gets SIGTERM or SIGINT; SIGHUP reloads
  certificates, the log's level and the audit files.

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
		if err := start(ctx, o, p, version, stdout, stderr); err != nil {
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
	f.StringVar(&o.level, "log-level", "", "trace, debug, info, warn or error; goes before the configuration's")
	f.StringVar(&o.format, "log-format", "", "text or json; goes before the configuration's")
	f.BoolVar(&o.dev, "dev", false, "for trying out: in memory, unsealed, nothing survives")
	f.StringVar(&o.root, "dev-root-token-id", o.root, "the first root `token` of -dev (VAULT_DEV_ROOT_TOKEN_ID)")
	f.StringVar(&o.listen, "dev-listen-address", o.listen, "the `address` of -dev (VAULT_DEV_LISTEN_ADDRESS)")
	f.BoolVar(&o.noStore, "dev-no-store-token", false, "do not write -dev's root token to ~/.vault-token")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("server takes no arguments, but got %q; name files with -config", f.Arg(0))
	}
	return o, o.contradiction()
}

// contradiction says what in the options cannot be meant.
func (o *options) contradiction() error {
	switch {
	case o.dev && len(o.config) > 0:
		return errors.New("-dev and -config contradict each other: -dev keeps everything in memory; take one of them")
	case o.dev && o.check:
		return errors.New("-check needs -config: -dev has nothing to check")
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
	return nil
}

// apply puts the flags before the configuration's settings. They were checked.
func (o *options) apply(c *config.Server) {
	if o.level != "" {
		c.LogLevel, _ = config.Level(o.level)
	}
	if o.format != "" {
		c.LogFormat, _ = config.Format(o.format)
	}
}

// start runs, or only checks.
func start(ctx context.Context, o *options, p Plugins, version string, stdout, stderr io.Writer) error {
	if o.dev {
		return startDev(ctx, o, p, version, stdout, stderr)
	}
	read := func() (*config.Server, error) {
		c, err := config.Read(o.config, config.Known{Storage: p.Storage, Seals: p.Seals})
		if err == nil {
			o.apply(c)
		}
		return c, err
	}
	c, err := read()
	if err != nil {
		return err
	}
	if o.check {
		for _, w := range c.Warnings {
			note(stdout, "Warning: %s", w)
		}
		note(stdout, "The configuration is good.")
		return nil
	}
	s := newServer(c, p, version, stderr)
	s.reread = read
	for _, w := range c.Warnings {
		s.log.Warn(w)
	}
	s.prepare = func(ctx context.Context, s *server) error {
		h, err := s.core.Health(ctx)
		if err == nil && !h.Initialized {
			s.log.Info("the server is not initialized; run: keyturn operator init")
		}
		return err
	}
	return s.run(ctx)
}

func newServer(c *config.Server, p Plugins, version string, log io.Writer) *server {
	level := new(slog.LevelVar)
	level.Set(c.LogLevel)
	return &server{plugins: p, version: version, cfg: c, level: level, log: slog.New(c.Handler(log, level))}
}
