package rotate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// issuer is a provider of keys without labels, and the one target of its mount. Its methods run in
// a bubble.
type issuer struct {
	*world
	keys          []rotate.Listed
	createErr     error // the error of Create
	createsAnyway bool  // Create creates a key even if it fails
	createCalls   int
	keepsRetired  bool // keys that are retired stay in lists
	retireCalls   int  // calls of Retire
	when          cron.When
	grace         time.Duration

	kept         map[rotate.Marker]string // the key of the last marker, where a call may be repeated
	settle       rotate.Settle
	verify       func() error // nil: every key works
	disables     bool
	disableCalls int    // calls of Disable
	opening      func() // before the target is opened
	creating     func() // before a key is created
	orders       []rotate.Order
	usageErr     error // the error of LastUsed
}

func newIssuer(t *testing.T, eager bool) *issuer {
	i := &issuer{world: newMount(t), when: cron.When{Period: 24 * time.Hour}, grace: 4 * time.Hour}
	i.kind = func() rotate.Kind {
		return rotate.Kind{
			Name: kind, Noun: "pair", Style: rotate.TwoKey, Eager: eager, Records: "r/", Secrets: "s/", History: "h/",
			Journal: "j/",
			Path:    func(name string) string { return "pairs/" + name },
			Details: func(*rotate.Record) map[string]string { return map[string]string{} },
			Timing: func(*rotate.Record) rotate.Timing {
				return rotate.Timing{When: i.when, Grace: i.grace, Idle: time.Hour, MaxHold: i.grace}
			},
			Open: func(context.Context, *rotate.Record, *rotate.Secrets, *secret.Redactor) (rotate.Target, error) {
				if f := i.opening; f != nil {
					i.opening = nil
					f()
				}
				return i, nil
			},
			Forget: func(r *rotate.Record) []storage.Op { return []storage.Op{storage.Remove("owned/" + r.Name)} },
		}
	}
	i.boot()
	return i
}

// withIssuer runs a test of an issuer in a bubble, after the given number of rotations.
func withIssuer(t *testing.T, rotations int, test func(i *issuer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, true)
		for range rotations {
			if err := i.rotate(); err != nil {
				t.Fatal(err)
			}
			i.pass(time.Minute)
		}
		test(i)
	})
}

func (i *issuer) Capabilities() rotate.Capabilities {
	can := rotate.Capabilities{List: true, LastUsed: true, Disable: i.disables, Proof: rotate.ProofUse,
		Retry: rotate.RetryAdopt, Timeout: 30 * time.Second, Late: 15 * time.Minute}
	if i.retry != "" {
		can.Retry = i.retry
	}
	return can
}
func (i *issuer) Settle() rotate.Settle                               { return i.settle }
func (i *issuer) Place() *rotate.Place                                { return nil }
func (i *issuer) VerifyDead(context.Context, rotate.Credential) error { return nil }
func (i *issuer) List(context.Context) ([]rotate.Listed, error) {
	if i.slow != nil {
		i.slow("list")
	}
	return slices.Clone(i.keys), nil
}

func (i *issuer) LastUsed(_ context.Context, id string) (time.Time, error) {
	return i.key(id).LastUsed, i.usageErr
}

func (i *issuer) Verify(context.Context, rotate.Credential) error {
	if i.verify == nil {
		return nil
	}
	return i.verify()
}

func (i *issuer) Create(_ context.Context, o rotate.Order) (rotate.Credential, error) {
	i.orders = append(i.orders, o)
	if i.createCalls++; i.creating != nil {
		i.creating()
	}
	if i.createErr != nil && !i.createsAnyway {
		return rotate.Credential{}, i.createErr
	}
	id, m := i.kept[o.Marker], o.Marker
	if id == "" || i.retry != rotate.RetrySafe {
		id = i.add()
	}
	i.kept = map[rotate.Marker]string{m: id}
	return rotate.Credential{ID: id, Secret: map[string]secret.Value{"word": secret.Text("canary " + id)}}, i.createErr
}

func (i *issuer) Retire(_ context.Context, id string) error {
	if i.retireCalls++; i.keepsRetired {
		return nil
	}
	i.keys = slices.DeleteFunc(i.keys, func(k rotate.Listed) bool { return k.ID == id })
	return nil
}

