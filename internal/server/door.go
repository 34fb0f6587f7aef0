package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// A door is one listener that is open.
type door struct {
	spec   config.Listener
	socket net.Listener
	http   *http.Server
	// tls is what new connections use; nil for plain HTTP. A reload swaps it.
	tls atomic.Pointer[tls.Config]
}

// openDoor binds the address. Nothing is served before serve.
func openDoor(ctx context.Context, spec config.Listener) (*door, error) {
	d := &door{spec: spec}
	t, err := spec.TLS()
	if err != nil {
		return nil, config.Problems{{At: spec.At, Text: err.Error()}}
	}
	d.tls.Store(t)
	var lc net.ListenConfig
	if d.socket, err = lc.Listen(ctx, "tcp", spec.Address); err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return nil, config.Problems{{At: spec.At, Text: fmt.Sprintf("address: listening on %s: %v", spec.Address, err)}}
	}
	d.spec.Address = d.socket.Addr().String() // a port 0 has become one
	return d, nil
}

// start makes the server, and returns what serves until the server is shut
// down. ctx is the parent of all requests.
func (d *door) start(ctx context.Context, cfg httpapi.Config) func() error {
	cfg.MaxBody, cfg.MaxTime, cfg.OpenMetrics = d.spec.MaxBody, d.spec.MaxTime, d.spec.OpenMetrics
	d.http = httpapi.New(cfg).Server()
	d.http.BaseContext = func(net.Listener) context.Context { return ctx }
	if d.tls.Load() == nil {
		return func() error { return d.http.Serve(d.socket) }
	}
	d.http.TLSConfig = &tls.Config{
		MinVersion:         d.spec.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.tls.Load(), nil },
	}
	return func() error { return d.http.ServeTLS(d.socket, "", "") }
}
