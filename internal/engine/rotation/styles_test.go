package rotation_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// restyled returns a provider whose one definition is changed.
func restyled(p rotation.Provider, change func(d *rotation.Definition)) rotation.Provider {
	definitions := p.Definitions
	p.Definitions = func() ([]rotation.Definition, error) {
		ds, err := definitions()
		for i := range ds {
			change(&ds[i])
		}
		return ds, err
	}
	return p
}

// byHand runs a test in a world whose keys a person creates and, if retires is set, deletes.
func byHand(t *testing.T, retires bool, f func(w *world)) {
	bubble(t, func(w *world) {
		w.types = []rotation.Provider{restyled(rotationtest.Fake(w.vendor), func(d *rotation.Definition) {
			d.Style, d.Instructions = rotate.Manual, "open the dashboard"
			d.Can.CreatedByHand, d.Can.RetiredByHand, d.Can.Label = true, retires, false
			d.Can.Disable = d.Can.Disable && !retires
		})}
		w.Reopen(w)
		f(w)
	})
}

// person creates a key at the vendor, as a person does in the dashboard.
func (w *world) person() (id string, supplied map[string]any) {
	w.Helper()
	k, err := w.vendor.Create(w.Context(), adminToken, "by hand")
	if err != nil {
		w.Fatal(err)
	}
	nap(time.Minute) // the vendor's replicas catch up
	return k.ID, map[string]any{"key_id": k.ID, "key": map[string]any{"api_key": k.Secret, "label": k.Label}}
}

// supplied supplies a key that a person has created, and returns its ID.
func (w *world) supplied() string {
	w.Helper()
	id, body := w.person()
	w.must(route.Write, "keys/demo/supply", body)
	return id
}

// waits checks that the key waits for a person with an alert that names the command.
func (w *world) waits(state rotate.State, command string) {
	w.Helper()
	w.until(state)
	w.after(time.Minute)
	if s := w.status(); s["state"] != string(state) || !contains(s["alert"].(string), command) {
		w.Fatalf("the key does not wait for %q: %v", command, s)
	}
}

// TestManualStyle: a person creates and deletes the keys, and everything else happens by itself,
// across restarts. A supplied key that is wrong changes nothing.
func TestManualStyle(t *testing.T) {
	byHand(t, true, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.waits(rotate.Creating, "keyturn rotate supply demo key_id=ID api_key=@FILE label=@FILE")
		first, body := w.person()
		with := func(change map[string]any) map[string]any {
			out := maps.Clone(body)
			maps.Copy(out, change)
			return out
		}
		for _, tt := range []struct {
			change map[string]any
			want   string
		}{
			{map[string]any{"key_id": ""}, "key_id"},
			{map[string]any{"key_id": "a\nb"}, "key_id"},
			{map[string]any{"key": map[string]any{"api_key": "x"}}, `"label" is missing`},
			{map[string]any{"key": map[string]any{"api_key": "x", "label": "y", "z": "z"}}, `no output "z"`},
			{map[string]any{"key": map[string]any{"api_key": "typo", "label": "y"}}, "refuses the supplied key"},
		} {
			w.refused(route.Write, "keys/demo/supply", with(tt.change), fault.Invalid, tt.want)
		}
		w.waits(rotate.Creating, "supply")
		w.Reopen(w)
		w.must(route.Write, "keys/demo/supply", body)
		w.refused(route.Write, "keys/demo/supply", body, fault.Conflict, "does not wait for a new key")
		w.until(rotate.Scheduled)
		if s := w.status(); w.idOf(w.value()) != first || s["alert"] != "" {
			t.Fatalf("%s is published, not %s: %v", w.idOf(w.value()), first, s)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.waits(rotate.Creating, "supply")
		w.refused(route.Write, "keys/demo/supply", body, fault.Invalid, "not a new one")
		second := w.supplied()
		w.until(rotate.Grace)
		w.waits(rotate.Retiring, "delete the key "+first)
		w.refused(route.Write, "keys/demo/confirm", nil, fault.Conflict, "still accepts the key")
		w.Reopen(w)
		w.after(3 * 24 * time.Hour)
		w.waits(rotate.Retiring, "delete the key "+first)
		if err := w.vendor.Delete(t.Context(), adminToken, first); err != nil {
			t.Fatal(err)
		}
		w.until(rotate.Scheduled)
		w.wantLive(second)
		if s := w.status(); s["alert"] != "" || s["current_key_id"] != second {
			t.Errorf("at the end: %v", s)
		}
		past := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)[0].(map[string]any)
		if past["result"] != "done" || past["dead_proof"] != "refused" {
			t.Errorf("the history says %v", past)
		}
		w.refused(route.Write, "keys/demo/confirm", nil, fault.Conflict, "does not wait for a person")
	})
}