func (i *issuer) Disable(context.Context, string) error {
	i.disableCalls++
	return nil
}

// add creates a key.
func (i *issuer) add() string {
	i.made++
	id := string(rune('A' - 1 + i.made))
	i.keys = append(i.keys, rotate.Listed{ID: id, Created: time.Now()})
	return id
}

func (i *issuer) key(id string) *rotate.Listed {
	at := slices.IndexFunc(i.keys, func(k rotate.Listed) bool { return k.ID == id })
	if at < 0 {
		return new(rotate.Listed)
	}
	return &i.keys[at]
}

// want checks which keys exist.
func (i *issuer) want(what string, ids ...string) {
	i.Helper()
	var got []string
	for _, k := range i.keys {
		got = append(got, k.ID)
	}
	if !slices.Equal(got, ids) {
		i.Errorf("%s: the keys are %q, want %q", what, got, ids)
	}
}

// rotate begins a rotation and drives it until readers have the new key.
func (i *issuer) rotate() (err error) {
	i.Helper()
	i.change(func(e *rotate.Edit) error {
		if _, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester"}); err != nil {
			return err
		}
		err = e.Control().Drive(i.Context(),
			func(r *rotate.Record) bool { return r.Turn == nil || r.Turn.Replaced() && r.Turn.Old != nil })
		return nil
	})
	return err
}

// step waits until the record is due, and does its step, which must succeed. It runs in a bubble.
func (i *issuer) step() {
	i.Helper()
	i.sleepUntilDue()
	if err := i.m.Work(i.Context(), kind, "one"); err != nil {
		i.Fatal(err)
	}
}

// pass lets time pass, and does the steps that fall due, which must succeed. It runs in a bubble.
func (i *issuer) pass(d time.Duration) {
	i.Helper()
	i.work(time.Now().Add(d), func(err error) { i.Fatal(err) })
}

var errAway = &rotate.Failure{Outcome: rotate.Transient, Err: fault.New("fake", fault.Upstream, "away")}

var errLost = &rotate.Failure{Outcome: rotate.Unknown, Err: fault.New("fake", fault.Upstream, "the reply is lost")}

// TestUsedKeyIsNotALostOne: a key whose secret was lost cannot have been used. A used key belongs
// to somebody else, and stays.
func TestUsedKeyIsNotALostOne(t *testing.T) {
	withIssuer(t, 1, func(i *issuer) {
		i.createErr = errLost
		if err := i.rotate(); err == nil {
			i.Error("a rotation whose creating call lost its reply succeeded")
		}
		theirs := i.add()
		i.key(theirs).LastUsed, i.createErr = time.Now(), nil
		i.pass(time.Hour)
		i.want("after the late time", "A", theirs, "C")
		// A key that nobody has used is ours.
		i.pass(6 * time.Hour)
		i.createErr, i.createsAnyway = errLost, true
		_ = i.rotate()
		i.createErr = nil
		i.pass(time.Hour)
		i.want("after a lost key", theirs, "C", "E")
	})
}

// TestKeyFromBeforeIsNotALostOne: a key that was created more than a minute before a lost call
// does not belong to that call, because clocks differ by at most a minute.
func TestKeyFromBeforeIsNotALostOne(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		if err := i.rotate(); err != nil {
			i.Fatal(err)
		}
		i.pass(time.Hour)
		i.createErr = errLost
		_ = i.rotate()
		theirs := i.add()
		i.key(theirs).Created, i.createErr = time.Now().Add(-2*time.Minute), nil // the list lagged behind
		i.pass(time.Hour)
		if i.key(theirs).ID == "" {
			i.Error("somebody else's key was retired")
		}
	})
}

