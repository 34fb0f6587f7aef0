package barrier

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Rows is the prefix of the rows of a view that are values of T in JSON. A row that stands alone
// has the empty name.
type Rows[T any] string

// Key returns the key of a row.
func (p Rows[T]) Key(name string) string { return string(p) + name }

// Get returns a value and the version of its row; nil and 0 if there is none.
func (p Rows[T]) Get(ctx context.Context, v *View, name string) (*T, storage.Version, error) {
	e, err := v.Get(ctx, p.Key(name))
	if err != nil || e.Version == 0 {
		return nil, 0, err
	}
	value, err := p.Decode(e)
	return value, e.Version, err
}

// Decode returns the value of a row that was read.
func (p Rows[T]) Decode(e storage.Entry) (*T, error) {
	value := new(T)
	if err := json.Unmarshal(e.Value, value); err != nil {
		return nil, fault.Wrap("barrier.Rows", fault.Internal, fmt.Errorf("the row %q is damaged: %w", e.Key, err))
	}
	return value, nil
}

// Set returns the operation that stores a value.
func (p Rows[T]) Set(name string, value T) (storage.Op, error) {
	b, err := json.Marshal(value)
	return storage.Set(p.Key(name), b), fault.Wrap("barrier.Rows", fault.Internal, err)
}

// Put stores a value, whatever its row had before.
func (p Rows[T]) Put(ctx context.Context, v *View, name string, value T) error {
	op, err := p.Set(name, value)
	if err == nil {
		_, err = v.Commit(ctx, op)
	}
	return err
}

// Names returns the rest of each key that starts with prefix, in order.
func (v *View) Names(ctx context.Context, prefix string) (names []string, err error) {
	for e, err := range v.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(e.Key, prefix))
	}
	return names, nil
}

// Has reports whether there is a row.
func (v *View) Has(ctx context.Context, key string) (bool, error) {
	e, err := v.Get(ctx, key)
	return e.Version != 0, err
}

// Delete removes a row, if it exists.
func (v *View) Delete(ctx context.Context, key string) error {
	_, err := v.Commit(ctx, storage.Remove(key))
	return err
}
