package rotation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

var errDied = errors.New("it died")

// liar is a source whose answers differ from those of its provider.
type liar struct {
	rotation.Source
	create   func(c rotate.Credential, err error) (rotate.Credential, error)
	lastUsed func() time.Time
}

func (s *liar) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	c, err := s.Source.Create(ctx, o)
	if s.create != nil {
		return s.create(c, err)
	}
	return c, err
}

func (s *liar) LastUsed(ctx context.Context, id string) (time.Time, error) {
	if s.lastUsed != nil {
		return s.lastUsed(), nil
	}
	return s.Source.LastUsed(ctx, id)
}

// lie reopens the mount with a liar in front of the provider.
func (w *world) lie(l *liar, change func(can *rotate.Capabilities)) {
	w.Helper()
	p := rotationtest.Fake(w.vendor)
	open, ds := p.Open, p.Definitions
	p.Open = func(c rotation.OpenConfig) (rotation.Source, error) {
		s, err := open(c)
		copied := *l
		copied.Source = s
		return &copied, err
	}
	p.Definitions = func() ([]rotation.Definition, error) {
		all, err := ds()
		if change != nil {
			change(&all[0].Can)
		}
		return all, err
	}
	w.types = []rotation.Provider{p}
	w.Reopen(w)
}

// rotatedOnce configures a key, waits for its first rotation, and returns the ID of its
// credential.
func (w *world) rotatedOnce() (current string) {
	w.Helper()
	w.must(route.Write, "keys/demo", basic(nil))
	w.until(rotate.Grace)
	w.until(rotate.Scheduled)
	return w.idOf(w.value())
}

// A provider that answers a creating call with a key that is not new – the current one, with or
// without its secret, the current one's secret, or somebody else's – does not end a key that is in
// use: nothing is published, nothing retired, and a person is asked.
func TestCreatedKeyThatIsNotNew(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(current rotate.Credential, foreign string, c rotate.Credential, err error) (rotate.Credential,
			error)
		can func(*rotate.Capabilities)
	}{
		"the current key": {answer: func(current rotate.Credential, _ string, _ rotate.Credential,
			_ error) (rotate.Credential, error) {
			return current, nil
		}},
		"the current id with another secret": {answer: func(current rotate.Credential, _ string, c rotate.Credential,
			err error) (rotate.Credential, error) {
			c.ID = current.ID
			return c, err
		}},
		"the current secret with another id": {answer: func(current rotate.Credential, _ string, c rotate.Credential,
			err error) (rotate.Credential, error) {
			c.Secret = current.Secret
			return c, err
		}},
		"the current id, the secret lost": {answer: func(current rotate.Credential, _ string, _ rotate.Credential,
			_ error) (rotate.Credential, error) {
			return rotate.Credential{}, &rotate.Failure{Outcome: rotate.Unknown, ID: current.ID, Err: errDied}
		}},
		"a key that was there before": {answer: func(_ rotate.Credential, foreign string, c rotate.Credential,
			err error) (rotate.Credential, error) {
			c.ID = foreign
			return c, err
		}, can: func(can *rotate.Capabilities) { can.Label = false }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				foreign, err := w.vendor.Create(t.Context(), adminToken, "by hand")
				if err != nil {
					t.Fatal(err)
				}
				var current rotate.Credential
				l := &liar{create: func(c rotate.Credential, err error) (rotate.Credential, error) {
					if current.ID == "" {
						current = c
						return c, err
					}
					return test.answer(current, foreign.ID, c, err)
				}}
				w.lie(l, test.can)
				id := w.rotatedOnce()
				value := w.value()
				w.must(route.Write, "keys/demo/rotate", nil)
				w.after(14 * 24 * time.Hour)
				s := w.status()
				if w.value() != value || s["current_key_id"] != id || s["paused"] != true ||
					!contains(s["alert"].(string), "answered with") {
					t.Errorf("current key %v, status %v", id, s)
				}
				if _, err := w.vendor.Use(t.Context(), value); err != nil {
					t.Errorf("the published key: %v", err)
				}
				if _, err := w.vendor.Use(t.Context(), foreign.Secret); err != nil {
					t.Errorf("somebody else's key: %v", err)
				}
				w.silent()
			})
		})
	}
}

// If a provider's clock is years ahead, or its last use is wrong, the old key is kept, and there
// is an alert in time.
func TestLastUsedInTheFuture(t *testing.T) {
	bubble(t, func(w *world) {
		w.lie(&liar{lastUsed: func() time.Time { return time.Now().AddDate(70, 0, 0) }}, nil)
		w.must(route.Write, "keys/demo", basic(map[string]any{"max_hold": "24h", "idle_period": "47h"}))
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.after((48 + 25) * time.Hour)
		if s := w.status(); s["state"] != "grace" || !contains(s["alert"].(string), "still in use") {
			t.Errorf("an hour past grace and hold: %v", s)
		}
		w.must(route.Write, "keys/demo/rotate",
			map[string]any{"leaked": true, "key_id": w.status()["previous_key_id"]})
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(w.value()))
	})
}

// A list that fails before a call is repeated does not make the rotation forget the call.
func TestOpenAttemptOutlivesAFailedList(t *testing.T) {
	bubble(t, func(w *world) {
		w.lie(&liar{}, func(can *rotate.Capabilities) { can.Label, can.Retry = false, rotate.RetrySafe })
		w.rotatedOnce()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.hook = func(what string, before bool) error {
			switch {
			case what == "create" && !before:
				return errDied // done; the reply is lost
			case what == "list" && before && len(w.vendor.Live()) > 1:
				return errDied
			}
			return nil
		}
		w.run(time.Now().Add(24*time.Hour), func() bool { return w.status()["state"] == "rolling-back" })
		w.hook = nil
		w.after(7 * 24 * time.Hour)
		w.wantLive(w.idOf(w.value()))
	})
}

// A rollback never publishes the key that it retires, even if the rotation had
// published, the process died, and somebody wrote the path and kept the new value, so often that
// the version of the rotation is gone.
func TestPreviousIsNeverTheNewKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.hook = func(what string, before bool) error {
			if what != "publish" || before {
				return nil
			}
			w.hook = nil
			w.Kill() // published, and not recorded
			fields := w.kv.read("secret/demo", time.Now()).fields
			fields["note"] = "mine"
			w.kv.write("secret/demo", fields)
			w.kv.forgetRotations("secret/demo")
			return errDied
		}
		w.run(time.Now().Add(24*time.Hour), never)
		w.Reopen(w)
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.Grace)
		if w.value() != old {
			t.Errorf("given back is the key %q, want %q", w.idOf(w.value()), w.idOf(old))
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(old))
		if w.kv.read("secret/demo", time.Now()).fields["note"] != "mine" {
			t.Error("what a user wrote is gone")
		}
	})
}

// forgetRotations drops the versions that rotations have written, as a limit on versions does.
func (k *fakeKV) forgetRotations(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paths[path].rotations = map[string]int{}
	k.paths[path].rotation = ""
}
