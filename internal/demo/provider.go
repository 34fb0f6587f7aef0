package demo

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
)

// consumerAgent is the consumer's User-Agent, so that calls of the server can be delayed without
// delaying the consumer.
const consumerAgent = "keyturn-demo-consumer"

// A provider is a fake third party that issues keys, on its own port.
type provider struct {
	*keyserver.Server
	url   string
	admin string
	http  *http.Server

	mu      sync.Mutex
	waiting chan struct{} // closed by the delayed call; nil: no call is delayed
}

// openProvider starts the provider.
func openProvider(ctx context.Context) (*provider, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening a port for the provider: %w", err)
	}
	p := &provider{admin: "admin_" + rand.Text(), url: "http://" + l.Addr().String()}
	p.Server = keyserver.New(keyserver.Config{AdminToken: p.admin})
	p.http = &http.Server{Handler: p.gate(p.Handler()), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.http.Serve(l) }() // close ends it
	return p, nil
}

func (p *provider) close() { _ = p.http.Close() }

// hold makes the next call that verifies a key hang until its caller gives up. The channel is
// closed when the call arrives.
func (p *provider) hold() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = make(chan struct{})
	return p.waiting
}

// gate delays calls that hold has ordered.
func (p *provider) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/whoami" && r.UserAgent() != consumerAgent && p.held() {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func (p *provider) held() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		return false
	}
	close(p.waiting)
	p.waiting = nil
	return true
}

// use calls the provider with a key over HTTP, as a customer would.
func (p *provider) use(ctx context.Context, client *http.Client, key string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/v1/whoami", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("User-Agent", consumerAgent)
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %s", response.Status)
	}
	return nil
}
