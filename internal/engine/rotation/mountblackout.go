package rotation

import (
	"context"
	"errors"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// writeConfig writes the configuration of the mount. If the request gives black-out dates, the
// next rotation of each key is planned again. If the server stops in between, the dates still
// hold, because a rotation that falls due on one is moved.
func (ks *keys) writeConfig(ctx context.Context, _ *route.Request, in configIn) (none route.None, err error) {
	blackout, err := parseBlackout(in.Blackout)
	if err != nil || blackout == nil {
		if err == nil {
			none, err = ks.config.write(ctx, in, nil)
		}
		return none, err
	}
	old, err := ks.config.load(ctx)
	if err != nil {
		return none, err
	}
	var names []string
	for r, err := range ks.rotations.Records(ctx, keyKind) {
		if err != nil {
			return none, err
		}
		var data keyData
		if err := decodeData(r, &data); err != nil {
			return none, err
		}
		if err := withBlackout(data.Config.Policy, *blackout).Check(schedule.MinPeriod); err != nil {
			return none, invalid("key %q: %s", r.Name, fault.Message(err))
		}
		names = append(names, r.Name)
	}
	if none, err = ks.config.write(ctx, in, blackout); err != nil {
		return none, err
	}
	for _, name := range names {
		err := ks.changeOr(ctx, name, errNoKey,
			func(k *key) error { return ks.replan(ctx, k, old.Blackout, *blackout) })
		if err != nil && !errors.Is(err, errNoKey) {
			return none, err
		}
	}
	return none, nil
}

// replan plans the next rotation of a key by the black-out dates of its mount.
func (ks *keys) replan(ctx context.Context, k *key, before, ofMount cron.Blackout) error {
	is := withBlackout(k.data.Config.Policy, ofMount)
	if !k.Rec.Next.After(k.Now) { // none is planned, or it is due
		return nil
	}
	if !moveForDates(k, withBlackout(k.data.Config.Policy, before), is) {
		return nil
	}
	return k.Commit(ctx, "replanned", k.Planned())
}
