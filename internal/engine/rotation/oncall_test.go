package rotation_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// TestRecipeTestNamesAKeyThatStaysValid: a provider that swallows the call that deletes leaves a
// key, which a recipe test names by its ID – also when another step has failed before, and when
// somebody interrupts it while it waits.
func TestRecipeTestNamesAKeyThatStaysValid(t *testing.T) {
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
			s := &swallowing{fakeSource: fakeSource{alive: map[string]string{}}}
			if !tt.verifies {
				s.fails, s.failure = "verify", &rotate.Failure{Outcome: rotate.Permanent,
					Err: context.DeadlineExceeded}
			}
			if tt.stop {
				time.AfterFunc(30*time.Second, cancel)
			}
			began := time.Now()
			run := rotation.RecipeTest{
				Definition: rotation.Definition{Can: rotate.Capabilities{Proof: rotate.ProofUse}}, Source: s,
				Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: 2 * time.Minute,
				OnStep: func(string, string, error) {},
			}
			left, err := run.Run(ctx)
			if err == nil || len(left) != 1 || left[0].ID != "1" ||
				!strings.Contains(left[0].Error, "still accepts it") {
				t.Errorf("%s: left %+v, error %v", name, left, err)
			}
			if took := time.Since(began); took > 3*time.Minute || tt.stop && took > time.Minute {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}

// TestRecipeTestNamesALostKeyThatStaysValid: the key of a creating call that failed has no known
// secret, so only the list shows that it is gone.
func TestRecipeTestNamesALostKeyThatStaysValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &swallowing{fakeSource: fakeSource{alive: map[string]string{}, fails: "create", done: true,
			failure: &rotate.Failure{Outcome: rotate.Unknown, ID: "1", Err: context.DeadlineExceeded}}}
		run := rotation.RecipeTest{
			Definition: rotation.Definition{Can: rotate.Capabilities{Proof: rotate.ProofUse, List: true, Label: true}},
			Source:     s,
			Marker:     rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: time.Minute,
			OnStep: func(string, string, error) {},
		}
		if left, err := run.Run(t.Context()); err == nil || len(left) != 1 || left[0].ID != "1" ||
			!strings.Contains(left[0].Error, "still lists it") {
			t.Errorf("left %+v, error %v", left, err)
		}
	})
}

// TestRecipeTestWithoutList: a recipe test reports that it cannot check whose key create returned.
func TestRecipeTestWithoutList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := map[string]string{}
		run := rotation.RecipeTest{
			Definition: rotation.Definition{Can: rotate.Capabilities{Proof: rotate.ProofUse}},
			Source:     &fakeSource{alive: map[string]string{}},
			Marker:     rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: time.Minute,
			OnStep: func(step, found string, _ error) { said[step] = found },
		}
		if left, err := run.Run(t.Context()); err != nil || len(left) > 0 ||
			!strings.Contains(said["list before"], "no list") {
			t.Errorf("left %v, error %v, said %q", left, err, said)
		}
	})
}

// swallowing is a provider that answers that a key is deleted, and accepts it all the same.
type swallowing struct{ fakeSource }

func (s *swallowing) Retire(context.Context, string) error { return nil }

func (s *swallowing) VerifyDead(context.Context, rotate.Credential) error {
	return &rotate.Failure{Outcome: rotate.Alive, Err: context.DeadlineExceeded}
}

// TestAdviceWorks: what an alert or a refusal advises works in the state in which it is given.
// While a grace is in flight, a rotation on request is refused.
func TestAdviceWorks(t *testing.T) {
	bubble(t, func(w *world) {
		w.inGrace(nil)
		current := w.value()
		w.refused(route.Write, "keys/demo/rotate", nil, fault.Conflict,
			"or give leaked=true, which retires the old key at once")
		w.denied(handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}},
			"write one that works, or rotate once rotation 2 has ended (the old key's grace ends at ")
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}, force: true}); err != nil {
			t.Fatal(err)
		}
		want := `publish the current key ` + w.idOf(current) + ` again with "kv rollback -version=2 secret/demo"`
		if s := w.status(); !contains(s["alert"].(string), want) || contains(s["alert"].(string), "rotate now") {
			t.Errorf("the alert is %q, want %q", s["alert"], want)
		}
		w.put(w.kv.versions("secret/demo")[1].Fields["api_key"].RevealString()) // as it says
		if s := w.status(); s["alert"] != "" || w.value() != current {
			t.Errorf("the advice was followed, and the key is %v", s)
		}
		w.until(rotate.Scheduled)
		w.denied(handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}},
			"write one that works, or rotate now")
		w.must(route.Write, "keys/demo/pause", nil)
		w.denied(handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}},
			"write one that works, or resume it, and rotate now")
	})
}

// TestAlertKeepsItsAuthor: an alert about what consumers read says who caused it and what
// undoes it, also after the grace.
func TestAlertKeepsItsAuthor(t *testing.T) {
	for name, tt := range map[string]struct {
		write func(w *world) handWrite
		want  string
	}{
		"deleted": {func(*world) handWrite { return handWrite{remedy: "kv undelete -versions=2 secret/demo"} },
			"bob deleted it: kv undelete -versions=2 secret/demo"},
		"another": {func(w *world) handWrite {
			return handWrite{fields: map[string]string{"api_key": w.foreignKey()}}
		}, "written by bob"},
	} {
		bubble(t, func(w *world) {
			w.inGrace(nil)
			if _, err := w.writeByHand(tt.write(w)); err != nil {
				t.Fatal(err)
			}
			before := w.status()["alert"].(string)
			w.until(rotate.Scheduled)
			w.after(3 * 24 * time.Hour) // also by the look of the day
			if s := w.status(); s["alert"] != before || !contains(before, tt.want) {
				t.Errorf("%s: the alert was %q and is %q", name, before, s["alert"])
			}
		})
	}
}

