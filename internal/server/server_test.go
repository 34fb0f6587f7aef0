package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// certificate writes a certificate with its key to dir. It is its own
// authority.
func certificate(t *testing.T, dir, name string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// clientTLS trusts what stands in the file.
func clientTLS(t *testing.T, file string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: pool}
}

// A logBook is a log that a test reads while it is written.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// launch runs a server with the configuration file until the test ends, and
// returns it once it is ready.
func launch(t *testing.T, path string) (*server, *logBook) {
	t.Helper()
	read := func() (*config.Server, error) { return config.Read([]string{path}, known()) }
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	log := &logBook{}
	s, err := newServer(c, named(), "0.0.1", log)
	if err != nil {
		t.Fatal(err)
	}
	s.reread = read
	ready := make(chan struct{})
	s.prepare = func(context.Context, *server) error { close(ready); return nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("starting: %v", err)
	}
	return s, log
}

// anyone is whom a test trusts that only looks at what is shown.
const anyone = true

// serial is the number of the certificate that the server shows.
func serial(t *testing.T, address string) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: anyone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestReloadTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir, "server", 1)
	path := write(t, dir, "keyturn.hcl", fmt.Sprintf(`storage "memory" {}
listener "tcp" {
  address       = "127.0.0.1:0"
  tls_cert_file = %q
  tls_key_file  = %q
}
`, dir+"/server.crt", dir+"/server.key"))
	s, log := launch(t, path)
	address := s.listeners[0].spec.Address
	if got := serial(t, address); got != 1 {
		t.Fatalf("serial %d", got)
	}
	certificate(t, dir, "server", 2)
	if got := serial(t, address); got != 1 {
		t.Errorf("serial %d before the reload", got)
	}
	s.reload()
	if got := serial(t, address); got != 2 {
		t.Errorf("serial %d after the reload", got)
	}
	write(t, dir, "server.crt", "no certificate")
	s.reload()
	if got := serial(t, address); got != 2 || !strings.Contains(log.String(), "everything stays as it is") {
		t.Errorf("serial %d after a broken reload: %s", got, log)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir, "server", 1)
	certificate(t, dir, "client", 2)
	certificate(t, dir, "stranger", 3)
	listener := `
listener "tcp" {
  address       = "127.0.0.1:0"
  tls_cert_file = "DIR/server.crt"
  tls_key_file  = "DIR/server.key"
  MORE
}
`
	text := `storage "memory" {}`
	for _, more := range []string{``, `tls_min_version = "tls13"`, `tls_client_ca_file = "DIR/client.crt"`,
		"tls_client_ca_file = \"DIR/client.crt\"\n tls_require_and_verify_client_cert = true",
		`tls_max_version = "tls12"`, `tls_cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"`,
		`tls_cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,TLS_AES_128_GCM_SHA256"`,
		"tls_client_ca_file = \"DIR/client.crt\"\n tls_disable_client_certs = true"} {
		text += strings.ReplaceAll(strings.ReplaceAll(listener, "MORE", more), "DIR", dir)
	}
	for i, tt := range []struct {
		listener int
		client   string
		change   func(*tls.Config)
		ok       bool
	}{
		{0, "", nil, true},
		{0, "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }, false},
		{0, "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{0, "", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, true},
		{1, "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{1, "", nil, true},
		{2, "", nil, true},
		{2, "client", nil, true},
		{2, "stranger", nil, false},
		{3, "", nil, false},
		{3, "client", nil, true},
		{3, "stranger", nil, false},
		{4, "", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, false},
		{4, "", nil, true},
		{5, "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12; c.NextProtos = []string{"h2"} }, true},
		{5, "", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}, false},
		{5, "", nil, true}, // TLS 1.3 does not ask
		// over HTTP/1.1: HTTP/2 forbids the suite
		{6, "", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{7, "stranger", nil, true},
	} {
		one := t.TempDir()
		parts := strings.Split(text, "\nlistener")
		path := write(t, one, "keyturn.hcl", parts[0]+"\nlistener"+parts[1+tt.listener])
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s, _ := launch(t, path)
			c := clientTLS(t, dir+"/server.crt")
			if tt.client != "" {
				pair, err := tls.LoadX509KeyPair(filepath.Join(dir, tt.client+".crt"),
					filepath.Join(dir, tt.client+".key"))
				if err != nil {
					t.Fatal(err)
				}
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &pair,
						nil
				}
			}
			if tt.change != nil {
				tt.change(c)
			}
			tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: len(c.NextProtos) > 0}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get("https://" + s.listeners[0].spec.Address + "/v1/sys/health")
			if (err == nil) != tt.ok {
				t.Fatalf("got %v, want ok=%v", err, tt.ok)
			}
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != 501 || len(c.NextProtos) > 0 && resp.ProtoMajor != 2 {
					t.Errorf("status %d over %s", resp.StatusCode, resp.Proto)
				}
			}
		})
	}
}

