package rotation_test

import (
	"testing"
	"time"

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
		return rotatetest.Fixture{
			Open: rotatetest.Of(w.rotations(), "key", "demo"),
			Works: func(c rotate.Credential) bool {
				_, err := w.vendor.Use(w.Context(), c.Secret["api_key"].RevealString())
				return err == nil
			},
			Lag: 5 * time.Second, Hidden: []string{adminToken},
			Break: rotationtest.Breaker(w.vendor, rotationtest.FakeLate/2), Live: rotationtest.LiveIDs(w.vendor),
		}
	})
}
