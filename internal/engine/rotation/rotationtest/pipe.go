package rotationtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Pipe serves h over pipes until the test ends. It returns a dial function, which ignores the
// address. Pipe works inside synctest bubbles, where real sockets do not.
func Pipe(t *testing.T, h http.Handler) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	return pipe(t, h, func(l net.Listener) net.Listener { return l })
}

// PipeTLS is Pipe with TLS, for every host name. It also returns the authority of its
// certificates.
func PipeTLS(t *testing.T, h http.Handler) (dial func(ctx context.Context, network, address string) (net.Conn, error),
	roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(ca)
	// In TLS 1.2, the type of a record is legible, which silent needs.
	config := &tls.Config{MaxVersion: tls.VersionTLS12}
	var made sync.Map // *tls.Certificate by server name
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c, ok := made.Load(hello.ServerName); ok {
			return c.(*tls.Certificate), nil
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{hello.ServerName},
			NotAfter: ca.NotAfter}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
		c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		made.Store(hello.ServerName, c)
		return c, err
	}
	dialPipe := pipe(t, h, func(l net.Listener) net.Listener { return tls.NewListener(l, config) })
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		near, err := dialPipe(ctx, network, address)
		return silent{near}, err
	}, roots
}

// silent is a connection that sends no TLS alerts. Both ends send one when they close, and a pipe
// has no buffer, so each would wait for the other to read.
type silent struct{ net.Conn }

func (s silent) Write(b []byte) (int, error) {
	const alert = 21
	if len(b) > 0 && b[0] == alert {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func pipe(t *testing.T, h http.Handler, wrap func(net.Listener) net.Listener) func(ctx context.Context, network,
	address string) (net.Conn, error) {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(wrap(l)) // ErrServerClosed
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return l.dial
}

// A pipeListener accepts the connections that dial makes.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- silent{far}:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for a dial.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and dial.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns a placeholder.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
