package server

import (
	"context"
	"io"

	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/logs"
)

// A starter is one start of the server.
type starter struct {
	*options
	plugins        Plugins
	version        string
	stdout, stderr io.Writer
}

// known are the drivers that a configuration can name.
func (l starter) known() config.Known {
	return config.Known{Storage: l.plugins.Storage, Seals: l.plugins.Seals}
}

// run runs the server that a configuration describes, or only checks it. prepare
// comes before the first request.
func (l starter) run(
	ctx context.Context, files func() (*config.Server, error), prepare func(context.Context, *server) error,
) error {
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
