package outbound

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// Limits of what is received, in memory and time, because users choose the servers, and these may
// send endless replies.
const (
	// ReplyMax is the maximum size of an HTTP reply's body, decompressed, unless a client has its
	// own limit.
	ReplyMax = 1 << 20
	// ReplyWithin is the maximum duration of an HTTP call, until the end of its reply, unless a
	// client has its own limit.
	ReplyWithin = 5 * time.Minute

	// burst and rate limit a connection of any protocol: the bytes at once, and the bytes per
	// second. The largest legitimate reply is a list of all sessions of a database, some
	// megabytes. A limit per request would be useless, because within TLS the other side decides
	// when we write.
	burst = 16 << 20
	rate  = 1 << 20
)

// errLong is the error of a reply that is too large.
func errLong(most int64) error {
	return fault.New("outbound.Read", fault.TooLarge,
		"the reply is larger than %d KiB, and was not read to its end; check that the address is that of the right "+
			"service",
		most>>10)
}

// metered is a connection that breaks when the other side sends too much.
type metered struct {
	net.Conn

	mu   sync.Mutex // guards the rest
	left int64      // bytes that may be read
	at   time.Time  // time of left
}

func meter(c net.Conn) net.Conn { return &metered{Conn: c, left: burst, at: time.Now()} }

// Read reads, and fails permanently after too much was received.
func (m *metered) Read(p []byte) (int, error) {
	if m.spend(0) <= 0 {
		_ = m.Close() // there is nothing else to do with it
		return 0, errLong(burst)
	}
	n, err := m.Conn.Read(p)
	m.spend(n)
	return n, err
}

// spend subtracts n from the bytes that may be read, and returns the rest.
func (m *metered) spend(n int) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	// Do not count more time than is needed to reach the burst, because the product would overflow
	// within hours.
	if earned := int64(min(now.Sub(m.at), burst/rate*time.Second)) * rate / int64(time.Second); earned > 0 {
		m.left, m.at = min(burst, m.left+earned), now
	}
	m.left -= int64(n)
	return m.left
}

// SyscallConn is the socket's, which drivers look at to see whether it is still open.
func (m *metered) SyscallConn() (syscall.RawConn, error) {
	if c, ok := m.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, syscall.EINVAL
}

// bounded limits the size and duration of a transport's replies.
type bounded struct {
	next   http.RoundTripper
	most   int64
	within time.Duration
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), b.within)
	reply, err := b.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	reply.Body = &body{ReadCloser: reply.Body, most: b.most, left: b.most, cancel: cancel}
	return reply, nil
}

// CloseIdleConnections is what [http.Client] looks for.
func (b *bounded) CloseIdleConnections() { closeIdle(b.next) }

func closeIdle(t http.RoundTripper) {
	if c, ok := t.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// body is a reply's body that fails if it is too long.
type body struct {
	io.ReadCloser
	most, left int64
	cancel     context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errLong(b.most)
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than there may be, to see whether it ends there
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, errLong(b.most)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
