package httpapi

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Backend has the methods of a [core.Core] that the handler needs.
type Backend struct {
	Handle      func(ctx context.Context, r *route.Request) (*core.Answer, error)
	Health      func(ctx context.Context) (core.Health, error)
	SealStatus  func(ctx context.Context) (core.SealStatus, error)
	Initialized func(ctx context.Context) (bool, error)
	Init        func(ctx context.Context, r core.InitRequest) (*core.InitResult, error)
	Unseal      func(ctx context.Context, share secret.Value, reset bool) (core.SealStatus, error)
	// Metrics renders the metrics in the format of the parameter "format" or the header Accept,
	// and returns their content type.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
	// CORS returns the origins whose web pages may call the API; nil: none.
	CORS func(ctx context.Context) (core.CORS, error)
	// UIHeaders returns the headers of answers below /ui; nil: none.
	UIHeaders func(ctx context.Context) (map[string][]string, error)
}

// Config of a [Handler].
type Config struct {
	Backend  Backend
	Version  string // Keyturn's own
	Log      *slog.Logger
	Settings Settings
	// Flights records the requests in flight; nil: they are not recorded.
	Flights *Flights
}

// A Handler serves the API. It is safe for concurrent use.
type Handler struct {
	cfg      Config
	settings atomic.Pointer[Settings] // never nil, its defaults filled in
	large    atomic.Int64             // bodies under way that are more than smallBody
	ending   chan struct{}            // closed when the server shuts down
}

// APIVersion is the version of Vault whose behaviour is implemented. Clients
// gate on it: plain X.Y.Z, nothing behind it.
const APIVersion = "1.21.0"
