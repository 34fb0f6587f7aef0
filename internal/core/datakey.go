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

// keyRotationKey is the row of sys/rotate/config.
const keyRotationKey = "core/key-rotation"

// dataKey rotates the barrier's data key at the age or number of encryptions that is configured.
type dataKey struct {
	barrier *barrier.Barrier
	view    *barrier.View
	log     *slog.Logger
}

// rotation returns the configuration of sys/rotate/config, or the default.
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

func (k dataKey) setRotation(ctx context.Context, c node.KeyRotation) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fault.Wrap("core.setKeyRotation", fault.Internal, err)
	}
	_, err = k.view.Commit(ctx, storage.Set(keyRotationKey, b))
	return err
}

// rotateIfDue rotates the data key if its configured age or number of encryptions is reached. The
// barrier also has a limit of its own, which this configuration does not change.
func (k dataKey) rotateIfDue(ctx context.Context) error {
	c, err := k.rotation(ctx)
	if err != nil {
		return err
	}
	status, err := k.barrier.KeyStatus()
	if err != nil || !c.Due(status.Created, status.Uses, time.Now()) {
		return err
	}
	term, err := k.barrier.Rotate(ctx)
	if err == nil {
		k.log.Info("the data key was replaced, as sys/rotate/config demands", "term", term)
	}
	return err
}
