package rotation_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// journal returns the rows of one kind in the key's journal.
func (w *world) journal(what string) (rows []map[string]any) {
	w.Helper()
	for _, row := range w.must(route.Read, "keys/demo/history", map[string]any{"steps": true})["steps"].([]any) {
		if row := row.(map[string]any); row["what"] == what {
			rows = append(rows, row)
		}
	}
	return rows
}

// TestHandWritesAreLimited: a caller who may write the path cannot make the servers try values at
// the provider without limit, and refused writes are recorded in few rows.
func TestHandWritesAreLimited(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		servers := []engine.Engine{w.Engine, w.another().Engine}
		calls := 0
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				calls++
			}
			return nil
		}
		var last error
		for i := range 300 {
			_, last = w.writeByHand(
				handWrite{fields: map[string]string{"api_key": fmt.Sprintf("guess-%04d", i)}, judge: servers[i%2]})
			if last == nil {
				t.Fatal("a guess was written")
			}
			nap(time.Second)
		}
		if calls > 25 {
			t.Errorf("the provider was asked %d times within five minutes", calls)
		}
		if !fault.Is(last, fault.Unavailable) || !contains(fault.Message(last), "try again in") {
			t.Errorf("the last one: %v %q", fault.KindOf(last), fault.Message(last))
		}
		rows := w.journal("refused-writes")
		if len(rows) == 0 || len(rows) > 2 || !contains(fmt.Sprint(rows), "bob") {
			t.Errorf("the journal says %v", rows)
		}
		if all := w.must(route.Read, "keys/demo/history",
			map[string]any{"steps": true})["steps"].([]any); len(all) > 40 {
			t.Errorf("the journal has %d rows", len(all))
		}
		if s := w.status(); s["refused_writes"].(float64) < 20 || s["refused_write_by"] != "bob" ||
			s["refused_write_at"] == "" {
			t.Errorf("the key is %v", s)
		}
		calls = 0
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": "guess-forced"}, force: true}); err != nil || calls != 0 {
			t.Errorf("forced: %v, %d calls", err, calls)
		}
		if s := w.status(); !contains(s["alert"].(string), "was not tested at the provider") {
			t.Errorf("forced: %v", s)
		}
		w.put(current) // is known without a call
		if s := w.status(); s["alert"] != "" || calls != 0 {
			t.Errorf("the current key, after %d calls: %v", calls, s)
		}
		nap(time.Hour)
		w.denied(handWrite{fields: map[string]string{"api_key": "guess-later"}}, "the provider refuses")
		if rows := w.journal("refused-writes"); !contains(fmt.Sprint(rows[len(rows)-1]), "refused:") {
			t.Errorf("the journal says %v", rows)
		}
	})
}

// TestHandWriteCountsBeforeTheCall: a call counts even if the client hangs up.
func TestHandWriteCountsBeforeTheCall(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		calls, hangUp := 0, context.CancelFunc(nil)
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				calls++
				hangUp()
			}
			return nil
		}
		for i := range 100 {
			ctx, cancel := context.WithCancel(w.Context())
			hangUp = cancel
			o := engine.Overwrite{
				Path: "secret/demo", Version: 2,
				Fields:  map[string]secret.Value{"api_key": secret.Text(fmt.Sprintf("guess-%d", i))},
				Changed: []string{"api_key"},
				By:      "bob", Warn: func(string, ...any) {},
			}
			_ = w.Engine.(engine.Publisher).Overwritten(ctx, "k/demo", o, noCommit)
			cancel()
		}
		if calls > 20 {
			t.Errorf("the provider was asked %d times", calls)
		}
	})
}

// TestRefusedWriteShowsNoKey: the answer names the key only to callers who may read it.
func TestRefusedWriteShowsNoKey(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		for _, fields := range []map[string]string{{"api_key": "no-such-key-0815"}, {"note": "mine"},
			{"api_key": w.foreignKey()}, nil} {
			warnings, err := w.writeByHand(handWrite{fields: fields, unauthorized: true})
			said := strings.Join(warnings, "; ") + fault.Message(err)
			if said == "" || contains(said, "demo") || contains(said, "rotation/keys") {
				t.Errorf("writing %v is answered %q", fields, said)
			}
		}
		w.put(current)
	})
}

