package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
)

func TestTargets(t *testing.T) {
	rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
		w := newWorld(t, rotationtest.VendorConfig{ActiveAfter: 3 * time.Second, DeadAfter: 5 * time.Second})
		w.must(route.Write, "keys/demo", basic(nil))
		w.run(time.Now().Add(time.Hour), func() bool {
			s := w.status()
			return s["state"] == string(rotate.Scheduled) && s["current_key_id"] != ""
		})
		open := func() (rotate.Target, rotate.Credential) {
			target, current, err := w.engine.(engine.Rotator).Rotations().Target(w.ctx, "key", "demo")
			if err != nil {
				t.Fatal(err)
			}
			return target, current
		}
		_, current := open()
		return rotatetest.Fixture{
			Open:    func() rotate.Target { target, _ := open(); return target },
			Current: current,
			Works: func(c rotate.Credential) bool {
				_, err := w.vendor.Use(w.ctx, c.Secret["api_key"].RevealString())
				return err == nil
			},
			Lag: 5 * time.Second,
		}
	})
}
