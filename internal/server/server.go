// Package server is `keyturn server`: it reads the configuration, opens the store and the
// listeners, serves until it is stopped, and closes everything in order.
//
// A server is one call of run: sockets are bound, the store is opened, core starts, sealed, and
// the listeners answer at once, with 503 until the server is unsealed. When the context ends,
// running requests may finish for a while, then core drops its keys, then the store is closed.
//
// SIGHUP re-reads the configuration, applies the keys that may change while the server runs (see
// config), and reopens the log file and the audit files. The whole new configuration is checked
// first; if anything in it is wrong, nothing changes.
//
// Implementations come in as [Plugins]: this package imports none.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/server/metrics"
	"github.com/keyturn/keyturn/internal/storage"
)

// Layout is the number of the storage layout that this program writes.
const Layout = storage.Layout

// Implements is the version of Vault whose behaviour is implemented.
const Implements = httpapi.APIVersion

const (
	// drainTime is how long requests may finish after the signal to stop.
	// Supervisors kill after 30 s; a request that takes longer is covered by its reservation.
	drainTime = 15 * time.Second
	// unsealAgain is how long an automatic unsealing waits after it failed.
	unsealAgain = 5 * time.Second

	// cacheBytes is the parameter of a storage that disable_cache makes as small as it may be.
	cacheBytes    = "cache_bytes"
	smallestCache = "1048576"
)

// run opens everything, serves until ctx ends, and closes everything.
func (s *server) run(ctx context.Context) error {
	defer func() {
		if err := s.logs.Close(); err != nil {
			s.log.Error("closing the log file", "error", err)
		}
	}()
	defer paceCollector()()
	defer spareProcessors()()
	// Running requests may still finish when ctx ends, because they use life.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if err := s.bind(ctx); err != nil {
		return err
	}
	defer s.closeSockets()
	remove, err := writePID(s.cfg.PIDFile)
	if err != nil {
		return err
	}
	defer func() {
		if err := remove(); err != nil {
			s.log.Error("removing pid_file", "error", err)
		}
	}()
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() {
		if err := s.store.Close(); err != nil {
			s.log.Error("closing the store", "error", err)
		}
	}()
	m := metrics.New(s.source(), s.version)
	if err := s.build(m); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() { _ = s.core.Run(life) }) // it returns when life ends
	if err := s.prepare(ctx, s); err != nil {
		return err
	}
	failed := s.serve(life, &wg, m)
	wg.Go(func() { s.unseal(life) })
	err = s.wait(ctx, failed)
	return errors.Join(err, s.drain(life))
}

// bind opens the sockets first, so that an address in use is an error before anything else
// happens.
func (s *server) bind(ctx context.Context) error {
	for _, spec := range s.cfg.Listeners {
		d, err := open(ctx, spec)
		if err != nil {
			s.closeSockets()
			return err
		}
		s.listeners = append(s.listeners, d)
	}
	return nil
}

func (s *server) closeSockets() {
	for _, d := range s.listeners {
		_ = d.socket.Close() // it is closed already after serving
	}
}

// open opens the store.
func (s *server) open(ctx context.Context) error {
	i := slices.IndexFunc(s.plugins.Storage, func(d storage.Driver) bool { return d.Name == s.cfg.Storage.Name })
	if i < 0 {
		return fmt.Errorf("storage: there is no %q; use one that the server was built with", s.cfg.Storage.Name)
	}
	driver, params := s.plugins.Storage[i], maps.Clone(s.cfg.Storage.Params)
	_, set := params[cacheBytes]
	if s.cfg.DisableCache && !set &&
		slices.ContainsFunc(driver.Params, func(p storage.Param) bool { return p.Name == cacheBytes }) {
		params[cacheBytes] = smallestCache
	}
	store, err := driver.Open(ctx, params, s.log)
	if err != nil {
		return at(s.cfg.Storage.At, err)
	}
	s.store = store
	return nil
}

// build makes the core, with the configured seal.
func (s *server) build(m *metrics.Metrics) error {
	name := s.cfg.Seal.Name
	if name == "" {
		name = "shamir"
	}
	i := slices.IndexFunc(s.plugins.Seals, func(d seal.Driver) bool { return d.Name == name })
	if i < 0 {
		return fmt.Errorf("seal: there is no %q; use one that the server was built with", name)
	}
	with, err := s.plugins.Seals[i].Open(s.cfg.Seal.Params)
	if err != nil {
		return at(s.cfg.Seal.At, err)
	}
	var folders []string
	if path := s.cfg.Storage.Params["path"]; path != "" {
		folders = []string{path}
	}
	out := &outbound.Dialer{Allow: s.cfg.OutboundAllow}
	cfg := core.Config{
		Store: s.store, StorageName: s.cfg.Storage.Name, Seal: with, Audits: s.plugins.Audits, Log: s.log,
		DefaultTTL: s.cfg.DefaultLeaseTTL, MaxTTL: s.cfg.MaxLeaseTTL, ClusterName: s.cfg.ClusterName,
		AuditFolders: s.cfg.AuditFolders, ConnectionFolders: s.cfg.ConnectionFolders,
		RefusedFolders: folders, Dial: out.DialContext, Boot: boot, Metrics: m.Render, Observe: observe(m),
	}
	cfg.Engines, cfg.Auths = s.plugins.Engines, s.plugins.Auths
	cfg.Server = s.about()
	s.core = core.New(cfg)
	return nil
}