// managed is a provider that can only be asked which keys there are.
type managed struct {
	rotation.Source
}

func (m *managed) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	c, err := m.Source.Create(ctx, o)
	if err == nil {
		c.Public["key_id"] = c.ID
	}
	return c, err
}

func (m *managed) Verify(ctx context.Context, c rotate.Credential) error {
	all, err := m.List(ctx)
	if err == nil && !slices.ContainsFunc(all, func(l rotate.Listed) bool { return l.ID == c.ID }) {
		err = &rotate.Failure{Outcome: rotate.Rejected,
			Err: fault.New("managed", fault.Upstream, "there is no such key")}
	}
	return err
}

func (m *managed) VerifyDead(ctx context.Context, c rotate.Credential) error {
	if err := m.Verify(ctx, c); err != nil {
		return nil
	}
	return &rotate.Failure{Outcome: rotate.Alive, Err: fault.New("managed", fault.Upstream, "it is there")}
}

// asks puts such a provider in front of the vendor.
func (w *world) asks(proof rotate.Proof) {
	p := rotationtest.Fake(w.vendor)
	open, ds := p.Open, p.Definitions
	p.Open = func(c rotation.OpenConfig) (rotation.Source, error) {
		s, err := open(c)
		return &managed{s}, err
	}
	p.Definitions = func() ([]rotation.Definition, error) {
		all, err := ds()
		all[0].Can.Proof = proof
		all[0].Outputs = append(slices.Clone(all[0].Outputs), rotation.Output{Name: "key_id"})
		return all, err
	}
	w.types = []rotation.Provider{p}
	w.Reopen(w)
}

// TestHandWriteOfPartsOfKeys: parts of two keys together are no key, whatever proof the provider
// offers.
func TestHandWriteOfPartsOfKeys(t *testing.T) {
	bubble(t, func(w *world) {
		w.asks(rotate.ProofManagement)
		w.rotatedOnce()
		fields := func() (secret, id string) {
			now := w.kv.read("secret/demo", time.Now()).fields
			return now["api_key"], now["key_id"]
		}
		key, id := fields()
		foreign := w.foreignKey()
		parts := func(key, id string) map[string]string { return map[string]string{"api_key": key, "key_id": id} }
		w.denied(handWrite{fields: parts("no-such-key-0815", id)}, "the secret is not that of the key "+id)
		w.denied(handWrite{fields: parts(foreign, id)}, "the secret is not that of the key "+id)
		w.denied(handWrite{fields: parts(key, w.idOf(foreign))},
			"the fields beside the secret of the key "+id+" are not those of that key")
		w.denied(handWrite{fields: parts(key, "no-such-id")}, "are not those of that key")
		w.denied(handWrite{fields: parts("no-such-key-0815", "no-such-id")}, "the provider refuses")
		warnings, err := w.writeByHand(handWrite{fields: parts("no-such-key-0815", w.idOf(foreign))})
		if said := strings.Join(warnings, "; "); err != nil ||
			!contains(said, "cannot say whether the secret belongs to it") {
			t.Errorf("a foreign id: %v, %q", err, said)
		}
		if s := w.status(); !contains(s["alert"].(string), "cannot say whether") {
			t.Errorf("the key is %v", s)
		}
		if _, err := w.writeByHand(handWrite{fields: parts(key, id)}); err != nil || w.status()["alert"] != "" {
			t.Errorf("the right parts: %v, %v", err, w.status())
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		_, next := fields()
		w.denied(handWrite{fields: parts(key, next)}, "the fields beside the secret of the key "+id)
		if _, err := w.writeByHand(handWrite{fields: parts(key, id)}); err != nil ||
			w.status()["current_key_id"] != id {
			t.Errorf("the old key: %v, %v", err, w.status())
		}
	})
	bubble(t, func(w *world) { // the id is no part of the proof, and another one is wrong all the same
		w.asks(rotate.ProofUse)
		w.rotatedOnce()
		w.denied(handWrite{fields: map[string]string{"api_key": w.value(), "key_id": w.idOf(w.foreignKey())}},
			`the field "key_id" is not the id of the key whose secret you wrote`)
		w.kv.write("secret/demo", map[string]string{"api_key": w.value(), "key_id": w.idOf(w.foreignKey())})
		mixed := w.kv.read("secret/demo", time.Now()).version
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		w.refused(route.Write, "keys/demo/rollback", map[string]any{"version": mixed}, fault.Invalid,
			"that version cannot be published again: the field \"key_id\"")
	})
}

// TestKeysThatReplaceEachOther: somebody who writes the old and the new key in turn, each within
// the other's grace, is reported, and does not keep the rotation from its end for ever.
func TestKeysThatReplaceEachOther(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		fresh := w.value()
		began := time.Now()
		var err error
		alerted := time.Duration(0)
		for i := 0; err == nil && time.Since(began) < 90*24*time.Hour; i++ {
			w.after(40 * time.Hour)
			_, err = w.writeByHand(handWrite{fields: map[string]string{"api_key": []string{old, fresh}[i%2]}})
			if s := w.status(); alerted == 0 && contains(s["alert"].(string), "have replaced each other") {
				alerted = time.Since(began)
			}
		}
		if !fault.Is(err, fault.Invalid) || !contains(fault.Message(err), "have replaced each other there") {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if alerted == 0 || alerted > 7*24*time.Hour {
			t.Errorf("the alert came after %v", alerted)
		}
		w.until(rotate.Scheduled)
		if took := time.Since(began); took > 14*24*time.Hour {
			t.Errorf("the rotation took %v", took)
		}
		w.wantLive(w.idOf(w.value()))
	})
}

