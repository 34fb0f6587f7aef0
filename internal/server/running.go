package server

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/server/logs"
	"github.com/keyturn/keyturn/internal/storage"
)

// A server is what one run has opened.
type server struct {
	plugins Plugins
	version string
	cfg     *config.Server // as it was at the start
	log     *slog.Logger
	logs    *logs.Logs
	reread  func() (*config.Server, error) // nil: nothing to reload from
	// running is the configuration, as the last SIGHUP has changed it.
	running atomic.Pointer[config.Server]
	// prepare is called when core runs, before requests are answered. The sockets are bound, so
	// clients wait.
	prepare func(context.Context, *server) error

	store     storage.Store
	core      *core.Core
	listeners []*openListener
	// flights are the requests in flight on all listeners.
	flights httpapi.Flights
}
