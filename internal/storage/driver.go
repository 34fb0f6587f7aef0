package storage

import (
	"context"
	"log/slog"
)

// A Driver is a kind of store that a configuration can name.
type Driver struct {
	// Name is the label of the stanza: storage "pebble" { … }.
	Name string
	// Params are the parameters of the stanza. The configuration refuses others, and the reference
	// is generated from them.
	Params []Param
	// Check checks the parameters' values without side effects; nil: every value is valid.
	Check func(params map[string]string) error
	// Open opens the store with the stanza's parameters. ctx limits only the opening. The store
	// logs what it does on its own, but never a value. The caller closes the store.
	Open func(ctx context.Context, params map[string]string, log *slog.Logger) (Store, error)
}

// A Param is one parameter of a driver.
type Param struct{ Name, Takes, Default, Doc string }
