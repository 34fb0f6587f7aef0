// Package rotationtest says what it means to be a provider of keys. [Run] is the
// conformance suite: a provider's test opens it on a faithful fake of the vendor's
// API. [Fake] is a provider for tests of the engine.
package rotationtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A Call names what a [Rig] breaks.
type Call string

// The calls.
const (
	Create   Call = "create"
	Verify   Call = "verify"
	List     Call = "list"
	LastUsed Call = "last used"
	Disable  Call = "disable"
	Retire   Call = "retire"
)

// A Fault is how the next call of a kind goes wrong at the vendor's side.
type Fault string

// The faults.
const (
	Busy      Fault = "busy"       // no effect; the vendor says: later
	Broken    Fault = "broken"     // no effect; the vendor says: internal error
	CutBefore Fault = "cut before" // no effect, no reply
	CutAfter  Fault = "cut after"  // has its effect, no reply
	Hang      Fault = "hang"       // no effect, silence
	Late      Fault = "late"       // silence; the effect comes some time after the caller left, within Capabilities.Late
	Lag       Fault = "lag"        // List: the state as it was an hour ago
	Full      Fault = "full"       // Create: no effect; the limit on keys is reached
)

// A Rig is a source in front of a fake vendor that fails on command. It is made inside a
// synctest bubble, so the fake must not use real sockets; [Pipe] helps.
type Rig struct {
	Source rotation.Source
	Can    rotate.Capabilities
	Break  func(c Call, f Fault) // the next call of this kind
	Live   func() []string       // the ids of the keys that work
	Canary []string              // secrets of the configuration; no error may show them
}

// Run checks the contract of [rotation.Source]. open makes a fresh rig each time.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Life", life},
		{"Overlap", overlap},
		{"Outcomes", outcomes},
		{"ReadsAreNeverUnknown", reads},
		{"RepeatableUndo", undo},
		{"Deadlines", deadlines},
		{"LateCreate", late},
		{"LaggingList", lag},
		{"Concurrent", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &suite{T: t, Rig: open(t)}
				c.test(s)
			})
		})
	}
}

type suite struct {
	*testing.T
	Rig
	turn uint32
}

func (s *suite) order() rotate.Order {
	s.turn++
	return rotate.Order{Marker: rotate.Marker{Installation: "t1", Key: "demo", Turn: s.turn, Attempt: 1}}
}

// create makes a key that must come to be.
func (s *suite) create() (rotate.Order, rotate.Credential) {
	s.Helper()
	o := s.order()
	c, err := s.Source.Create(s.Context(), o)
	if err != nil {
		s.Fatalf("creating: %v", err)
	}
	if c.ID == "" || len(c.Secret) == 0 {
		s.Fatalf("created a credential with id %q and %d secrets", c.ID, len(c.Secret))
	}
	for _, v := range c.Secret {
		s.Canary = append(s.Canary, v.RevealString())
	}
	return o, c
}

// want checks an error's outcome, form and silence about secrets.
func (s *suite) want(what string, err error, want rotate.Outcome) {
	s.Helper()
	if err == nil {
		s.Fatalf("%s: succeeded, want outcome %v", what, want)
	}
	if got := rotate.OutcomeOf(err); got != want {
		s.Errorf("%s: outcome %v (%v), want %v", what, got, err, want)
	}
	if fault.KindOf(err) == fault.Internal {
		s.Errorf("%s: %v has no kind", what, err)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fault.Message(err)} {
		for _, canary := range s.Canary {
			if strings.Contains(text, canary) {
				s.Errorf("%s: the error shows a secret", what)
			}
		}
	}
}

func (s *suite) live(want ...string) {
	s.Helper()
	got := s.Live()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("live at the vendor: %v, want %v", got, want)
	}
}

// find returns the listed keys with o's marker.
func (s *suite) find(o rotate.Order) (out []rotate.Listed) {
	s.Helper()
	all, err := s.Source.List(s.Context())
	if err != nil {
		s.Fatalf("listing: %v", err)
	}
	for _, l := range all {
		if l.Marker == o.Marker {
			out = append(out, l)
		}
	}
	return out
}

