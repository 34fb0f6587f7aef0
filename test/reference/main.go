// Command reference writes docs/reference, and the routes in the command line, from the code: the
// API from the typed routes, the command line from its tree, the configuration from its parser,
// and the metrics from their registry. A test fails if the committed pages differ, or if a cell is
// empty.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run .

// folder is the folder of the pages, relative to this one.
const folder = "../../docs/reference"

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pages, err := pages(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	mounts, err := tables(ctx)
	if err != nil {
		return err
	}
	text, err := servedFile(mounts)
	if err != nil {
		return err
	}
	return os.WriteFile(served, []byte(text), 0o644)
}

// pages returns all pages, by file name.
func pages(ctx context.Context) (map[string]string, error) {
	mounts, err := tables(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]string{
		"README.md": index(mounts),
		"cli.md":    commands(ctx),
		"config.md": configuration(),
	}
	if all["metrics.md"], err = series(ctx); err != nil {
		return nil, err
	}
	for _, m := range mounts {
		all[m.file()] = m.page()
	}
	return all, nil
}