// about is what sys/ tells of this server.
func (s *server) about() core.Server {
	info := core.Server{
		Version: s.version, Host: hostInfo, InFlight: s.flights.List, RawStorage: s.cfg.RawStorage,
		Introspection: s.cfg.Introspection,
		State:         func() ([]byte, error) { return s.running.Load().Sanitized() }, Log: s.aboutLog(),
	}
	info.Hostname, _ = os.Hostname() // empty where the system does not tell
	if len(s.listeners) > 0 {
		info.Address = s.listeners[0].spec.URL()
	}
	for _, t := range s.plugins.Auths {
		info.Plugins = append(info.Plugins, core.Plugin{Type: "auth", Name: t.Name})
	}
	for _, name := range s.plugins.Databases {
		info.Plugins = append(info.Plugins, core.Plugin{Type: "database", Name: name})
	}
	for _, t := range s.plugins.Engines {
		info.Plugins = append(info.Plugins, core.Plugin{Type: "secret", Name: t.Name})
	}
	return info
}

// aboutLog is what sys/ may do with the log.
func (s *server) aboutLog() core.Log {
	return core.Log{
		Level: func() string { return config.LevelName(s.logs.Level()) },
		SetLevel: func(text string) error {
			level, err := config.Level(text)
			if err == nil {
				s.logs.SetLevel(level)
			}
			return err
		},
		Revert: func() { s.logs.SetLevel(s.running.Load().Log.Level) },
		Watch: func(text, form string) (lines <-chan []byte, stop func(), ok bool, err error) {
			level, err := config.Level(text)
			if form != "" && err == nil {
				form, err = config.Format(form)
			}
			if err != nil {
				return nil, nil, false, err
			}
			lines, stop, ok = s.logs.Watch(level, form)
			return lines, stop, ok, nil
		},
	}
}

// serve starts the listeners. The channel receives the error of one that fails.
func (s *server) serve(life context.Context, wg *sync.WaitGroup, m *metrics.Metrics) <-chan error {
	cfg := httpapi.Config{Version: s.version, Log: s.log, Backend: httpapi.Backend{
		Handle: s.core.Handle, Health: s.core.Health, SealStatus: s.core.SealStatus,
		Initialized: s.core.Initialized, Init: s.core.Init, Unseal: s.core.Unseal, Metrics: m.Render,
		CORS: s.core.CORS, UIHeaders: s.core.UIHeaders,
	}, Flights: &s.flights}
	failed := make(chan error, len(s.listeners))
	for i, d := range s.listeners {
		cfg.Settings = s.settings(s.cfg, i)
		work := d.start(life, cfg)
		wg.Go(func() {
			if err := work(); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving on %s: %w", d.spec.Address, err)
			}
		})
		s.log.Info("listening", "address", d.spec.URL())
	}
	return failed
}

// unseal unseals a server whose seal needs no key shares, and retries until it succeeds.
func (s *server) unseal(ctx context.Context) {
	for {
		err := s.core.AutoUnseal(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Error("unsealing failed; it is retried", "after", unsealAgain, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(unsealAgain):
		}
	}
}

// wait returns when the server must stop. It reloads at each signal.
func (s *server) wait(ctx context.Context, failed <-chan error) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			s.log.Info("stopping; requests under way may finish", "within", drainTime)
			return nil
		case err := <-failed:
			return err
		case <-hup:
			s.reload()
		}
	}
}

// drain waits for running requests, for a while.
func (s *server) drain(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, drainTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, d := range s.listeners {
		wg.Go(func() {
			if err := d.http.Shutdown(ctx); err != nil {
				s.log.Warn("requests were cut off: they did not finish in time", "address", d.spec.Address)
				_ = d.http.Close() // their connections; there is nothing left to say
			}
		})
	}
	wg.Wait()
	return nil
}

// at prefixes an error for a person with the position of a stanza.
func at(p config.Position, err error) error {
	return config.Problems{{At: p, Text: config.Reason(err)}}
}

// note writes lines for a person.
func note(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
}
