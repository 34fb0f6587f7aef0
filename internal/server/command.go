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
)

const usage = `Usage: keyturn server -config FILE|FOLDER [-config ...] [options]
       keyturn server -dev [-config ...] [options]

  Starts the server. It runs until it gets SIGTERM or SIGINT. SIGHUP reads the
  configuration and the certificates again, and reopens the log and audit files.

  Check a configuration without starting:

      $ keyturn server -config /etc/keyturn/keyturn.hcl -check

  Try things out, with everything in memory and unsealed:

      $ keyturn server -dev

Options:

`

// Command returns `keyturn server`, as the command line calls it: it parses
// args, runs until ctx ends, and returns the exit code.
func Command(
	p Plugins, version string,
) func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
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
	f.Func("config",
		"`path` of a configuration file, or of a folder of them; may be given again", func(s string) error {
			o.config = append(o.config, s)
			return nil
		})
	f.BoolVar(&o.check, "check", false, "only check the configuration")
	f.StringVar(&o.level, "log-level", os.Getenv("VAULT_LOG_LEVEL"),
		"trace, debug, info, warn or error; goes before the configuration's (VAULT_LOG_LEVEL)")
	f.StringVar(&o.format, "log-format", os.Getenv("VAULT_LOG_FORMAT"),
		"text or json; goes before the configuration's (VAULT_LOG_FORMAT)")
	f.StringVar(&o.file, "log-file", "",
		"the `path` of a file to log to as well; this and the next three flags override the configuration")
	f.Int64Var(&o.rotate.bytes, "log-rotate-bytes", 0, "how large the log file may become")
	f.DurationVar(&o.rotate.every, "log-rotate-duration", 24*time.Hour, "how long the log file is written to")
	f.IntVar(&o.rotate.files, "log-rotate-max-files", 0, "how many old log files are kept: 0 for all, -1 for none")
	f.BoolVar(&o.dev, "dev", false, "for trying out: in memory, unsealed, nothing survives")
	f.StringVar(&o.root, "dev-root-token-id", o.root, "the first root `token` of -dev (VAULT_DEV_ROOT_TOKEN_ID)")
	f.StringVar(&o.listen, "dev-listen-address", o.listen, "the `address` of -dev (VAULT_DEV_LISTEN_ADDRESS)")
	f.BoolVar(&o.noStore, "dev-no-store-token", false, "do not write -dev's root token to ~/.vault-token")
	f.BoolVar(&o.kvV1, "dev-kv-v1", false, "mount version 1 of the key-value engine at -dev's secret/")
	f.BoolVar(&o.devTLS, "dev-tls", false, "like -dev, with TLS and a certificate that is generated for it")
	f.StringVar(&o.certDir, "dev-tls-cert-dir", "",
		"the `folder` for -dev-tls's files; without it, they are deleted when the server stops")
	f.Func("dev-tls-san",
		"a further `name` or address in -dev-tls's certificate; may be given again", func(s string) error {
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
