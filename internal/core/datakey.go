package core

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// keyRotationKey is the row of when the barrier's data key is replaced.
const keyRotationKey = "core/key-rotation"

// dataKey replaces the barrier's data key when its time or its number of encryptions is over.
type dataKey struct {
	barrier *barrier.Barrier
	view    *barrier.View
	log     *slog.Logger
}

// rotation returns when the data key is replaced: what sys/rotate/config has set, or the defaults.
func (k dataKey) rotation(ctx context.Context) (node.KeyRotation, error) {
	c := node.DefaultKeyRotation
	row, err := k.view.Get(ctx, keyRotationKey)
	if err != nil || row.Version == 0 {
		return c, err
	}
	if err := json.Unmarshal(row.Value, &c); err != nil {
		return c, fault.Wrap("core.keyRotation", fault.Internal, err)
	}
	return c, nil
}

// setRotation stores when the data key is replaced.
func (k dataKey) setRotation(ctx context.Context, c node.KeyRotation) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fault.Wrap("core.setKeyRotation", fault.Internal, err)
	}
	_, err = k.view.Commit(ctx, storage.Set(keyRotationKey, b))
	return err
}

// rotateIfDue replaces the data key once its interval or its number of encryptions is over. The barrier replaces
// a key at a limit of its own, whatever is set here.
func (k dataKey) rotateIfDue(ctx context.Context) error {
	c, err := k.rotation(ctx)
	if err != nil {
		return err
	}
	now, err := k.barrier.KeyStatus()
	if err != nil || !c.Due(now.Created, now.Uses, time.Now()) {
		return err
	}
	term, err := k.barrier.Rotate(ctx)
	if err == nil {
		k.log.Info("the data key was replaced, as sys/rotate/config demands", "term", term)
	}
	return err
}