func life(s *suite) {
	ctx := s.Context()
	o, c := s.create()
	if err := s.Source.Verify(ctx, c); err != nil {
		s.Errorf("verifying a new key: %v", err)
	}
	if s.Can.Proof != rotate.ProofNone {
		s.want("VerifyDead of a live key", s.Source.VerifyDead(ctx, c), rotate.Alive)
	}
	if s.Can.List && s.Can.Label {
		if found := s.find(o); len(found) != 1 || found[0].ID != c.ID || found[0].Disabled {
			s.Errorf("listed under the marker: %+v, want one with id %s", found, c.ID)
		}
	}
	if s.Can.LastUsed {
		if used, err := s.Source.LastUsed(ctx, c.ID); err != nil || used.IsZero() && s.Can.Proof == rotate.ProofUse {
			s.Errorf("last use of a used key: %v, %v", used, err)
		}
	}
	if s.Can.Disable {
		if err := s.Source.Disable(ctx, c.ID); err != nil {
			s.Errorf("disabling: %v", err)
		}
		s.live()
		if found := s.find(o); s.Can.List && s.Can.Label && (len(found) != 1 || !found[0].Disabled) {
			s.Errorf("a disabled key is listed as %+v", found)
		}
	}
	if err := s.Source.Retire(ctx, c.ID); err != nil {
		s.Errorf("retiring: %v", err)
	}
	s.live()
	if s.Can.Proof != rotate.ProofNone {
		s.want("verifying a dead key", s.Source.Verify(ctx, c), rotate.Rejected)
		if err := s.Source.VerifyDead(ctx, c); err != nil {
			s.Errorf("VerifyDead of a dead key: %v", err)
		}
	}
	if s.Can.List && s.Can.Label && len(s.find(o)) != 0 {
		s.Error("a retired key is still listed")
	}
}

func overlap(s *suite) {
	_, old := s.create()
	o := s.order()
	o.Current = old.ID
	next, err := s.Source.Create(s.Context(), o)
	if err != nil {
		s.Fatalf("creating the second: %v", err)
	}
	s.live(old.ID, next.ID)
	if err := s.Source.Retire(s.Context(), old.ID); err != nil {
		s.Fatal(err)
	}
	s.live(next.ID)
	if err := s.Source.Verify(s.Context(), next); err != nil {
		s.Errorf("the new key, after the old one was retired: %v", err)
	}
}

// outcomes pairs what the caller is told with what happened.
func outcomes(s *suite) {
	for _, c := range []struct {
		fault Fault
		want  rotate.Outcome
		made  int
	}{
		{Busy, rotate.Transient, 0},
		{Broken, rotate.Unknown, 0},
		{CutBefore, rotate.Unknown, 0},
		{CutAfter, rotate.Unknown, 1},
		{Hang, rotate.Unknown, 0},
		{Full, rotate.Exhausted, 0},
	} {
		o := s.order()
		s.Break(Create, c.fault)
		_, err := s.Source.Create(s.Context(), o)
		s.want("creating, "+string(c.fault), err, c.want)
		if got := len(s.Live()); got != c.made {
			s.Errorf("creating, %s: the vendor has %d keys, want %d: the source repeated or skipped the call", c.fault, got, c.made)
		}
		s.sweep(o)
	}
}

// sweep retires what a failed call left, found by its marker.
func (s *suite) sweep(o rotate.Order) {
	s.Helper()
	if !s.Can.List || !s.Can.Label {
		for _, id := range s.Live() {
			if err := s.Source.Retire(s.Context(), id); err != nil {
				s.Errorf("retiring: %v", err)
			}
		}
		return
	}
	for _, l := range s.find(o) {
		if err := s.Source.Retire(s.Context(), l.ID); err != nil {
			s.Errorf("retiring: %v", err)
		}
	}
	s.live()
}

