package arch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTableIsFresh runs the generator and compares the result. (The walk of the tree has opened
// every file that it reads, so the test cache notices changes.)
func TestTableIsFresh(t *testing.T) {
	tree(t)
	dir := filepath.Join(root, "internal/plugins")
	have, err := os.ReadFile(filepath.Join(dir, "table.go"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), generate(t, dir)); d != "" {
		t.Errorf("internal/plugins/table.go is stale; run: go generate ./internal/plugins\n%s", d)
	}
}

func generate(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("go", "run", "gen.go", "-print")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gen.go: %v\n%s", err, stderr.String())
	}
	return string(out)
}

// TestGenerator shows it a small tree.
func TestGenerator(t *testing.T) {
	tmp := t.TempDir()
	gen, err := os.ReadFile(filepath.Join(root, "internal/plugins/gen.go"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"plugins/gen.go":           string(gen),
		"storage/storage.go":       "package storage\ntype Driver struct{}",
		"storage/pebble/p.go":      "package pebble\nvar Driver = storage.Driver{}",
		"storage/memory/m.go":      "package memory\nfunc New() {}",
		"storage/faulty/f.go":      "package faulty\nvar Driver = storage.Driver{}",
		"storage/storagetest/s.go": "package storagetest\nvar Driver = storage.Driver{}",
		"engine/engine.go":         "package engine\ntype Type struct{}",
		"engine/kv/kv.go":          "package kv\nvar Type = engine.Type{}",
		"engine/half/half_test.go": "package half\nvar Type = engine.Type{}",
		"engine/database/database.go": "package database\ntype Provider struct{}\nfunc New(ps ...Provider) " +
			"engine.Type { panic(0) }",
		"engine/database/redis/redis.go":       "package redis\nvar Provider = database.Provider{}",
		"engine/database/databasetest/test.go": "package databasetest\nvar Provider = database.Provider{}",
		"engine/rotation/rotation.go": "package rotation\ntype Provider struct{}\nfunc New(ps []Provider) " +
			"engine.Type { panic(0) }",
		"engine/rotation/redis/redis.go":     "package redis\nconst Other = 1\nvar Provider rotation.Provider",
		"engine/rotation/journal/journal.go": "package journal",
		"auth/token/token.go":                "package token\nvar Type = auth.Type{}", // no contract: no table
	} {
		file := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := generate(t, filepath.Join(tmp, "plugins"))
	_, got, _ = strings.Cut(got, "import (")
	const want = `
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	databaseredis "github.com/keyturn/keyturn/internal/engine/database/redis"
	enginekv "github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	rotationredis "github.com/keyturn/keyturn/internal/engine/rotation/redis"
	"github.com/keyturn/keyturn/internal/storage"
	storagepebble "github.com/keyturn/keyturn/internal/storage/pebble"
)

// StorageDrivers is every storage driver.
var StorageDrivers = []storage.Driver{
	storagepebble.Driver,
}

// Databases is every kind of database.
var Databases = []database.Provider{
	databaseredis.Provider,
}

// RotationProviders is every provider of keys.
var RotationProviders = []rotation.Provider{
	rotationredis.Provider,
}

// Engines is every secrets engine.
var Engines = []engine.Type{
	database.New(Databases...),
	enginekv.Type,
	rotation.New(RotationProviders),
}
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}
