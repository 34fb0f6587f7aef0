package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// openEcho opens a door that answers each request with the client's address.
func openEcho(t *testing.T, spec config.Listener) *openListener {
	t.Helper()
	spec.Timeouts = httpapi.DefaultTimeouts(httpapi.DefaultMaxTime)
	d, err := open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	work := d.start(t.Context(), httpapi.Config{Settings: spec.HTTP, Backend: httpapi.Backend{
		Handle: func(_ context.Context, r *route.Request) (*core.Answer, error) {
			return &core.Answer{Status: 200, Body: []byte(r.Remote.Addr().String()), ContentType: "text/plain"}, nil
		},
	}})
	done := make(chan error, 1)
	go func() { done <- work() }()
	t.Cleanup(func() {
		d.http.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("serving ended with %v", err)
		}
	})
	return d
}

// request sends head, then a request, and returns the answer's body; empty if the
// server hung up.
func request(t *testing.T, network, address, head string) string {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server may have hung up already: reading tells.
	_, _ = io.WriteString(c, head+"GET /v1/secret/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 {
		return res.Status
	}
	return string(body)
}

func proxyHeader(t *testing.T, version byte, client string) string {
	t.Helper()
	from, to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), &net.TCPAddr{
		IP: net.IPv4(10, 0, 0, 9), Port: 8200,
	}
	if from.IP.To4() == nil {
		to.IP = net.ParseIP("fd00::9")
	}
	text, err := proxyproto.HeaderProxyFromAddrs(version, from, to).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestProxyProtocol: who is believed to be the client, for each behaviour, with and without the
// header, from a proxy and from elsewhere.
func TestProxyProtocol(t *testing.T) {
	here, elsewhere := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"),
	}
	v1, v2, six := proxyHeader(t, 1, "1.2.3.4:5"), proxyHeader(t, 2, "1.2.3.4:5"), proxyHeader(t, 2, "[2001:db8::1]:5")
	const refused, self = "400 Bad Request", "127.0.0.1"
	for _, tt := range []struct {
		name string
		rule config.Proxy
		head string
		want string
	}{
		{"off", config.Proxy{}, "", self},
		{"off, with a header", config.Proxy{}, v1, refused},
		{"always, v1", config.Proxy{Behavior: config.UseAlways}, v1, "1.2.3.4"},
		{"always, v2", config.Proxy{Behavior: config.UseAlways}, v2, "1.2.3.4"},
		{"always, IPv6", config.Proxy{Behavior: config.UseAlways}, six, "2001:db8::1"},
		{"always, none", config.Proxy{Behavior: config.UseAlways}, "", self},
		{"always, unknown", config.Proxy{Behavior: config.UseAlways}, "PROXY UNKNOWN\r\n", self},
		{"always, local", config.Proxy{Behavior: config.UseAlways}, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", self},
		{"always, broken", config.Proxy{Behavior: config.UseAlways}, "PROXY TCP4 1.2.3.4 x 5 6\r\n", ""},
		{"allowed, v1", config.Proxy{Behavior: config.AllowAuthorized, By: here}, v1, "1.2.3.4"},
		{"allowed, v2", config.Proxy{Behavior: config.AllowAuthorized, By: here}, v2, "1.2.3.4"},
		{"allowed, none", config.Proxy{Behavior: config.AllowAuthorized, By: here}, "", self},
		{"spoofed v1, passed over", config.Proxy{Behavior: config.AllowAuthorized, By: elsewhere}, v1, self},
		{"spoofed v2, passed over", config.Proxy{Behavior: config.AllowAuthorized, By: elsewhere}, v2, self},
		{"denied, from the proxy", config.Proxy{Behavior: config.DenyUnauthorized, By: here}, v2, "1.2.3.4"},
		{"denied, v1", config.Proxy{Behavior: config.DenyUnauthorized, By: elsewhere}, v1, ""},
		{"denied, none", config.Proxy{Behavior: config.DenyUnauthorized, By: elsewhere}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := openEcho(t, config.Listener{
				Kind: config.TCP, Address: "127.0.0.1:0", TLS: config.TLS{Disable: true}, Proxy: tt.rule,
			})
			if got := request(t, "tcp", d.spec.Address, tt.head); got != tt.want {
				t.Errorf("the client is %q, want %q", got, tt.want)
			}
			if tt.rule.Behavior == config.DenyUnauthorized { // it serves on
				d.proxy.Store(&config.Proxy{})
				if got := request(t, "tcp", d.spec.Address, ""); got != self {
					t.Errorf("afterwards: %q", got)
				}
			}
		})
	}
}