func reads(s *suite) {
	ctx := s.Context()
	_, c := s.create()
	for _, f := range []Fault{Busy, Broken, CutBefore, CutAfter, Hang} {
		if s.Can.Proof != rotate.ProofNone {
			s.Break(Verify, f)
			s.want("verifying, "+string(f), s.Source.Verify(ctx, c), rotate.Transient)
			s.Break(Verify, f)
			s.want("proving dead, "+string(f), s.Source.VerifyDead(ctx, c), rotate.Transient)
		}
		if s.Can.List {
			s.Break(List, f)
			_, err := s.Source.List(ctx)
			s.want("listing, "+string(f), err, rotate.Transient)
		}
		if s.Can.LastUsed {
			s.Break(LastUsed, f)
			_, err := s.Source.LastUsed(ctx, c.ID)
			s.want("asking for last use, "+string(f), err, rotate.Transient)
		}
	}
}

func undo(s *suite) {
	ctx := s.Context()
	calls := map[Call]func(context.Context, string) error{Retire: s.Source.Retire}
	if s.Can.Disable {
		calls[Disable] = s.Source.Disable
	}
	for call, do := range calls {
		for _, f := range []Fault{Busy, Broken, CutBefore, CutAfter, Hang} {
			_, c := s.create()
			s.Break(call, f)
			want := rotate.Unknown
			if f == Busy {
				want = rotate.Transient
			}
			s.want(string(call)+", "+string(f), do(ctx, c.ID), want)
			for range 2 {
				if err := do(ctx, c.ID); err != nil {
					s.Errorf("%s again after %s: %v", call, f, err)
				}
			}
			s.live()
			if err := s.Source.Retire(ctx, c.ID); err != nil {
				s.Errorf("retiring: %v", err)
			}
			if err := do(ctx, c.ID); err != nil {
				s.Errorf("%s of what is gone: %v", call, err)
			}
		}
	}
}

func deadlines(s *suite) {
	if s.Can.Timeout <= 0 || s.Can.Late <= 0 {
		s.Fatalf("timeout %v and late %v must be set", s.Can.Timeout, s.Can.Late)
	}
	start := time.Now()
	s.Break(Create, Hang)
	_, err := s.Source.Create(s.Context(), s.order())
	s.want("creating, hang", err, rotate.Unknown)
	if took := time.Since(start); took > s.Can.Timeout {
		s.Errorf("a hanging create took %v, more than its timeout %v", took, s.Can.Timeout)
	}
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	start = time.Now()
	s.Break(Create, Hang)
	_, err = s.Source.Create(ctx, s.order())
	s.want("creating, cancelled", err, rotate.Unknown)
	if took := time.Since(start); took > 2*time.Second {
		s.Errorf("a cancelled create took %v", took)
	}
	s.live()
}

// late runs in a bubble, as all of these do.
func late(s *suite) {
	o := s.order()
	s.Break(Create, Late)
	_, err := s.Source.Create(s.Context(), o)
	s.want("creating, late", err, rotate.Unknown)
	s.live()
	time.Sleep(s.Can.Late)
	synctest.Wait()
	if got := len(s.Live()); got != 1 {
		s.Fatalf("the late call made %d keys by the end of its time, want 1", got)
	}
	s.sweep(o)
}

func lag(s *suite) {
	if !s.Can.List || !s.Can.Label {
		s.Skip("it has no list with labels")
	}
	o, c := s.create()
	s.Break(List, Lag)
	if found := s.find(o); len(found) != 0 {
		s.Errorf("a lagging list shows %+v", found)
	}
	if found := s.find(o); len(found) != 1 || found[0].ID != c.ID {
		s.Errorf("the list after it shows %+v, want %s", found, c.ID)
	}
}

func concurrent(s *suite) {
	const n = 20
	orders, errs := make([]rotate.Order, n), make(chan error, n)
	for i := range orders {
		orders[i] = s.order()
		go func() {
			c, err := s.Source.Create(s.Context(), orders[i])
			if err == nil {
				err = s.Source.Verify(s.Context(), c)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			s.Errorf("creating among others: %v", err)
		}
	}
	if got := len(s.Live()); got != n {
		s.Errorf("%d keys live, want %d", got, n)
	}
	if s.Can.List && s.Can.Label {
		for _, o := range orders {
			if got := len(s.find(o)); got != 1 {
				s.Errorf("marker %v is listed %d times", o.Marker, got)
			}
		}
	}
}