// TestSettlingHasOneLimit: settling has one time limit, whether the key always fails or works
// sometimes.
func TestSettlingHasOneLimit(t *testing.T) {
	for name, every := range map[string]int{"fails": 1, "works sometimes": 2} {
		withIssuer(t, 0, func(i *issuer) {
			i.settle = rotate.Settle{Successes: 3, Interval: time.Minute, Timeout: 10 * time.Minute}
			calls := 0
			i.verify = func() error {
				if calls++; calls%every != 0 {
					return nil
				}
				return &rotate.Failure{Outcome: rotate.Transient, Err: fault.New("fake", fault.Upstream, "away")}
			}
			_ = i.rotate()
			began := time.Now()
			for i.record().State() == rotate.Settling {
				if time.Since(began) > time.Hour {
					i.Fatalf("%s: it is still settling after %d calls", name, calls)
				}
				i.step()
			}
			if r := i.record(); r.Turn == nil || r.Turn.Back == nil || r.Current != nil {
				i.Errorf("%s: the rotation is %+v", name, r.Turn)
			}
		})
	}
}

// TestSupersede: an adopted key beside the current one gets a grace period like a replaced key.
func TestSupersede(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		old, current := i.add(), i.add()
		i.change(func(e *rotate.Edit) error {
			e.Rec.Current, e.Rec.Next = &rotate.Ref{ID: current, Adopted: true}, e.Now.Add(24*time.Hour)
			e.Control().Supersede(rotate.Start{Reason: "manual"}, &rotate.Ref{ID: old, Adopted: true})
			return e.Commit(i.Context(), "adopted", e.Rec.Turn.End.After)
		})
		// Drive does not shorten the grace period.
		i.change(func(e *rotate.Edit) error {
			return e.Control().Drive(i.Context(), func(*rotate.Record) bool { return false })
		})
		i.pass(3*time.Hour + 30*time.Minute)
		i.key(old).LastUsed = time.Now()
		i.pass(45 * time.Minute)
		i.want("while it is used", old, current)
		if r := i.record(); !r.Turn.Replaced() || r.Turn.Needed().IsZero() {
			i.Errorf("the rotation does not show that the old key is needed: %+v", r.Turn)
		}
		i.pass(time.Hour)
		i.want("after its grace", current)
		i.pass(20 * time.Hour)
		i.want("at the time of the rotation", current, "C")
	})
}

// TestDeleteWhenDoneWhileCreating: a record that is deleted while the outcome of a creating call
// is unknown is removed once the key that the call left is retired.
func TestDeleteWhenDoneWhileCreating(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		i.createErr, i.createsAnyway = errLost, true
		_ = i.rotate()
		if _, r, err := i.m.Unfinished(i.Context()); err != nil || r == nil {
			i.Errorf("the rotation counts as finished: %v", err)
		}
		if _, err := i.view.Commit(i.Context(), storage.Set("owned/one", []byte("x"))); err != nil {
			i.Fatal(err)
		}
		i.change(func(e *rotate.Edit) error { return e.Control().DeleteWhenDone(i.Context()) })
		if _, r, err := i.m.Unfinished(i.Context()); err != nil || r != nil {
			i.Errorf("a deleted record counts as unfinished: %v", err)
		}
		i.pass(time.Hour)
		i.want("in the end")
		if r := i.record(); r != nil || i.createCalls != 1 {
			i.Errorf("the record is %+v, after %d calls", r, i.createCalls)
		}
		if row, err := i.view.Get(i.Context(), "owned/one"); err != nil || row.Version != 0 {
			i.Errorf("the engine's row of the record still exists: %v", err)
		}
	})
}

// TestAbandon: an abandoned rotation makes no more calls, and the next one begins.
func TestAbandon(t *testing.T) {
	withIssuer(t, 2, func(i *issuer) {
		i.change(func(e *rotate.Edit) error { return e.Control().Abandon(i.Context(), "it is out of reach") })
		i.pass(10 * time.Hour)
		i.want("after it was abandoned", "A", "B")
		if r := i.record(); r.Turn != nil || r.Current.Key() != "B" ||
			!slices.Contains(r.Unproven, "it is out of reach") {
			i.Errorf("the record is %+v", r)
		}
		i.createErr = errLost
		_ = i.rotate()
		i.change(func(e *rotate.Edit) error { return e.Control().Abandon(i.Context(), "it is out of reach") })
		if r := i.record(); r.Turn != nil || r.Current.Key() != "B" {
			i.Errorf("the record is %+v", r)
		}
		i.createErr = nil
		if err := i.rotate(); err != nil {
			i.Error(err)
		}
	})
}

