package storage

import (
	"context"
	"log/slog"
)

// A Driver is a kind of store that a configuration can name.
type Driver struct {
	// Name is the label of the stanza: storage "pebble" { … }.
	Name string
	// Params are what the stanza may hold. The configuration refuses others, and
	// writes the reference from them.
	Params []Param
	// Check says what is wrong with the parameters' values, as far as that is known
	// without touching anything; nil: nothing can be.
	Check func(params map[string]string) error
	// Open opens the store that the stanza's parameters describe. ctx bounds
	// opening alone. The log receives what the store does by itself,
	// never a value. The caller closes the store.
	Open func(ctx context.Context, params map[string]string, log *slog.Logger) (Store, error)
}

// A Param is one parameter of a driver.
type Param struct{ Name, Takes, Default, Doc string }
