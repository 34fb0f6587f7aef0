package storage

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// A Driver is a kind of store that a configuration can name.
type Driver struct {
	// Name is the label of the stanza: storage "pebble" { … }.
	Name string
	// Open opens the store that the stanza's parameters describe; a parameter
	// that the driver does not know is an error that names those it does. ctx
	// bounds opening alone. The log receives what the store does by itself,
	// never a value. The caller closes the store.
	Open func(ctx context.Context, params map[string]string, log *slog.Logger) (Store, error)
}

// CheckParams refuses parameters that are not among the allowed ones. Drivers
// call it first.
func CheckParams(driver string, params map[string]string, allowed ...string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if slices.Contains(allowed, name) {
			continue
		}
		if len(allowed) == 0 {
			return fault.New("storage.Open", fault.Invalid, "storage %q has no parameter %q; it takes none", driver, name)
		}
		return fault.New("storage.Open", fault.Invalid, "storage %q has no parameter %q; it takes: %s",
			driver, name, strings.Join(allowed, ", "))
	}
	return nil
}