// TestRetime: changed times take effect at once, for a grace period in progress and for the next
// rotation.
func TestRetime(t *testing.T) {
	withIssuer(t, 2, func(i *issuer) {
		retime := func(set func()) {
			i.change(func(e *rotate.Edit) error {
				was := rotate.Timing{When: i.when, Grace: i.grace}
				set()
				return e.Commit(i.Context(), "configured", e.Control().Retime(was))
			})
		}
		retime(func() { i.grace = 2 * time.Hour })
		i.pass(2*time.Hour + time.Minute)
		i.want("after a shorter grace", "B")
		retime(func() { i.when.Period = 6 * time.Hour })
		i.pass(4 * time.Hour)
		i.want("after a shorter period", "B", "C")
		i.pass(3 * time.Hour)
		retime(func() { i.when.Off = true })
		i.pass(100 * time.Hour)
		i.want("without a schedule", "C")
	})
}

// TestEager: an eager kind retries a failed rotation within seconds, any other kind after an hour.
// After a success the record shows no failure.
func TestEager(t *testing.T) {
	for _, eager := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			i := newIssuer(t, eager)
			if err := i.rotate(); err != nil {
				t.Fatal(err)
			}
			i.pass(23 * time.Hour)
			i.createErr = &rotate.Failure{Outcome: rotate.Permanent,
				Err: fault.New("fake", fault.Denied, "no permission")}
			i.pass(90 * time.Minute)
			if got := i.createCalls - 1; eager && got < 7 || !eager && got != 1 {
				t.Errorf("eager %v: %d calls in half an hour", eager, got)
			}
			i.createErr = nil
			i.pass(time.Hour)
			if r := i.record(); r.Turn == nil || !r.Turn.Replaced() || r.Failures != 0 || r.LastError != "" ||
				r.Alert != nil {
				t.Errorf("eager %v: after a success the record is %+v", eager, r)
			}
		})
	}
}

// TestMissingCurrentKey: somebody has deleted the current key. The rotation still ends, because
// the next rotation, which replaces the key, waits for that.
func TestMissingCurrentKey(t *testing.T) {
	withIssuer(t, 2, func(i *issuer) {
		i.keys = slices.DeleteFunc(i.keys, func(k rotate.Listed) bool { return k.ID == "B" })
		i.pass(5 * time.Hour)
		if r := i.record(); r.Turn == nil || r.LastError != "the current key B is not listed" {
			i.Errorf("the record does not show it: %+v", r)
		}
		i.pass(20 * time.Hour)
		i.want("after the next rotation", "C")
	})
}

// TestRetiredKeyIsListedForEver: a retired key that the provider lists forever is not retired
// every few seconds, and raises an alert.
func TestRetiredKeyIsListedForEver(t *testing.T) {
	withIssuer(t, 2, func(i *issuer) {
		i.keepsRetired = true
		i.pass(16 * time.Hour)
		r := i.record()
		if r.Alert == nil || !strings.HasPrefix(r.Alert.Text,
			`pair "one": the provider's list is not as expected: the retired key A is still listed; `) ||
			i.retireCalls > 30 {
			i.Errorf("after %d calls: %+v", i.retireCalls, r.Alert)
		}
		i.keepsRetired = false
		i.pass(2 * time.Hour)
		if r := i.record(); r.Turn != nil || r.Alert != nil {
			i.Errorf("once it is gone: %+v", r)
		}
	})
}

// TestFailedCommit: a failed commit moves no due item and makes no credential current.
func TestFailedCommit(t *testing.T) {
	withIssuer(t, 1, func(i *issuer) {
		i.change(func(e *rotate.Edit) error {
			due := e.Rec.Due
			e.Rec.Current = &rotate.Ref{ID: "another"}
			e.Ops = []storage.Op{storage.Set("other", nil).If(7)}
			if err := e.Commit(i.Context(), "fails", due.Add(time.Hour)); err == nil || e.CurrentID() != "A" {
				i.Errorf("committed: %v, current is %s", err, e.CurrentID())
			}
			e.Ops = nil
			if err := e.Commit(i.Context(), "works", due.Add(2*time.Hour)); err != nil || e.CurrentID() != "another" ||
				!i.from.Equal(due) {
				i.Errorf("the item is moved from %s, want %s; current is %s; %v", i.from, due, e.CurrentID(), err)
			}
			return nil
		})
	})
}