// TestUnjudgedWriteBeforeFailure: a value that was written while a key was created is looked at
// even if that rotation fails and publishes nothing, and the key is paused then.
func TestUnjudgedWriteBeforeFailure(t *testing.T) {
	for _, outcome := range []rotate.Outcome{rotate.Permanent, rotate.Transient} {
		t.Run(outcome.String(), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.rotatedOnce()
				other := w.another().Engine
				w.must(route.Write, "keys/demo/rotate", nil)
				wrote := false
				w.hook = func(what string, before bool) error {
					if what != "create" || !before {
						return nil
					}
					if !wrote {
						wrote = true
						warnings, err := w.writeByHand(
							handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}, judge: other})
						if said := strings.Join(warnings, ";"); err != nil || !contains(said, "was not checked") {
							t.Errorf("the write: %v, %q", err, said)
						}
					}
					return &rotate.Failure{Outcome: outcome, Err: fault.New("hook", fault.Upstream, "not now")}
				}
				w.until(rotate.RollingBack)
				w.until(rotate.Scheduled)
				w.run(time.Now().Add(30*time.Minute), never)
				if s := w.status(); !contains(s["alert"].(string), "the provider refuses") ||
					!contains(s["alert"].(string), "not now") {
					t.Errorf("there is no alert: %v", s)
				}
			})
		})
	}
}

// TestPlaceAlertIsNotReplaced: what consumers read stays an alert while calls fail, and both are
// shown.
func TestPlaceAlertIsNotReplaced(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		current := w.value()
		if _, err := w.writeByHand(
			handWrite{fields: map[string]string{"api_key": "no-such-key-0815"}, force: true}); err != nil {
			t.Fatal(err)
		}
		fails := true
		w.hook = func(what string, before bool) error {
			if what == "create" && before && fails {
				return &rotate.Failure{Outcome: rotate.Transient, Err: fault.New("hook", fault.Upstream, "not now")}
			}
			return nil
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.after(time.Minute)
		if s := w.status(); !contains(s["alert"].(string), "not a working key") ||
			!contains(s["alert"].(string), "creating has failed") {
			t.Errorf("while calls fail: %v", s)
		}
		w.writeByHand(handWrite{fields: map[string]string{"api_key": current}})
		if s := w.status(); contains(s["alert"].(string), "not a working key") ||
			!contains(s["alert"].(string), "creating has failed") {
			t.Errorf("once consumers read the right value: %v", s)
		}
		fails = false
		w.until(rotate.Grace)
		if s := w.status(); s["alert"] != "" {
			t.Errorf("once calls succeed: %v", s)
		}
	})
}

