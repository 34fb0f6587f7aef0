package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/pires/go-proxyproto"

	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// An openListener is a listener that is bound.
type openListener struct {
	spec    config.Listener // as it was opened
	socket  net.Listener
	handler *httpapi.Handler
	http    *http.Server
	// Settings of new connections, which a reload replaces.
	tls   atomic.Pointer[tls.Config] // nil for plain HTTP
	proxy atomic.Pointer[config.Proxy]
}

// open binds the address. Nothing is served before serve.
func open(ctx context.Context, spec config.Listener) (*openListener, error) {
	d := &openListener{spec: spec}
	d.proxy.Store(&spec.Proxy)
	if spec.Kind == config.Unix {
		socket, err := listenUnix(ctx, spec.Address, spec.Socket)
		if err != nil {
			return nil, config.Problems{
				{At: spec.At, Text: fmt.Sprintf("address: listening on %s: %v", spec.Address, err)},
			}
		}
		d.socket = socket
		return d, nil
	}
	t, err := spec.TLS.Config()
	if err != nil {
		return nil, config.Problems{{At: spec.At, Text: err.Error()}}
	}
	d.tls.Store(t)
	var lc net.ListenConfig
	if d.socket, err = lc.Listen(ctx, "tcp", spec.Address); err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return nil, config.Problems{
			{At: spec.At, Text: fmt.Sprintf("address: listening on %s: %v", spec.Address, err)},
		}
	}
	d.spec.Address = d.socket.Addr().String() // a port 0 has become one
	d.socket = &proxyproto.Listener{
		Listener: d.socket, ConnPolicy: d.believes, ReadHeaderTimeout: spec.Timeouts.ReadHeader,
	}
	return d, nil
}

// start creates the HTTP server, and returns a function that serves until it is shut down. ctx is
// the parent of all requests.
func (d *openListener) start(ctx context.Context, cfg httpapi.Config) func() error {
	d.handler = httpapi.New(cfg)
	d.http = d.handler.Server(d.spec.Timeouts)
	d.http.BaseContext = func(net.Listener) context.Context { return ctx }
	if d.tls.Load() == nil {
		return func() error { return d.http.Serve(d.socket) }
	}
	d.http.TLSConfig = &tls.Config{
		MinVersion:         d.spec.TLS.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.tls.Load(), nil },
	}
	return func() error { return d.http.ServeTLS(d.socket, "", "") }
}

// believes returns how to treat the PROXY protocol header of a new connection. A connection from a
// refused address is closed.
func (d *openListener) believes(c proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	p := d.proxy.Load()
	switch {
	case p.Behavior == "":
		return proxyproto.SKIP, nil // the bytes are the request's
	case p.Behavior == config.UseAlways || p.Trusts(c.Upstream):
		return proxyproto.USE, nil
	case p.Behavior == config.AllowAuthorized:
		return proxyproto.IGNORE, nil
	}
	return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
}
