package rotate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

var errRefused = &rotate.Failure{Outcome: rotate.Permanent, Err: fault.New("fake", fault.Denied, "no permission")}

// TestRotationOfAnotherKey: while nothing is in flight, a request may name only the current key.
func TestRotationOfAnotherKey(t *testing.T) {
	for id, fine := range map[string]bool{"": true, "A": true, "B": false} {
		withIssuer(t, 1, func(i *issuer) {
			i.change(func(e *rotate.Edit) error {
				_, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester", KeyID: id})
				if fine != (err == nil) || !fine && !fault.Is(err, fault.Invalid) {
					i.Errorf("key %q: %v", id, err)
				}
				return nil
			})
			i.pass(time.Minute)
			if got := len(i.keys); fine != (got == 2) {
				i.Errorf("key %q: there are %d keys", id, got)
			}
		})
	}
}

// TestLeakedKeyStaysLeaked: the rotation of a leaked key has failed. A later rotation, whose
// request does not mention the leak, still retires that key without a grace period.
func TestLeakedKeyStaysLeaked(t *testing.T) {
	for _, leaked := range []bool{true, false} {
		withIssuer(t, 1, func(i *issuer) {
			i.createErr = errRefused
			i.change(func(e *rotate.Edit) error {
				_, err := e.Control().RotateNow(i.Context(), rotate.RotateRequest{By: "tester", Leaked: leaked})
				return err
			})
			i.pass(time.Second)
			if r := i.record(); r.Turn != nil || r.Failures != 1 {
				i.Fatalf("the rotation has not failed: %+v", r)
			}
			i.createErr = nil
			if err := i.rotate(); err != nil {
				i.Fatal(err)
			}
			i.pass(time.Minute)
			if leaked {
				i.want("after a leak", "B")
			} else {
				i.want("without one", "A", "B")
			}
		})
	}
}

// TestRetireNow: RetireNow ends a grace period, and nothing else.
func TestRetireNow(t *testing.T) {
	retire := func(i *issuer) {
		i.change(func(e *rotate.Edit) error {
			e.Control().RetireNow()
			return e.Commit(t.Context(), "configured", e.Now)
		})
		i.pass(time.Minute)
	}
	withIssuer(t, 2, func(i *issuer) {
		i.want("in the grace", "A", "B")
		retire(i)
		i.want("in the grace", "B")
		retire(i)
		i.want("without a rotation", "B")
		i.createErr, i.createsAnyway = errAway, false
		_ = i.rotate()
		retire(i)
		i.createErr = nil
		i.pass(5 * time.Minute)
		i.want("requested before the grace period began", "B", "C")
	})
}

// TestDeleteWhenDoneInGrace: a record is deleted during a grace period. A key that the record
// created is retired in the end. An adopted key stays valid, unless its secret was given to the
// record.
func TestDeleteWhenDoneInGrace(t *testing.T) {
	for name, tt := range map[string]struct {
		adopt  bool
		secret bool
		left   []string
	}{
		"made":                     {false, false, []string{"B"}},
		"adopted":                  {true, false, []string{"A", "B"}},
		"adopted, with its secret": {true, true, []string{"B"}},
	} {
		withIssuer(t, 0, func(i *issuer) {
			if tt.adopt {
				id := i.add()
				i.change(func(e *rotate.Edit) error {
					if err := e.Unlock(i.Context()); err != nil {
						return err
					}
					e.Rec.Current = &rotate.Ref{ID: id, Adopted: true}
					if tt.secret {
						e.Sec.Keys[id] = rotate.Credential{ID: id,
							Secret: map[string]secret.Value{"word": secret.Text("theirs")}}
					}
					return e.Commit(i.Context(), "adopted", e.Now.Add(time.Hour))
				})
			} else if err := i.rotate(); err != nil {
				i.Fatal(err)
			}
			i.pass(time.Minute)
			if err := i.rotate(); err != nil {
				i.Fatal(err)
			}
			i.change(func(e *rotate.Edit) error { return e.Control().DeleteWhenDone(i.Context()) })
			i.pass(time.Hour)
			if i.key("A").ID == "" {
				i.Errorf("%s: the key is retired before its grace period has ended", name)
			}
			i.pass(24 * time.Hour)
			i.want(name, tt.left...)
			if r := i.record(); r != nil {
				i.Errorf("%s: the record is there: %+v", name, r)
			}
		})
	}
}

// TestUsageOfADeletedKey: the provider cannot report the last use of a deleted key, which must not
// block the rotation. If the key exists, an unknown last use blocks the rotation and raises an
// alert.
func TestUsageOfADeletedKey(t *testing.T) {
	for _, deleted := range []bool{true, false} {
		withIssuer(t, 2, func(i *issuer) {
			i.want("in the grace", "A", "B")
			i.usageErr = errRefused
			if deleted {
				i.keys = slices.DeleteFunc(i.keys, func(k rotate.Listed) bool { return k.ID == "A" })
			}
			i.pass(10 * time.Hour)
			r := i.record()
			if deleted && (r.Turn != nil || r.Alert != nil) {
				i.Errorf("a key that is gone: the rotation is %s, %+v", r.State(), r.Alert)
			}
			if !deleted {
				i.want("while its use cannot be found out", "A", "B")
				if r.Alert == nil || !strings.Contains(r.Alert.Text, "no permission") {
					i.Errorf("there is no alert about it: %+v", r.Alert)
				}
			}
		})
	}
}

// TestNewKeyIsRefusedAtLast: the provider refuses a key that has worked before, just before it is
// published. The key is verified again, and the rotation is rolled back once that takes too long.
func TestNewKeyIsRefusedAtLast(t *testing.T) {
	withIssuer(t, 1, func(i *issuer) {
		i.settle = rotate.Settle{Successes: 1, Interval: 5 * time.Second, Timeout: 10 * time.Minute}
		calls := 0
		i.verify = func() error {
			if calls++; calls == 1 {
				return nil
			}
			return &rotate.Failure{Outcome: rotate.Rejected, Err: fault.New("fake", fault.Upstream, "who is that?")}
		}
		_ = i.rotate()
		i.pass(9 * time.Minute)
		if r := i.record(); r.Current.Key() != "A" || r.Turn == nil || r.Turn.Back != nil {
			i.Errorf("within the time for proofs: %+v", r.Turn)
		}
		i.pass(20 * time.Minute)
		i.want("after it", "A")
		if r := i.record(); r.Current.Key() != "A" || r.Failures == 0 {
			i.Errorf("the current key is %q, after %d failures", r.Current.Key(), r.Failures)
		}
	})
}