// TestManualWithRevocation: a person creates keys, and the provider's API retires them. The key
// of an interrupted rotation is retired, too.
func TestManualWithRevocation(t *testing.T) {
	byHand(t, false, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.waits(rotate.Creating, "supply")
		first := w.supplied()
		w.until(rotate.Scheduled)
		second := w.supplied() // before a rotation is due: it begins one
		w.until(rotate.Grace)
		w.must(route.Write, "keys/demo/rollback", nil)
		w.until(rotate.Scheduled)
		w.wantLive(first)
		if w.idOf(w.value()) != first {
			t.Errorf("%s is published after the rollback of %s", w.idOf(w.value()), second)
		}
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.waits(rotate.Creating, "has leaked")
		third := w.supplied()
		w.until(rotate.Scheduled)
		w.wantLive(third)
	})
}

// TestManualOnTwoServers: of two keys that are supplied at once, one is accepted.
func TestManualOnTwoServers(t *testing.T) {
	byHand(t, true, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.waits(rotate.Creating, "supply")
		other := w.another()
		_, body := w.person()
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				w.hook = nil
				id, theirs := w.person()
				if _, err := other.Do(route.Write, "keys/demo/supply", theirs); err != nil {
					t.Errorf("on the other server: %v", err)
				}
				t.Logf("%s was supplied first", id)
			}
			return nil
		}
		if _, err := w.do(route.Write, "keys/demo/supply", body); !fault.Is(err, fault.Conflict) {
			t.Errorf("both were accepted: %v", err)
		}
		w.until(rotate.Scheduled)
		if w.idOf(w.value()) == body["key_id"] {
			t.Error("the refused key is published")
		}
	})
}

// slots is a provider with two slots.
type slots struct {
	mu     sync.Mutex
	values map[string]string
	n      int
	lose   string      // the call whose reply is lost next: "create" or "retire"
	late   []func()    // effects that come later
	calls  []time.Time // of regenerations
}

func (s *slots) regenerate(slot, call string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, time.Now())
	if s.lose == call {
		s.lose = ""
		s.late = append(s.late, func() { s.n++; s.values[slot] = fmt.Sprint("lost-", s.n) })
		return "", &rotate.Failure{Outcome: rotate.Unknown, Err: fault.New("slots", fault.Upstream, "cut")}
	}
	s.n++
	s.values[slot] = fmt.Sprint("value-", s.n)
	return s.values[slot], nil
}

// takeEffect makes lost calls take effect.
func (s *slots) takeEffect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.late {
		f()
	}
	s.late = nil
}

func (s *slots) works(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.values {
		if v == value && v != "" {
			return true
		}
	}
	return false
}

// slotsLate is how long after a call it may take effect.
const slotsLate = 15 * time.Minute

func (s *slots) provider() rotation.Provider {
	d := rotation.Definition{
		Provider: "slots", Name: "slots", Description: "d", Evidence: "its own tests", Style: rotate.Slots,
		Slots: []string{"key1", "key2"}, Outputs: []rotation.Output{{Name: "api_key", Secret: true}}, Hash: "slots:1",
		Settle: rotate.Settle{Successes: 2, Interval: time.Second, Timeout: 10 * time.Minute},
		Can: rotate.Capabilities{Slots: true, Retry: rotate.RetryReplace, Proof: rotate.ProofUse,
			Timeout: 30 * time.Second, Late: slotsLate},
	}
	return rotation.Provider{
		Name: d.Name, Definitions: func() ([]rotation.Definition, error) { return []rotation.Definition{d}, nil },
		Open: func(rotation.OpenConfig) (rotation.Source, error) { return slotSource{s}, nil },
	}
}

type slotSource struct{ *slots }