// TestNewKeyIsKept: the secret of a new key exists nowhere else. If the store fails four times
// after the call, or its reply is lost, the key is still recorded, and no second key is created.
func TestNewKeyIsKept(t *testing.T) {
	for fault, name := range map[faulty.Fault]string{
		{Calls: faulty.Commits, Mode: faulty.NotStored, Times: 1}: "not stored",
		{Calls: faulty.Commits, Mode: faulty.NotStored, Times: 4}: "not stored, four times",
		{Calls: faulty.Commits, Mode: faulty.Stored}:              "stored, without a reply",
	} {
		withIssuer(t, 0, func(i *issuer) {
			i.creating = func() { i.creating = nil; i.store.Inject(fault) }
			if err := i.rotate(); err != nil {
				i.Errorf("%s: %v", name, err)
			}
			i.want(name, "A")
			if r := i.record(); i.createCalls != 1 || r.Current.Key() != "A" || r.Failures != 0 {
				i.Errorf("%s: %d creating calls, the current key is %q, and %d rotations have failed", name,
					i.createCalls, r.Current.Key(), r.Failures)
			}
		})
	}
}

// TestLeakedKeyOfNoRotation: while a rotation is in flight, a leaked key is one of its keys, or
// the request is refused and changes nothing.
func TestLeakedKeyOfNoRotation(t *testing.T) {
	for id, fine := range map[string]bool{"": true, "A": true, "B": true, "C": false, "a": false} {
		withIssuer(t, 0, func(i *issuer) {
			for range 2 {
				if err := i.rotate(); err != nil {
					i.Fatal(err)
				}
			}
			before := i.record().State()
			var err error
			i.change(func(e *rotate.Edit) error {
				_, err = e.Control().RotateNow(i.Context(),
					rotate.RotateRequest{By: "tester", Leaked: true, KeyID: id})
				return nil
			})
			if fine != (err == nil) || !fine && (!fault.Is(err, fault.Invalid) || i.record().State() != before) {
				i.Errorf("leaked key %q: %v, and the rotation is %s, before %s", id, err, i.record().State(), before)
			}
		})
	}
}

// TestLeakBeforeNewKeyIsRead: a leak is reported while the new key is unpublished. The new key,
// which nobody has, keeps its own grace period. A new key that may have been read is replaced.
func TestLeakBeforeNewKeyIsRead(t *testing.T) {
	withIssuer(t, 1, func(i *issuer) {
		i.change(func(e *rotate.Edit) error {
			_, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester"})
			return err
		})
		leak := func() (out rotate.RotateResult) {
			i.change(func(e *rotate.Edit) (err error) {
				out, err = e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester", Leaked: true})
				return err
			})
			return out
		}
		for i.record().Turn.New == nil {
			i.step()
		}
		if out := leak(); out.Queued || !out.Retires {
			i.Errorf("before the publication: %+v", out)
		}
		for i.record().State() != rotate.Scheduled {
			i.step()
		}
		if i.want("the leaked one", "B"); i.record().Current.Leaked || i.record().Queued != nil {
			i.Errorf("the new key counts as leaked, too: %+v", i.record())
		}
		if err := i.rotate(); err != nil {
			i.Fatal(err)
		}
		i.pass(time.Minute)
		i.want("in the grace", "B", "C")
		for i.record().State() != rotate.Scheduled {
			i.step()
		}
		i.change(func(e *rotate.Edit) error {
			_, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester"})
			return err
		})
		for i.record().Turn.New == nil {
			i.step()
		}
		i.change(func(e *rotate.Edit) error { // a publication whose result is unknown
			e.Rec.Turn.Put.IntendedAt = e.Now
			return e.Commit(i.Context(), "publishing", e.Now)
		})
		if out := leak(); !out.Queued {
			i.Errorf("while it may be read: %+v", out)
		}
		i.pass(time.Minute)
		i.want("both have leaked", "E")
	})
}