// TestBothProxies: the address of the PROXY protocol is the one that must be allowed
// to name a client in X-Forwarded-For.
func TestBothProxies(t *testing.T) {
	spec := config.Listener{Kind: config.TCP, Address: "127.0.0.1:0", TLS: config.TLS{
		Disable: true,
	}, Proxy: config.Proxy{Behavior: config.UseAlways}}
	spec.HTTP.Forwarded = &httpapi.Forwarded{By: []netip.Prefix{netip.MustParsePrefix("1.2.3.4/32")}, TakeAbsent: true}
	d := openEcho(t, spec)
	for client, want := range map[string]string{"1.2.3.4:5": "6.7.8.9", "1.2.3.5:5": "400 Bad Request"} {
		head := proxyHeader(t, 1, client) +
			"GET /v1/secret/a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.7.8.9\r\nConnection: close\r\n\r\n"
		if got := request(t, "tcp", d.spec.Address, head); got != want {
			t.Errorf("from %s: %q, want %q", client, got, want)
		}
	}
}

// TestUnixSocket: who may use the socket, and what becomes of one that is there.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.sock")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	spec := config.Listener{
		Kind: config.Unix, Address: path, Socket: config.Socket{Mode: 0o660, User: me.Username, Group: me.Gid},
	}
	d := openEcho(t, spec)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got := request(t, "unix", path, ""); got != "invalid IP" {
		t.Errorf("the client is %q", got)
	}
	if d.spec.URL() != "unix://"+path {
		t.Errorf("it is called %s", d.spec.URL())
	}
	if _, err := open(t.Context(), spec); err == nil ||
		!strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a socket in use: %v", err)
	}
}

func TestUnixSocketLeftOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k.sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := open(t.Context(), config.Listener{Kind: config.Unix, Address: path})
	if err != nil {
		t.Fatalf("a socket that nobody listens on: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o777&^umask() {
		t.Errorf("mode %v with umask %v, %v", info.Mode(), umask(), err)
	}
	if err := d.socket.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "k.sock", "a file")
	for name, tt := range map[string]struct {
		spec config.Listener
		want string
	}{
		"a file":   {config.Listener{Address: path}, "not a socket"},
		"a folder": {config.Listener{Address: dir}, "not a socket"},
		"nowhere":  {config.Listener{Address: dir + "/none/k.sock"}, "no such file"},
		"no user":  {config.Listener{Address: dir + "/x", Socket: config.Socket{User: "no-such-user"}}, "socket_user"},
		"no group": {config.Listener{Address: dir + "/x", Socket: config.Socket{Group: "no-such-group"}},
			"socket_group"},
	} {
		tt.spec.Kind = config.Unix
		if _, err := open(t.Context(), tt.spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "a file" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// TestPIDFile: the file is there while the server runs, and another's is left alone.
func TestPIDFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "k.pid", "99999999")
	remove, err := writePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != fmt.Sprint(os.Getpid()) {
		t.Errorf("%q, %v", text, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if err := remove(); err != nil {
		t.Errorf("removed meanwhile: %v", err)
	}
	write(t, dir, "k.pid", "99999999")
	if err := remove(); err != nil {
		t.Errorf("another's: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another's is gone: %v", err)
	}
	if _, err := writePID(dir + "/none/k.pid"); err == nil || !strings.Contains(err.Error(), "pid_file") {
		t.Errorf("no folder: %v", err)
	}
	if remove, err := writePID(""); err != nil || remove() != nil {
		t.Errorf("none: %v", err)
	}
}