func (s slotSource) Create(_ context.Context, o rotate.Order) (c rotate.Credential, err error) {
	slot := "key1"
	if strings.HasPrefix(o.Current, "key1") {
		slot = "key2"
	}
	value, err := s.regenerate(slot, "create")
	return rotate.Credential{ID: fmt.Sprintf("%s#%d.%d", slot, o.Marker.Turn, o.Marker.Attempt),
		Secret: map[string]secret.Value{"api_key": secret.Text(value)}}, err
}

func (s slotSource) Retire(_ context.Context, id string) error {
	_, err := s.regenerate(id[:4], "retire")
	return err
}

func (s slotSource) Verify(_ context.Context, c rotate.Credential) error {
	if !s.works(c.Secret["api_key"].RevealString()) {
		return &rotate.Failure{Outcome: rotate.Rejected, Err: fault.New("slots", fault.Upstream, "401")}
	}
	return nil
}

func (s slotSource) VerifyDead(ctx context.Context, c rotate.Credential) error {
	if s.Verify(ctx, c) == nil {
		return &rotate.Failure{Outcome: rotate.Alive, Err: fault.New("slots", fault.Upstream, "200")}
	}
	return nil
}

func (slotSource) List(context.Context) ([]rotate.Listed, error)       { panic("no list") }
func (slotSource) LastUsed(context.Context, string) (time.Time, error) { panic("no last use") }
func (slotSource) Disable(context.Context, string) error               { panic("no disabling") }

func slotted(t *testing.T, f func(w *world, s *slots)) {
	bubble(t, func(w *world) {
		s := &slots{values: map[string]string{"key1": "old-1", "key2": "old-2"}}
		w.types = []rotation.Provider{s.provider()}
		w.Reopen(w)
		key := map[string]any{"recipe": "slots", "path": "secret/demo", "rotation_period": "720h",
			"grace_period": "48h"}
		w.refused(route.Write, "keys/demo", key, fault.Invalid, "name the slot")
		key["current_key_id"] = "key3"
		w.refused(route.Write, "keys/demo", key, fault.Invalid, `the slots ["key1" "key2"]`)
		key["current_key_id"], key["current_secret"] = "key1", map[string]any{"api_key": "old-1"}
		w.must(route.Write, "keys/demo", key)
		f(w, s)
	})
}

// TestSlots: the slot that readers do not use is regenerated, published, and the other one is
// regenerated at the end of the grace period.
func TestSlots(t *testing.T) {
	slotted(t, func(w *world, s *slots) {
		w.until(rotate.Grace)
		if !s.works("old-1") || w.value() != s.values["key2"] {
			t.Fatalf("in the grace period, readers get %q of %v", w.value(), s.values)
		}
		w.until(rotate.Scheduled)
		if s.works("old-1") || w.value() != s.values["key2"] {
			t.Fatalf("at the end, readers get %q of %v", w.value(), s.values)
		}
		w.rotated()
		if st := w.status(); w.value() != s.values["key1"] || st["current_key_id"] != "key1#2.1" || st["alert"] != "" {
			t.Errorf("after the second rotation, readers get %q of %v: %v", w.value(), s.values, st)
		}
		past := w.must(route.Read, "keys/demo/history", nil)["rotations"].([]any)
		for _, p := range past {
			if p := p.(map[string]any); p["result"] != "done" || p["dead_proof"] != "refused" ||
				p["unproven"] != nil {
				t.Errorf("the history says %v", p)
			}
		}
	})
}

// TestSlotsLostCreate: the call is repeated only when the lost one can no longer replace the value
// of the repeated one.
func TestSlotsLostCreate(t *testing.T) {
	slotted(t, func(w *world, s *slots) {
		s.lose = "create"
		began := time.Now()
		w.run(began.Add(slotsLate-time.Minute), never)
		s.takeEffect()
		w.until(rotate.Grace)
		if n := len(s.calls); n != 2 || s.calls[1].Sub(s.calls[0]) < slotsLate {
			t.Fatalf("the slot was regenerated at %v", s.calls)
		}
		if w.value() != s.values["key2"] || !s.works("old-1") {
			t.Errorf("readers get %q of %v", w.value(), s.values)
		}
	})
}

