package databasetest

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// flooded limits the bytes that a server can send before the client closes the connection,
// including those in buffers. On a busy machine, the client reads up to its limit on several
// connections, because its driver connects again.
const flooded = 256 << 20

// Endless checks a provider against servers whose answer never ends: a call must fail soon and
// read little. A flood is sent as its first element once, and then its second again and again.
// config returns the configuration for an address.
func Endless(t *testing.T, p database.Provider, config func(host string, port int) database.Config,
	floods map[string][2][]byte) {
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var sent atomic.Int64
			go pour(l, flood, &sent)
			at := l.Addr().(*net.TCPAddr)
			// long enough to read up to the provider's limit on a busy machine
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			conn, err := p.Connect(ctx, config("127.0.0.1", at.Port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.Verify(ctx); err == nil || ctx.Err() != nil || fault.Message(err) == "" ||
				len(err.Error()) > 16<<10 {
				t.Errorf("%d bytes of error, and %v of the context: %.200v", len(err.Error()), ctx.Err(), err)
			}
			if n := sent.Load(); n > flooded {
				t.Errorf("the client read %d bytes", n)
			}
		})
	}
}

// pour serves floods until the listener is closed.
func pour(l net.Listener, flood [2][]byte, sent *atomic.Int64) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			go func() { // discard what the client sends
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
			for next := flood[0]; ; next = flood[1] {
				n, err := c.Write(next)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
}
