package node

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A setting is one row of the server's own configuration, below core/. It is read from the store
// each time, so that every server over one store has the same.
type setting[T any] struct{ key string }

// Read returns what was set, or the zero value.
func (s setting[T]) Read(ctx context.Context, view *barrier.View) (T, error) {
	v, _, err := s.read(ctx, view)
	return v, err
}

func (s setting[T]) read(ctx context.Context, view *barrier.View) (v T, version storage.Version, err error) {
	row, err := view.Get(ctx, s.key)
	if err != nil || row.Version == 0 {
		return v, 0, err
	}
	if err := json.Unmarshal(row.Value, &v); err != nil {
		return v, 0, fault.Wrap("node.setting", fault.Internal, err)
	}
	return v, row.Version, nil
}

// change stores what edit makes of the setting, unless it returns an error. Of two changes at the
// same time, the second one is made of what the first one stored.
func (s setting[T]) change(ctx context.Context, view *barrier.View, edit func(v *T) error) error {
	for range 10 {
		v, version, err := s.read(ctx, view)
		if err != nil {
			return err
		}
		if err := edit(&v); err != nil {
			return err
		}
		b, err := json.Marshal(v)
		if err != nil {
			return fault.Wrap("node.setting", fault.Internal, err)
		}
		_, err = view.Commit(ctx, storage.Set(s.key, b).If(version))
		if !errors.Is(err, storage.ErrConflict) && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("node.setting", fault.Conflict, "other requests keep changing the same setting; try again")
}

// remove forgets the setting.
func (s setting[T]) remove(ctx context.Context, view *barrier.View) error {
	_, err := view.Commit(ctx, storage.Remove(s.key))
	return err
}
