package outbound

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/keyturn/keyturn/internal/fault"
)

func TestGuarded(t *testing.T) {
	for _, s := range []string{
		"127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "::", "::1", "169.254.169.254", "169.254.170.2", "fe80::1",
		"fe80::1%eth0",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::169.254.169.254",
		"64:ff9b:1::a9fe:a9fe", "64:ff9b:1::", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:a9fe:a9:fe00::",
		"2001:0:4136:e378:8000:63bf:5601:5601", "2001:db8::5efe:169.254.169.254", "2001:db8::200:5efe:127.0.0.1",
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "::ffff:0:127.0.0.1", "224.0.0.1", "255.255.255.255", "ff02::1",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
	} {
		if Guarded(netip.MustParseAddr(s)) == "" {
			t.Errorf("%s may be reached", s)
		}
	}
	for _, s := range []string{
		"93.184.216.34", "10.0.0.1", "192.168.1.1", "172.16.0.1", "2606:4700::1111", "fd12:3456::1",
		"64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "64:ff9b:1:808:8:800::", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
		"2001:db8::5efe:8.8.8.8", "100.64.0.1",
	} {
		if why := Guarded(netip.MustParseAddr(s)); why != "" {
			t.Errorf("%s is refused as %s", s, why)
		}
	}
	if Guarded(netip.Addr{}) == "" {
		t.Error("the zero address may be reached")
	}
}

// TestDialChecksResolvedAddress has a name server that answers with inner addresses:
// the name says nothing, the address decides.
func TestDialChecksResolvedAddress(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, inner := range []string{"127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"} {
		d := Dialer{Resolver: fakeResolver(netip.MustParseAddr(inner))}
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("innocent.example", port))
		if err == nil {
			conn.Close()
		}
		if !fault.Is(err, fault.Denied) {
			t.Errorf("a name that resolves to %s: got %v, want denied", inner, err)
		}
	}
	d := Dialer{Resolver: fakeResolver(netip.MustParseAddr("127.0.0.1")), Allow: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/32"),
	}}
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("innocent.example", port))
	if err != nil {
		t.Fatalf("an allowed address: %v", err)
	}
	conn.Close()
}

func TestDialRefuses(t *testing.T) {
	d := Dialer{}
	for _, address := range []string{
		"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "[::ffff:7f00:1]:1", "0.0.0.0:1", "[::]:1",
		"169.254.169.254:80", "localhost:1",
	} {
		if _, err := d.DialContext(t.Context(), "tcp", address); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: got %v, want denied", address, err)
		}
	}
	if _, err := d.DialContext(t.Context(), "unix", "/var/run/docker.sock"); !fault.Is(err, fault.Denied) {
		t.Errorf("a unix socket: got %v, want denied", err)
	}
	if _, err := (&Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}).DialContext(t.Context(), "tcp",
		"127.0.0.1:1"); !fault.Is(err, fault.Upstream) {
		t.Errorf("a closed port of an allowed address: got %v, want upstream", err)
	}
}

func TestParseOrigin(t *testing.T) {
	for in, want := range map[string]Origin{
		"api.example.com":         "https://api.example.com:443",
		"API.example.com:8443":    "https://api.example.com:8443",
		"https://api.example.com": "https://api.example.com:443",
		"http://127.0.0.1:80":     "http://127.0.0.1:80",
		"http://[::1]:8080":       "http://[::1]:8080",
		"[2001:db8::1]":           "https://[2001:db8::1]:443",
		"10.0.0.7:9443":           "https://10.0.0.7:9443",
	} {
		if got, err := ParseOrigin(in); err != nil || got != want {
			t.Errorf("ParseOrigin(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "http://api.example.com", "http://localhost:80", "http://10.0.0.1", "ftp://a.example", "a.example/path",
		"a.example?q", "a.example#f", "user@a.example",
		"a.example.", "*.example.com", "a..example", "a.example:0", "a.example:070", "a.example:65536",
		"a.example:http", "a b", "-a.example", "[fe80::1%25eth0]:443",
		"a.example:443:443", "https://", "exämple.com",
	} {
		if got, err := ParseOrigin(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseOrigin(%q) = %q, %v; want invalid", in, got, err)
		}
	}
}

// TestOriginsAreNotRepeated: what stands before an @ may be a password.
func TestOriginsAreNotRepeated(t *testing.T) {
	for _, in := range []string{
		"user:canary@a.example", "https://user:canary@a.example", "canary@a.example:443", "a.example?token=canary",
		"a.example#canary", "u:canary/@a.example",
	} {
		if _, err := ParseOrigin(in); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("ParseOrigin(%q): %v", in, err)
		}
	}
}

func FuzzParseOrigin(f *testing.F) {
	f.Add("api.example.com:443")
	f.Add("http://[::1]:80")
	f.Fuzz(func(t *testing.T, in string) {
		origin, err := ParseOrigin(in)
		if err != nil {
			return
		}
		again, err := ParseOrigin(string(origin))
		if err != nil || again != origin {
			t.Fatalf("ParseOrigin(%q) = %q, which parses to %q, %v", in, origin, again, err)
		}
		u, err := url.Parse(string(origin))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OriginOf(u); err != nil || got != origin {
			t.Fatalf("OriginOf(%q) = %q, %v", u, got, err)
		}
	})
}

func TestClient(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()

	origin, err := ParseOrigin(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	d := Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	client := NewClient(ClientConfig{Origins: []Origin{origin}, Dial: d.DialContext})

	reply, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if reply.StatusCode != http.StatusTemporaryRedirect || elsewhere != 0 {
		t.Errorf("got status %d and %d calls elsewhere; want the redirect itself and none", reply.StatusCode,
			elsewhere)
	}
	for _, bad := range []string{
		other.URL, "https://api.example.com/", strings.Replace(server.URL, "http://", "http://u:p@", 1),
	} {
		request, _ := http.NewRequestWithContext(t.Context(), "POST", bad, io.NopCloser(strings.NewReader("x")))
		if reply, err := client.Do(request); !fault.Is(err, fault.Denied) {
			if err == nil {
				reply.Body.Close()
			}
			t.Errorf("%s: got %v, want denied", bad, err)
		}
	}
	if elsewhere != 0 {
		t.Errorf("%d calls went elsewhere", elsewhere)
	}
	if _, err := NewClient(ClientConfig{Origins: []Origin{origin}}).Get(server.URL); err == nil {
		t.Error("a client without a network reached the server")
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	origin, err := ParseOrigin(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	d := Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	reply, err := NewClient(ClientConfig{Origins: []Origin{origin}, Dial: d.DialContext, Roots: roots}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if reply, err := NewClient(ClientConfig{Origins: []Origin{origin}, Dial: d.DialContext}).
		Get(server.URL); err == nil {
		reply.Body.Close()
		t.Error("a certificate of nobody was taken")
	}
}

// fakeResolver answers every question with addr, over a pipe.
func fakeResolver(addr netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go answerDNS(far, addr)
		return near, nil
	}}
}

// answerDNS speaks DNS over a stream (two bytes of length first), which is what
// the resolver speaks on a connection that is not packet-oriented.
func answerDNS(conn net.Conn, addr netip.Addr) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		buf := make([]byte, int(size[0])<<8|int(size[1]))
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf); err != nil {
			return
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		head := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case m.Questions[0].Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}}}
		case m.Questions[0].Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
		}
		out, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...)); err != nil {
			return
		}
	}
}
