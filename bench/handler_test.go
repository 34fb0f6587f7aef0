package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage/pebble"
)

// BenchmarkHandler measures keyturn itself, without network and client:
//
//	go test ./bench -bench Handler/read -cpuprofile /tmp/cpu
func BenchmarkHandler(b *testing.B) {
	for _, bb := range []struct {
		name, method, path, body string
		audited                  bool
	}{
		{"read", http.MethodGet, "kv/data/app", "", true},
		{"read-unaudited", http.MethodGet, "kv/data/app", "", false},
		{"write", http.MethodPost, "kv/data/app-", secretBody, true},
		{"token", http.MethodPost, "auth/token/create", tokenBody, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			h, token := inProcess(b, bb.audited)
			var n atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					path := bb.path
					if strings.HasSuffix(path, "-") {
						path += strconv.FormatInt(n.Add(1)%20_000, 10)
					}
					if w := ask(h, bb.method, path, bb.body, token); w.code >= 300 {
						b.Errorf("status %d", w.code)
						return
					}
				}
			})
		})
	}
}

// answered keeps only the status, because a recorder would cost as much as the handler.
type answered struct {
	head http.Header
	code int
}

func (a *answered) Header() http.Header         { return a.head }
func (a *answered) WriteHeader(code int)        { a.code = code }
func (a *answered) Write(p []byte) (int, error) { return len(p), nil }

func ask(h http.Handler, method, path, body, token string) *answered {
	r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
	r.Header.Set("X-Vault-Token", token)
	w := &answered{head: http.Header{}, code: 200}
	h.ServeHTTP(w, r)
	return w
}

// inProcess returns a server without a listener, and a token with the policy "bench".
func inProcess(b *testing.B, audited bool) (http.Handler, string) {
	b.Helper()
	dir := b.TempDir()
	st, err := pebble.Open(b.Context(),
		pebble.Options{Path: filepath.Join(dir, "store"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	s, err := anySeal(&bench{dir: dir, log: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	c := core.New(core.Config{
		Store: st, StorageName: "pebble", Seal: s, Log: slog.New(slog.DiscardHandler), ClusterName: "bench",
		Types: core.Types{Engines: plugins.Engines, Auths: plugins.AuthMethods}, Audits: plugins.AuditDevices,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
		if err := st.Close(); err != nil {
			b.Error(err)
		}
	})
	const root = "hvs.root-token-of-the-bench"
	if _, err := c.Init(ctx, core.InitRequest{RootToken: secret.Text(root)}); err != nil {
		b.Fatal(err)
	}
	h := httpapi.New(httpapi.Config{Backend: httpapi.Backend{Handle: c.Handle}})
	do := func(path, body string) {
		if w := ask(h, http.MethodPost, path, body, root); w.code >= 300 {
			b.Fatalf("%s: status %d", path, w.code)
		}
	}
	do("sys/mounts/kv", `{"type":"kv","options":{"version":"2"}}`)
	do("sys/policies/acl/bench", `{"policy":`+strconv.Quote(policy)+`}`)
	do("auth/token/create", `{"id":"bench-token","policies":["bench"],"ttl":"240h"}`)
	do("kv/data/app", secretBody)
	if audited {
		do("sys/audit/file",
			`{"type":"file","options":{"file_path":`+strconv.Quote(filepath.Join(dir, "audit.log"))+`}}`)
	}
	return h, "bench-token"
}