// TestNewKeyIsVerifiedDeadLater: the provider refuses a new key, which is deleted at once. A
// refusal and a list without the key prove nothing until the provider's replicas would know the
// key.
func TestNewKeyIsVerifiedDeadLater(t *testing.T) {
	withIssuer(t, 1, func(i *issuer) {
		i.settle = rotate.Settle{Timeout: 5 * time.Minute}
		i.verify = func() error {
			if len(i.keys) < 2 {
				return nil
			}
			return &rotate.Failure{Outcome: rotate.Permanent, Err: fault.New("fake", fault.Upstream, "denied")}
		}
		i.change(func(e *rotate.Edit) error {
			_, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester"})
			return err
		})
		i.keepsRetired = true // the provider says that it is deleted, and keeps it
		hidden := i.keys[:1]
		for i.retireCalls == 0 {
			i.step()
		}
		all := i.keys
		i.keys, i.keepsRetired = hidden, false // and does not list it yet
		i.pass(50 * time.Second)
		if i.record().Turn == nil {
			i.Fatal("the rotation has ended, although the key is still valid")
		}
		i.keys = all
		i.pass(10 * time.Minute)
		i.want("in the end", "A")
	})
}

// TestRevokingWaitsForNoDevice: steps that only revoke a leaked key are marked so for the audit
// log, and go on while no device works. Other steps are not marked.
func TestRevokingWaitsForNoDevice(t *testing.T) {
	for _, leaked := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			i := newIssuer(t, false)
			if err := i.rotate(); err != nil {
				t.Fatal(err)
			}
			i.pass(time.Minute)
			i.change(func(e *rotate.Edit) error {
				_, err := e.Control().RotateNow(t.Context(), rotate.RotateRequest{By: "tester", Leaked: leaked})
				return err
			})
			i.pass(12 * time.Hour)
			i.want("after a rotation", "B")
			revoking := map[bool]int{}
			for _, a := range i.audited {
				if a.Detail["rotation"] != "2" {
					continue
				}
				s := rotate.State(a.Detail["step"])
				revokes := leaked && (s == rotate.Grace || s == rotate.Retiring)
				if revoking[a.OnlyRevokes]++; a.OnlyRevokes != revokes {
					t.Errorf("leaked %v, step %s: it only revokes: %v, want %v", leaked, s, a.OnlyRevokes, revokes)
				}
			}
			if (revoking[true] > 0) != leaked || revoking[false] == 0 {
				t.Errorf("leaked %v: %d steps that only revoke, and %d others", leaked, revoking[true],
					revoking[false])
			}
		})
	}
}

// TestManyKeysWithoutLabels: a record does not outgrow the store because of creating calls that
// surely created nothing.
func TestManyKeysWithoutLabels(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		for n := range 1900 {
			i.keys = append(i.keys, rotate.Listed{ID: fmt.Sprintf("%080d", n)})
		}
		i.createErr = &rotate.Failure{Outcome: rotate.Transient, Err: fault.New("fake", fault.Upstream, "away")}
		if err := i.rotate(); err == nil {
			i.Fatal("a key was created")
		}
		i.pass(2 * time.Hour)
		if r := i.record(); r.Turn != nil || r.Failures != 1 {
			i.Errorf("the rotation has not ended: %+v", r.Alert)
		}
	})
}

