package rotation_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
)

// TestTrialNamesAKeyThatLivesOn: a provider that swallows the call that deletes leaves a key, which a trial names by its ID – also when
// another step has failed before, and when somebody interrupts it while it waits.
func TestTrialNamesAKeyThatLivesOn(t *testing.T) {
	for name, tt := range map[string]struct {
		verifies bool
		stop     bool
	}{
		"swallowed":                     {verifies: true},
		"swallowed, verify has failed":  {},
		"swallowed, and is interrupted": {verifies: true, stop: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &swallowing{tried: tried{alive: map[string]string{}}}
			if !tt.verifies {
				s.fails, s.failure = "verify", &rotate.Failure{Outcome: rotate.Permanent, Err: context.DeadlineExceeded}
			}
			if tt.stop {
				time.AfterFunc(30*time.Second, cancel)
			}
			began := time.Now()
			run := rotation.Trial{
				Definition: rotation.Definition{Can: rotate.Capabilities{Proof: rotate.ProofUse}}, Source: s,
				Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: 2 * time.Minute, Told: func(string, string, error) {},
			}
			left, err := run.Run(ctx)
			if err == nil || len(left) != 1 || left[0].ID != "1" || !strings.Contains(left[0].Error, "still accepts it") {
				t.Errorf("%s: left %+v, error %v", name, left, err)
			}
			if took := time.Since(began); took > 3*time.Minute || tt.stop && took > time.Minute {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}

// TestTrialWithoutList: a trial that cannot check whose key create has named says so.
func TestTrialWithoutList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := map[string]string{}
		run := rotation.Trial{
			Definition: rotation.Definition{Can: rotate.Capabilities{Proof: rotate.ProofUse}}, Source: &tried{alive: map[string]string{}},
			Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: time.Minute,
			Told: func(step, found string, _ error) { said[step] = found },
		}
		if left, err := run.Run(t.Context()); err != nil || len(left) > 0 || !strings.Contains(said["list before"], "no list") {
			t.Errorf("left %v, error %v, said %q", left, err, said)
		}
	})
}

// swallowing is a provider that answers that a key is deleted, and accepts it all the same.
type swallowing struct{ tried }

func (s *swallowing) Retire(context.Context, string) error { return nil }

func (s *swallowing) VerifyDead(context.Context, rotate.Credential) error {
	return &rotate.Failure{Outcome: rotate.Alive, Err: context.DeadlineExceeded}
}
