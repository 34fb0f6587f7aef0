package core

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// keyRotationKey is the row of when the barrier's data key is replaced.
const keyRotationKey = "core/key-rotation"

// keyRotation returns when the data key is replaced: what sys/rotate/config has set, or the defaults.
func (h ledger) keyRotation(ctx context.Context) (node.KeyRotation, error) {
	c := node.DefaultKeyRotation
	row, err := h.view.Get(ctx, keyRotationKey)
	if err != nil || row.Version == 0 {
		return c, err
	}
	if err := json.Unmarshal(row.Value, &c); err != nil {
		return c, fault.Wrap("core.keyRotation", fault.Internal, err)
	}
	return c, nil
}

// setKeyRotation stores when the data key is replaced.
func (h ledger) setKeyRotation(ctx context.Context, c node.KeyRotation) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fault.Wrap("core.setKeyRotation", fault.Internal, err)
	}
	_, err = h.view.Commit(ctx, storage.Set(keyRotationKey, b))
	return err
}

// rotateKeyIfDue replaces the data key once its interval or its number of encryptions is over. The barrier replaces
// a key at a limit of its own, whatever is set here.
func (h ledger) rotateKeyIfDue(ctx context.Context) error {
	c, err := h.keyRotation(ctx)
	if err != nil {
		return err
	}
	now, err := h.barrier.KeyStatus()
	if err != nil || !c.Due(now.Created, now.Uses, time.Now()) {
		return err
	}
	term, err := h.barrier.Rotate(ctx)
	if err == nil {
		h.log.Info("the data key was replaced, as sys/rotate/config demands", "term", term)
	}
	return err
}