// TestJournalIsTrimmed: the journal is trimmed to its limit, even if one rotation wrote more rows.
func TestJournalIsTrimmed(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		i.change(func(e *rotate.Edit) error {
			for range 2200 {
				if err := e.Commit(i.Context(), "in-use", time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err := i.rotate(); err != nil {
			i.Fatal(err)
		}
		i.pass(time.Minute)
		if rows, err := i.m.Journal(i.Context(), kind, "one", 0); err != nil || len(rows) < 2000 || len(rows) > 2020 {
			i.Errorf("%d rows, %v", len(rows), err)
		}
	})
}

// TestCommitsOfARotation: a rotation commits only what must be durable before or after a call that
// changes something: the intent together with the start, the new credential, the publication, the
// assertion before each destructive call, and the end.
func TestCommitsOfARotation(t *testing.T) {
	for name, tt := range map[string]struct {
		disables bool
		want     []string
	}{
		"retired":              {false, []string{"creating", "created", "published", "retiring", "done"}},
		"disabled and retired": {true, []string{"creating", "created", "published", "disabling", "retiring", "done"}},
	} {
		t.Run(name, func(t *testing.T) {
			withIssuer(t, 0, func(i *issuer) {
				_ = i.rotate()
				i.disables = tt.disables
				i.pass(12 * time.Hour)
				before, err := i.m.Journal(i.Context(), kind, "one", 0)
				if err != nil {
					i.Fatal(err)
				}
				i.pass(24 * time.Hour)
				rows, err := i.m.Journal(i.Context(), kind, "one", 0)
				if err != nil {
					i.Fatal(err)
				}
				var got []string
				for _, row := range rows[len(before):] {
					got = append(got, row.What)
				}
				if !slices.Equal(got, tt.want) {
					i.Errorf("it commits %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestRepeatedCreateForgetsNoKey: the outcome of a repeated creating call, with the same marker,
// says nothing about the earlier call. The call is repeated until it returns the key of the
// earlier one, and no second key is created.
func TestRepeatedCreateForgetsNoKey(t *testing.T) {
	for name, repeated := range map[string]func(i *issuer){
		"away":    func(i *issuer) { i.createErr = errAway },
		"refused": func(i *issuer) { i.createErr = &rotate.Failure{Outcome: rotate.Exhausted, Err: errAway.Err} },
		"slow":    func(i *issuer) { i.slowDown("rotation/creating") },
	} {
		t.Run(name, func(t *testing.T) {
			withIssuer(t, 0, func(i *issuer) {
				i.retry, i.createErr, i.createsAnyway = rotate.RetrySafe, errLost, true
				if err := i.rotate(); err == nil {
					i.Fatal("the rotation succeeded, although the reply was lost")
				}
				i.want("after the lost reply", "A")
				i.createsAnyway = false
				repeated(i)
				i.pass(5 * time.Minute)
				i.createErr, i.slow = nil, nil
				i.pass(time.Hour)
				i.want("at the end", "A")
				if r := i.record(); r.Current.Key() != "A" || r.Failures != 0 {
					i.Errorf("the current key is %q, after %d failures", r.Current.Key(), r.Failures)
				}
			})
		})
	}
}

// TestTransientFailureNeedsNoPerson: a call that surely created nothing is repeated, even where a
// call of unknown outcome may not be.
func TestTransientFailureNeedsNoPerson(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		i.retry, i.createErr = rotate.RetryNever, errAway
		if err := i.rotate(); err == nil {
			i.Fatal("a key was created")
		}
		if r := i.record(); r.State() != rotate.Creating || r.Turn.Back != nil {
			i.Errorf("after a call that was not made, it is %s: %+v", r.State(), r.Alert)
		}
		i.createErr = nil
		i.pass(time.Minute)
		i.want("at last", "A")
		if r := i.record(); i.createCalls != 2 || r.Turn != nil || r.Failures != 0 {
			i.Errorf("%d calls, and it is %s after %d failures", i.createCalls, r.State(), r.Failures)
		}
	})
}

// slowDown makes a list or a commit take longer than a creating call may be delayed. It runs in a
// bubble.
func (i *issuer) slowDown(what string) {
	i.slow = func(now string) {
		if now == what {
			time.Sleep(20 * time.Second)
		}
	}
}

// TestSlowList: a provider with a slow list gets its new key, because the time of the creating
// call begins just before the call.
func TestSlowList(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		i.slowDown("list")
		if err := i.rotate(); err != nil {
			i.Errorf("no key is created: %v", err)
		}
		i.pass(time.Hour)
		i.want("at the end", "A")
	})
}

// TestAuditNamesTheRotation: the audit entry of the step that creates a key names its rotation.
func TestAuditNamesTheRotation(t *testing.T) {
	withIssuer(t, 0, func(i *issuer) {
		if err := i.rotate(); err != nil {
			i.Fatal(err)
		}
		i.creating = func() {
			if got, want := i.audited[len(i.audited)-1].Detail["rotation"], fmt.Sprint(
				i.orders[len(i.orders)-1].Marker.Turn); got != want {
				i.Errorf("the entry of the call for rotation %s names rotation %s", want, got)
			}
		}
		if i.pass(48 * time.Hour); i.createCalls != 3 {
			i.Errorf("%d keys were created, want 3", i.createCalls)
		}
	})
}