// TestReloadSettings changes what requests meet, from outside, and what the log
// tells.
func TestReloadSettings(t *testing.T) {
	dir := t.TempDir()
	text := func(top, listener string) string {
		return "storage \"memory\" {}\n" + top +
			"\nlistener \"tcp\" {\n address = \"127.0.0.1:0\"\n tls_disable = true\n" + listener + "\n}\n"
	}
	path := write(t, dir, "keyturn.hcl", text("log_level = \"warn\"\nlog_file = \""+dir+"/\"", ""))
	s, log := launch(t, path)
	url := "http://" + s.listeners[0].spec.Address + "/v1/sys/health"
	get := func(forwarded string) *http.Response {
		t.Helper()
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	if res := get("1.2.3.4"); res.StatusCode != 501 || res.Header.Get("X-Custom") != "" ||
		res.Header.Get("X-Vault-Hostname") != "" {
		t.Errorf("before: %d %v", res.StatusCode, res.Header)
	}
	if err := os.Rename(dir+"/vault.log", dir+"/old.log"); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "keyturn.hcl", text(
		"log_level = \"info\"\nlog_requests_level = \"info\"\nenable_response_header_hostname = "+
			"true\ncluster_name = \"x\"",
		"custom_response_headers { \"default\" = { \"X-Custom\" = [\"a\"] } }\nx_forwarded_for_authorized_addrs "+
			"= \"10.0.0.0/8\"\nhttp_idle_timeout = \"9s\""))
	s.reload()
	if res := get("1.2.3.4"); res.StatusCode != 400 || res.Header.Get("X-Custom") != "a" ||
		res.Header.Get("X-Vault-Hostname") == "" {
		t.Errorf("after: %d %v", res.StatusCode, res.Header)
	}
	for _, want := range []string{
		"setting=cluster_name", "setting=log_file", "setting=\"http_idle_timeout of listener", "completed_request",
		"status_code=400",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q: %s", want, log)
		}
	}
	if text, err := os.ReadFile(dir + "/vault.log"); err != nil ||
		!strings.Contains(string(text), "completed_request") {
		t.Errorf("the new log file has %q, %v", text, err)
	}
	write(t, dir, "keyturn.hcl", text("log_requests_level = \"off\"", "max_json_depth = \"x\""))
	s.reload()
	if res := get("1.2.3.4"); res.StatusCode != 400 || !strings.Contains(log.String(), "everything stays as it is") {
		t.Errorf("a wrong one: %d %s", res.StatusCode, log)
	}
	write(t, dir, "keyturn.hcl", text("", ""))
	s.reload()
	if res := get("1.2.3.4"); res.StatusCode != 501 || res.Header.Get("X-Custom") != "" {
		t.Errorf("taken back: %d %v", res.StatusCode, res.Header)
	}
}

func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := newServer(&config.Server{
		Listeners: []config.Listener{{At: config.Position{File: "a.hcl", Line: 3}, Address: taken.Addr().
			String(), TLS: config.TLS{Disable: true}}},
		Storage: config.Stanza{Name: "memory"},
	}, named(), "0.0.1", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	err = s.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "a.hcl:3: address: listening on "+taken.Addr().String()) ||
		!strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if s.store != nil {
		t.Error("the store was opened")
	}
}

// TestDrain: a request under way when the server stops is answered; a new one
// finds the door closed.
func TestDrain(t *testing.T) {
	d, err := open(t.Context(), config.Listener{Address: "127.0.0.1:0", TLS: config.TLS{Disable: true}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := make(chan struct{}), make(chan struct{})
	work := d.start(t.Context(), httpapi.Config{Backend: httpapi.Backend{
		Handle: func(ctx context.Context, _ *route.Request) (*core.Answer, error) {
			close(in)
			select {
			case <-out:
				return &core.Answer{Status: 200, Body: []byte(`{}`)}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}})
	served := make(chan error, 1)
	go func() { served <- work() }()
	s, err := newServer(&config.Server{}, named(), "0.0.1", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s.listeners = []*openListener{d}
	url := "http://" + d.spec.Address + "/v1/secret/a"
	status := make(chan int, 1)
	go func() {
		resp, err := http.Get(url)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-in
	drained := make(chan error, 1)
	go func() { drained <- s.drain(t.Context()) }()
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("serving ended with %v", err)
	}
	if resp, err := http.Get(url); err == nil {
		resp.Body.Close()
		t.Error("a new request was taken")
	}
	select {
	case <-drained:
		t.Error("drained while a request is under way")
	default:
	}
	close(out)
	if got := <-status; got != 200 {
		t.Errorf("status %d", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// known are the drivers that the tests use.
func known() config.Known {
	return config.Known{Storage: []storage.Driver{memory.Driver}, Seals: []seal.Driver{shamir()}}
}

// named are plug-ins of which only the storage works.
func named() Plugins { return Plugins{Storage: known().Storage, Seals: known().Seals} }

// shamir is a seal of which only the name matters.
func shamir() seal.Driver {
	return seal.Driver{Name: "shamir", Open: func(map[string]string) (seal.Seal, error) { return nil, nil }}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
