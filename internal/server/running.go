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
	// running is the configuration with what SIGHUP has read anew.
	running atomic.Pointer[config.Server]
	// prepare runs when core does and nobody is answered yet; the sockets are
	// bound, so who connects waits.
	prepare func(context.Context, *server) error

	store     storage.Store
	core      *core.Core
	listeners []*openListener
	// flights are the requests that all doors serve.
	flights httpapi.Flights
}
