package outbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// TestEndlessReply: a reply without an end costs a megabyte, however it comes.
func TestEndlessReply(t *testing.T) {
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	ended := make(chan struct{}, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", "1099511627776")
		case "/error":
			w.WriteHeader(http.StatusForbidden)
		}
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	for _, path := range []string{"/", "/length", "/error"} {
		c := NewClient(ClientConfig{AnyOrigin: true, Dial: Anywhere.DialContext, KeepAlive: true})
		reply, err := c.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if len(text) > ReplyMax || !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: %d bytes, %v; want at most %d and an error of kind TooLarge", path, len(text), err, ReplyMax)
		}
		<-ended // the connection is given up
		c.CloseIdleConnections()
	}
}

// TestReplyOfTheLimit is read whole, and one byte more is refused.
func TestReplyOfTheLimit(t *testing.T) {
	for size, fits := range map[int]bool{0: true, 1: true, 99: true, 100: true, 101: false, 1000: false} {
		c := NewClient(ClientConfig{AnyOrigin: true,
			MaxReply: 100, Replay: replay(func(*http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: 200, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", size))),
				}, nil
			})})
		reply, err := c.Get("https://a.example/")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		if reply.Body.Close(); (err == nil) != fits || len(text) != min(size, 100) {
			t.Errorf("%d bytes: read %d, %v", size, len(text), err)
		}
	}
}

type replay func(*http.Request) (*http.Response, error)

func (f replay) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSlowReply: a call ends, headers and body together, also where its caller has all the time in
// the world.
func TestSlowReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, headers := range []bool{false, true} {
			c := NewClient(ClientConfig{AnyOrigin: true,
				Within: time.Minute, Replay: replay(func(r *http.Request) (*http.Response, error) {
					if !headers {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					near, far := io.Pipe()
					go func() {
						for range time.Tick(time.Second) {
							if _, err := far.Write([]byte("x")); err != nil {
								return
							}
						}
					}()
					context.AfterFunc(r.Context(), func() { far.CloseWithError(r.Context().Err()) })
					return &http.Response{StatusCode: 200, Body: near}, nil
				})})
			began := time.Now()
			reply, err := c.Get("https://a.example/")
			if err == nil {
				_, err = io.ReadAll(reply.Body)
				reply.Body.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 61*time.Second {
				t.Errorf("headers %v: %v after %s", headers, err, time.Since(began))
			}
		}
		time.Sleep(2 * time.Second) // what trickles sees that nobody reads
	})
}

// TestEndlessConnection: of whatever protocol, a connection brings so much at once and so much in
// time, whatever is written meanwhile; then it breaks. One that brings less goes on for ever.
func TestEndlessConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		c := meter(near)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			for {
				if _, err := far.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		read, buf := 0, make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if read += n; err != nil {
				if !fault.Is(err, fault.TooLarge) {
					t.Error(err)
				}
				break
			}
			_, _ = c.Write([]byte("x")) // as a key update in TLS has us write
		}
		if read < burst || read > burst+len(buf) {
			t.Errorf("%d bytes were read, want about %d", read, burst)
		}
		if _, err := c.Read(buf); !fault.Is(err, fault.TooLarge) {
			t.Errorf("a broken connection: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		c := meter(near)
		buf := make([]byte, rate)
		for range 100 { // a hundred megabytes in a hundred seconds
			go func() { _, _ = far.Write(make([]byte, rate)) }()
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		// as sessions of a pool are
		for _, idle := range []time.Duration{3 * time.Hour, 24 * time.Hour, 4000 * time.Hour} {
			time.Sleep(idle)
			go func() { _, _ = far.Write(make([]byte, burst-1)) }()
			if _, err := io.ReadFull(c, make([]byte, burst-1)); err != nil {
				t.Fatalf("after %s: %v", idle, err)
			}
		}
	})
}

// TestDialedConnectionsAreMetered, and show drivers their socket.
func TestDialedConnectionsAreMetered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Anywhere.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, ok := c.(*metered)
	if !ok {
		t.Fatalf("%T is not metered", c)
	}
	if _, err := m.SyscallConn(); err != nil {
		t.Error(err)
	}
}

// TestOwnAddresses: an address of this machine's interfaces is this machine, in every form, unless
// it is allowed.
func TestOwnAddresses(t *testing.T) {
	own := func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.ParseIP("10.1.2.3"), Mask: net.CIDRMask(24, 32)},
			&net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)},
			&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)}, &net.UnixAddr{Name: "x"},
		}, nil
	}
	d := Dialer{interfaces: own}
	for _, addr := range []string{
		"10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "64:ff9b::10.1.2.3", "2002:a01:203::1",
		"2001:db8:1::5efe:10.1.2.3",
	} {
		err := d.Check(netip.MustParseAddr(addr))
		if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Message(err), "an address of this machine") {
			t.Errorf("%s: %v, want denied", addr, err)
		}
	}
	for _, addr := range []string{"10.1.2.4", "10.1.2.0", "2001:db8::8", "93.184.216.34"} {
		if err := d.Check(netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	allowed := Dialer{interfaces: own, Allow: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}
	if err := allowed.Check(netip.MustParseAddr("10.1.2.3")); err != nil {
		t.Errorf("an allowed address: %v", err)
	}
	blind := Dialer{interfaces: func() ([]net.Addr, error) { return nil, errors.New("EAFNOSUPPORT") }}
	if err := blind.Check(netip.MustParseAddr("10.1.2.4")); !fault.Is(err, fault.Denied) ||
		!strings.Contains(fault.Message(err), "AF_NETLINK") {
		t.Errorf("where the addresses cannot be read: %v, want denied", err)
	}
	if err := Anywhere.Check(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
}

// TestOwnInterface: the real addresses of this machine are refused, too.
func TestOwnInterface(t *testing.T) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Skip(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			conn, err := new(Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort(n.IP.String(), "1"))
			if !fault.Is(err, fault.Denied) {
				if err == nil {
					conn.Close()
				}
				t.Errorf("%s: %v, want denied", n.IP, err)
			}
		}
	}
}
