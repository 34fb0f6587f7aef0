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
	"slices"
	"strings"
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

// recorder is a store that records the batches of requests.
type recorder struct {
	storage.Store

	mu      sync.Mutex
	on      bool
	batches [][]storage.Op
}

// Commit implements [storage.Store].
func (r *recorder) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on {
		r.batches = append(r.batches,
			slices.DeleteFunc(slices.Clone(b.Ops), func(o storage.Op) bool { return o.Kind == storage.Assert }))
	}
	return r.Store.Commit(ctx, b)
}

// during returns what is committed while f runs.
func (r *recorder) during(f func() error) ([][]storage.Op, error) {
	r.mu.Lock()
	r.on, r.batches = true, nil
	r.mu.Unlock()
	err := f()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	return r.batches, err
}

// commitsOf returns what a request for folder+name commits. It runs a core in this process over a
// store in memory, and compares two requests to find the parts of the keys that differ.
func commitsOf(ctx context.Context, b *bench, folder string, names [2]string, body []byte) ([]batch, error) {
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
	running.Go(func() { _ = c.Run(ctx) }) // ends with our context
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
	var all [2][][]storage.Op
	for i, name := range names {
		if all[i], err = rec.during(func() error { return ask(http.MethodPost, folder+name, body) }); err != nil {
			return nil, err
		}
	}
	return shaped(all, names)
}

// shaped compares the keys of two requests, and returns their constant and variable parts.
func shaped(all [2][][]storage.Op, names [2]string) ([]batch, error) {
	if len(all[0]) != len(all[1]) {
		return nil, errors.New("two equal requests commit a different number of batches")
	}
	var out []batch
	for i, ops := range all[0] {
		if len(ops) != len(all[1][i]) {
			return nil, errors.New("two equal requests commit a different number of operations")
		}
		var one batch
		for j, o := range ops {
			one = append(one, shapedKey(o, [2]string{o.Key, all[1][i][j].Key}, names))
		}
		out = append(out, one)
	}
	return out, nil
}

func shapedKey(o storage.Op, keys, names [2]string) written {
	w := written{Head: o.Key, Size: len(o.Value), Delete: o.Kind == storage.Delete, Stamp: o.Stamp}
	if o.Stamp {
		return w
	}
	if head, tail, found := strings.Cut(o.Key, names[0]); names[0] != "" && found {
		w.Head, w.Named, w.Tail = head, true, tail
		return w
	}
	same := 0
	for same < min(len(keys[0]), len(keys[1])) && keys[0][same] == keys[1][same] {
		same++
	}
	w.Head, w.Random = o.Key[:same], len(o.Key)-same
	return w
}

// anySeal returns a seal "static" with a new key.
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

// timed returns the duration of f.
func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}