// TestPublishedKeyThatDied: somebody deletes at the provider the key that consumers read. It is
// noticed within a day and some hours, without a call more than one a day before, and the alert
// ends with a rotation.
func TestPublishedKeyThatDied(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		tries := 0
		w.hook = func(what string, before bool) error {
			if before && what == "verify" {
				tries++
			}
			return nil
		}
		w.after(10 * 24 * time.Hour)
		if tries < 7 || tries > 10 {
			t.Errorf("the key was tried %d times in ten days", tries)
		}
		if s := w.status(); s["alert"] != "" || s["next_step"] != s["next_rotation"] {
			t.Errorf("the key is %v", s)
		}
		w.must(route.Write, "config", map[string]any{"brake": true})
		tries = 0
		w.after(3 * 24 * time.Hour)
		if tries > 0 {
			t.Errorf("it was tried %d times while the brake was on", tries)
		}
		w.must(route.Write, "config", map[string]any{"brake": false})
		w.hook = nil
		id := w.idOf(w.value())
		if err := w.vendor.Delete(w.Context(), adminToken, id); err != nil {
			t.Fatal(err)
		}
		w.after(32 * time.Hour)
		if s := w.status(); !contains(s["alert"].(string),
			"the provider refuses the key "+id+", which its consumers read") ||
			!contains(s["summary"].(string), "alert: ") {
			t.Errorf("there is no alert: %v", s)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		if s := w.status(); s["alert"] != "" {
			t.Errorf("a new key is published, and %q stands", s["alert"])
		}
	})
	bubble(t, func(w *world) { // a provider that refuses for a moment, or does not answer, is no alert
		w.rotatedOnce()
		outcome, wrong := rotate.Rejected, 1
		w.hook = func(what string, before bool) error {
			if before && what == "verify" && wrong > 0 {
				wrong--
				return &rotate.Failure{Outcome: outcome, Err: fault.New("hook", fault.Upstream, "not now")}
			}
			return nil
		}
		for _, o := range []rotate.Outcome{rotate.Rejected, rotate.Transient} {
			outcome, wrong = o, 1
			w.after(2 * 24 * time.Hour)
			if s := w.status(); s["alert"] != "" || wrong > 0 {
				t.Errorf("%s: the key is %v", o, s)
			}
		}
	})
}

// TestMetadataOfHandWrite: the custom metadata of a key's path says which key a client's write has
// made consumers read, and which one is retired; it says nothing about an unknown key.
func TestMetadataOfHandWrite(t *testing.T) {
	bubble(t, func(w *world) {
		old, fresh := w.inGrace(nil)
		write := func(value string) (custom map[string]string) {
			o := engine.Overwrite{
				Path: "secret/demo", Version: 3, Fields: map[string]secret.Value{"api_key": secret.Text(value)},
				Changed: []string{"api_key"}, By: "bob",
				Warn: func(string, ...any) {}, Custom: func(values map[string]string) { custom = values },
			}
			err := w.Engine.(engine.Publisher).Overwritten(w.Context(), "k/demo", o, func(along []storage.Op) error {
				_, err := w.View.CommitWith(w.Context(), nil, along)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return custom
		}
		got := write(w.foreignKey())
		if got["key_id"] != "" || got["previous_key_id"] != w.idOf(old) ||
			!contains(w.status()["retire_after"].(string), strings.TrimSuffix(got["retire_after"], "Z")) {
			t.Errorf("somebody's key: %v", got)
		}
		got = write(old)
		if got["key_id"] != w.idOf(old) || got["previous_key_id"] != w.idOf(fresh) || got["retire_after"] == "" {
			t.Errorf("the old key: %v, of %v", got, w.status())
		}
	})
}

// TestResumeBeforeItAsks: a rotation that will ask a person at its end says so before, with what
// it has left behind; a person who resumes it then is not asked again.
func TestResumeBeforeItAsks(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		id := ""
		w.lie(&liar{create: func(c rotate.Credential, err error) (rotate.Credential, error) {
			if id = c.ID; err != nil {
				return c, err
			}
			return rotate.Credential{},
				&rotate.Failure{Outcome: rotate.Unknown, ID: id, Repeats: true,
					Err: fault.New("liar", fault.Upstream, "there is no secret")}
		}}, nil)
		w.must(route.Write, "keys/demo/rotate", nil)
		s := w.until(rotate.Retiring)
		if !contains(s["alert"].(string),
			"the key "+id+", which the call left behind, is retired; correct the cause, then resume") ||
			s["rolled_back_because"] == "" {
			t.Errorf("the key is %v", s)
		}
		w.must(route.Write, "keys/demo/resume", nil)
		if s := w.until(rotate.Scheduled); s["paused"] != false || s["alert"] != "" {
			t.Errorf("somebody has resumed it, and the key is %v", s)
		}
		w.wantLive(w.idOf(current))
		attempts := w.must(route.Read, "keys/demo/history",
			nil)["rotations"].([]any)[0].(map[string]any)["attempts"].([]any)
		if !contains(attempts[0].(string), "unknown: it left "+id+", which is retired") {
			t.Errorf("the attempts are %v", attempts)
		}
	})
}
