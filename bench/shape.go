package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// recorder is a store that remembers the batches of one request.
type recorder struct {
	storage.Store

	mu      sync.Mutex
	on      bool
	batches []batch
}

// Commit implements [storage.Store].
func (r *recorder) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on {
		var one batch
		for _, o := range b.Ops {
			if o.Kind != storage.Assert {
				one = append(one, written{Key: o.Key, Size: len(o.Value), Delete: o.Kind == storage.Delete, Stamp: o.Stamp})
			}
		}
		r.batches = append(r.batches, one)
	}
	return r.Store.Commit(ctx, b)
}

func (r *recorder) record(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
}

// commitsOf returns what the last of several equal requests commits, found out with a
// core in this process over a store in memory.
func commitsOf(ctx context.Context, b *bench, method, path string, body []byte) ([]batch, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := anySeal(b)
	if err != nil {
		return nil, err
	}
	rec := &recorder{Store: memory.Open()}
	c := core.New(core.Config{
		Store: rec, StorageName: "memory", Seal: s, Log: slog.New(slog.DiscardHandler), ClusterName: "bench",
		Types: core.Types{Engines: plugins.Engines, Auths: plugins.AuthMethods},
	})
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = c.Run(ctx) }) // it ends with our context
	const root = "hvs.root-token-of-the-bench"
	if _, err := c.Init(ctx, core.InitRequest{RootToken: secret.Text(root)}); err != nil {
		return nil, err
	}
	h := httpapi.New(httpapi.Config{Backend: httpapi.Backend{Handle: c.Handle}})
	ask := func(method, path string, body []byte) error {
		r := httptest.NewRequestWithContext(ctx, method, "/v1/"+path, bytes.NewReader(body))
		r.Header.Set("X-Vault-Token", root)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 300 {
			return errors.New(w.Body.String())
		}
		return nil
	}
	if err := ask(http.MethodPost, "sys/mounts/kv", []byte(`{"type":"kv","options":{"version":"2"}}`)); err != nil {
		return nil, err
	}
	// The second write of a secret, as most are.
	if err := ask(method, path, body); err != nil {
		return nil, err
	}
	rec.record(true)
	err = ask(method, path, body)
	rec.record(false)
	return rec.batches, err
}

// anySeal is a seal "static" with a key of its own.
func anySeal(b *bench) (seal.Seal, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	file := filepath.Join(b.dir, "recorder.key")
	if err := os.WriteFile(file, []byte(hex.EncodeToString(key)), 0o600); err != nil {
		return nil, err
	}
	return openSeal(file)
}

func openSeal(file string) (seal.Seal, error) {
	for _, d := range plugins.Seals {
		if d.Name == "static" {
			return d.Open(map[string]string{"current_key": "file://" + file})
		}
	}
	return nil, fault.New("bench", fault.Internal, "there is no seal \"static\"")
}

// auditOf returns the lines that one request adds to the audit file.
func (k *keyturn) auditOf(ask func() error) ([]byte, error) {
	before, err := os.ReadFile(k.audit())
	if err != nil {
		return nil, err
	}
	if err := ask(); err != nil {
		return nil, err
	}
	after, err := os.ReadFile(k.audit())
	if err != nil {
		return nil, err
	}
	return after[len(before):], nil
}

// timed is how long f takes.
func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}
