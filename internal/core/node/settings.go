package node

import (
	"context"
	"errors"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A setting is one row of the server's own configuration, below core/. It is read from the store
// each time, so that every server over one store has the same.
type setting[T any] struct{ row barrier.Rows[T] }

// Read returns what was set, or the zero value.
func (s setting[T]) Read(ctx context.Context, view *barrier.View) (T, error) {
	v, _, err := s.read(ctx, view)
	return v, err
}

func (s setting[T]) read(ctx context.Context, view *barrier.View) (v T, version storage.Version, err error) {
	stored, version, err := s.row.Get(ctx, view, "")
	if stored != nil {
		v = *stored
	}
	return v, version, err
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
		op, err := s.row.Set("", v)
		if err != nil {
			return err
		}
		_, err = view.Commit(ctx, op.If(version))
		if !errors.Is(err, storage.ErrConflict) && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("node.setting", fault.Conflict, "other requests keep changing the same setting; try again")
}

// remove forgets the setting.
func (s setting[T]) remove(ctx context.Context, view *barrier.View) error {
	return view.Delete(ctx, string(s.row))
}