// TestExchangesOutliveConflict: exchanges with the provider are kept even if the commit after them
// fails.
func TestExchangesOutliveConflict(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		fails := 0
		w.hook = func(what string, before bool) error {
			if what == "create" && !before {
				fails = 5 // as often as the result of a creating call is tried to be kept
				w.hook = func(what string, before bool) error {
					if what == "commit" && before && fails > 0 {
						fails--
						return fault.New("hook", fault.Unavailable, "the store does not answer")
					}
					return nil
				}
			}
			return nil
		}
		w.until(rotate.Grace)
		n := 0
		for _, row := range w.must(route.Read, "keys/demo/history",
			map[string]any{"steps": true, "rotation": 1})["steps"].([]any) {
			requests, _ := row.(map[string]any)["requests"].([]any)
			n += len(requests)
		}
		if n != 2 || fails != 0 {
			t.Errorf("%d requests are kept, want the two that created keys", n)
		}
	})
}

func noCommit([]storage.Op) error { return nil }

// TestDisabledKeyThatWasRead: consumers have read a key that the provider says is disabled, and
// that works all the same. Once they read the right one again, the key is kept until each has read
// again.
func TestDisabledKeyThatWasRead(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		fresh := w.value()
		rotationtest.Inject(w.vendor, rotationtest.VendorFault{Call: "disable", Times: 1}, "lie")
		w.until(rotate.Retiring)
		w.kv.write("secret/demo", map[string]string{"api_key": old})
		w.after(30 * time.Hour)
		if s := w.status(); !contains(s["alert"].(string), "again; enable it at the provider") {
			t.Fatalf("the key is %v", s)
		}
		var right time.Time // the first look at it after it was put right
		w.kv.write("secret/demo", map[string]string{"api_key": fresh})
		w.kv.asked = func() { right = time.Now() }
		w.hook = func(what string, before bool) error {
			if what == "retire" && before && (right.IsZero() || time.Since(right) < 30*time.Second) {
				t.Errorf("the key is retired %s after the look that found the other one", time.Since(right))
			}
			return nil
		}
		w.until(rotate.Scheduled)
		w.wantLive(w.idOf(fresh))
	})
}

// TestDisabledKeyThatWasForced is TestDisabledKeyThatWasRead for a key that is published by force
// and replaced between two looks, so that no look sees it.
func TestDisabledKeyThatWasForced(t *testing.T) {
	bubble(t, func(w *world) {
		w.rotatedOnce()
		old := w.value()
		w.must(route.Write, "keys/demo/rotate", nil)
		w.until(rotate.Grace)
		fresh := w.value()
		rotationtest.Inject(w.vendor, rotationtest.VendorFault{Call: "disable", Times: 1}, "lie")
		next, err := time.Parse(time.RFC3339, w.until(rotate.Retiring)["next_step"].(string))
		if err != nil {
			t.Fatal(err)
		}
		w.after(time.Until(next) - 10*time.Second)
		if _, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": old}, force: true}); err != nil {
			t.Fatal(err)
		}
		nap(2 * time.Second)
		read := time.Now() // by consumers
		if _, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": fresh}}); err != nil {
			t.Fatal(err)
		}
		w.hook = func(what string, before bool) error {
			if what == "retire" && before && time.Since(read) < 30*time.Second {
				t.Errorf("the key is retired %s after consumers read it", time.Since(read))
			}
			return nil
		}
		w.until(rotate.Scheduled)
	})
}
