package core

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
)

// keyRotationRow is the row of sys/rotate/config.
const keyRotationRow barrier.Rows[node.KeyRotation] = "core/key-rotation"

// dataKey rotates the barrier's data key at the age or number of encryptions that is configured.
type dataKey struct {
	barrier *barrier.Barrier
	view    *barrier.View
	log     *slog.Logger
}

// rotation returns the configuration of sys/rotate/config, or the default.
func (k dataKey) rotation(ctx context.Context) (node.KeyRotation, error) {
	c, _, err := keyRotationRow.Get(ctx, k.view, "")
	if c == nil {
		return node.DefaultKeyRotation, err
	}
	return *c, err
}

func (k dataKey) setRotation(ctx context.Context, c node.KeyRotation) error {
	return keyRotationRow.Put(ctx, k.view, "", c)
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
