package aws_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
)

// TestTargets runs in a bubble of each of the suite's tests.
func TestTargets(t *testing.T) {
	for name, setUp := range map[string]func(w *world) (kind, name string){
		"static role": func(w *world) (kind, name string) {
			w.aws.AddUser(awstest.Account, "svc")
			w.Must(w.t, route.Write, "static-roles/svc", svc)
			return "static", "svc"
		},
		"config root": func(w *world) (kind, name string) {
			w.Must(w.t, route.Write, "config/rotate-root", nil)
			return "root", "root"
		},
	} {
		t.Run(name, func(t *testing.T) {
			rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
				w := open(t,
					awstest.Options{KeyLag: 3 * time.Second, ListLag: 3 * time.Second, DeadLag: 3 * time.Second},
					enginetest.Config{})
				kind, name := setUp(w)
				time.Sleep(time.Minute)
				return rotatetest.Fixture{
					Open: rotatetest.Of(w.Engine.(engine.Rotator).Rotations(), kind, name),
					Works: func(c rotate.Credential) bool {
						return w.aws.Works(c.ID, c.Secret["secret_key"].RevealString())
					},
					Lag: 5 * time.Second,
				}
			})
		})
	}
}