// TestSlotsLostRetire: a slot is not filled again while a lost call may still replace its value,
// not even after a restart. A leaked key does not wait for that.
func TestSlotsLostRetire(t *testing.T) {
	for _, leaked := range []bool{false, true} {
		t.Run(fmt.Sprint("leaked ", leaked), func(t *testing.T) {
			slotted(t, func(w *world, s *slots) {
				w.until(rotate.Grace)
				s.lose = "retire"
				w.until(rotate.Scheduled)
				lost := s.calls[1]
				w.Reopen(w)
				w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": leaked})
				w.until(rotate.Grace)
				if waited := s.calls[3].Sub(lost); (waited >= slotsLate) == leaked {
					t.Errorf("the slot was filled %s after the lost call", waited)
				}
			})
		})
	}
}

// TestSlotsOfOneAccount: two keys never rotate the slots of one account.
func TestSlotsOfOneAccount(t *testing.T) {
	slotted(t, func(w *world, s *slots) {
		other := map[string]any{"recipe": "slots", "path": "secret/other", "current_key_id": "key2"}
		w.refused(route.Write, "keys/other", other, fault.Conflict, `key "demo" rotates the slots`)
		w.must(route.Delete, "keys/demo", nil)
		w.must(route.Write, "keys/other", other)
	})
}

// TestSlotsWrittenByHand: a key of another slot that no rotation has created is refused, and if it
// is written anyway, its slot is not regenerated before a person has acted.
func TestSlotsWrittenByHand(t *testing.T) {
	slotted(t, func(w *world, s *slots) {
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		value, err := s.regenerate("key1", "by hand")
		if err != nil {
			t.Fatal(err)
		}
		w.denied(handWrite{fields: map[string]string{"api_key": value}},
			"in a slot that the next rotation regenerates")
		if _, err := w.writeByHand(handWrite{fields: map[string]string{"api_key": value}, force: true}); err != nil {
			t.Fatal(err)
		}
		w.must(route.Write, "keys/demo/rotate", nil)
		w.after(10 * time.Hour)
		if !s.works(value) {
			t.Error("the slot that readers use was regenerated")
		}
	})
}

// TestSlotsLeakedLostCreate: if a lost call replaces the key that was published instead of a
// leaked one, another rotation follows.
func TestSlotsLeakedLostCreate(t *testing.T) {
	slotted(t, func(w *world, s *slots) {
		w.until(rotate.Grace)
		w.until(rotate.Scheduled)
		s.lose = "create"
		w.must(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
		w.until(rotate.Retiring)
		s.takeEffect()
		w.until(rotate.Scheduled)
		w.after(time.Hour)
		if st := w.status(); !s.works(w.value()) || st["state"] != "scheduled" || st["rotation"] != 3.0 {
			t.Errorf("readers get %q of %v: %v", w.value(), s.values, st)
		}
	})
}

// TestSupplyIsCounted: keys are tried at the provider at the rate of writes by hand.
func TestSupplyIsCounted(t *testing.T) {
	byHand(t, true, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.waits(rotate.Creating, "supply")
		wrong := map[string]any{"key_id": "x", "key": map[string]any{"api_key": "typo", "label": "y"}}
		for range 20 {
			w.refused(route.Write, "keys/demo/supply", wrong, fault.Invalid, "refuses the supplied key")
		}
		w.refused(route.Write, "keys/demo/supply", wrong, fault.Unavailable, "try again in")
	})
}

// TestSupplyOfOneKeyTwice: of two keys that are supplied with one ID at once, on two servers, one
// is accepted: otherwise the rotation of one would retire the key of the other.
func TestSupplyOfOneKeyTwice(t *testing.T) {
	byHand(t, true, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.must(route.Write, "keys/second", basic(map[string]any{"path": "secret/second"}))
		w.waits(rotate.Creating, "supply")
		other := w.another()
		_, body := w.person()
		w.hook = func(what string, before bool) error {
			if what == "verify" && before {
				w.hook = nil
				if _, err := other.Do(route.Write, "keys/second/supply", body); err != nil {
					t.Errorf("for the second key: %v", err)
				}
			}
			return nil
		}
		w.refused(route.Write, "keys/demo/supply", body, fault.Invalid, "is or was the key of a rotation here")
	})
}
