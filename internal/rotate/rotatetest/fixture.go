package rotatetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A Fixture is a target under test by [Targets], with its provider. Its methods run in a bubble.
type Fixture struct {
	// Open opens the target, and returns its current credential, which the tests do not retire.
	Open func(ctx context.Context) (rotate.Target, rotate.Credential, error)
	// Works reports whether the provider accepts a credential. Works bypasses the target and its
	// configuration.
	Works func(c rotate.Credential) bool
	// Lag is the longest lag of the provider's replicas, lists and usage reports.
	Lag time.Duration
	// Hidden are secrets of the configuration. No error may show them.
	Hidden []string

	// Break makes the next call of a kind fail. Break is only for a [rotate.Creator]. nil means
	// that failures are not tested.
	Break func(call Step, f Fault)
	// Live returns the IDs of the credentials that work. Live is set if Break is set.
	Live func() []string
	// NoLimit means that it is not known how the provider replies at its limit on credentials.
	NoLimit bool
}

// Of returns a [Fixture.Open] that opens the target of a record.
func Of(m *rotate.Manager, kind, name string) func(ctx context.Context) (rotate.Target, rotate.Credential, error) {
	return func(ctx context.Context) (rotate.Target, rotate.Credential, error) { return m.Target(ctx, kind, name) }
}

// A Step is a call that a [Fixture] breaks.
type Step string

// The steps.
const (
	Create   Step = "create"
	Verify   Step = "verify"
	List     Step = "list"
	LastUsed Step = "last used"
	Disable  Step = "disable"
	Retire   Step = "retire"
)

// A Fault is how the next call of a kind fails at the provider.
type Fault string

// The faults.
const (
	Busy      Fault = "busy"       // no effect; the provider asks to retry later
	Broken    Fault = "broken"     // no effect; the provider reports an internal error
	CutBefore Fault = "cut before" // no effect, no reply
	CutAfter  Fault = "cut after"  // an effect, no reply
	Hang      Fault = "hang"       // no effect, and no reply while the caller waits
	Late      Fault = "late"       // no reply; the effect comes after the caller left, within Capabilities.Late
	Lag       Fault = "lag"        // List: the state as it was an hour ago
	Full      Fault = "full"       // Create: no effect; the limit on credentials is reached
)

// A targets is one run of the suite.
type targets struct {
	*testing.T
	Fixture
	Current rotate.Credential
	orders  uint32
}

// Open opens the target as a step of a rotation does. Each call of the suite is made to a target
// of its own.
func (s *targets) Open() rotate.Target {
	s.Helper()
	target, current, err := s.Fixture.Open(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if s.Current.ID == "" {
		s.Current = current
		s.hide(current)
	}
	return target
}

// hide adds a credential's secrets to those that no error may show.
func (s *targets) hide(c rotate.Credential) {
	for _, v := range c.Secret {
		s.Hidden = append(s.Hidden, v.RevealString())
	}
}

// creator opens the target as a [rotate.Creator], or skips the test.
func (s *targets) creator() rotate.Creator {
	c, ok := s.Open().(rotate.Creator)
	if !ok {
		s.Skip("its style is in place")
	}
	return c
}

func (s *targets) setter() rotate.Setter {
	c, ok := s.Open().(rotate.Setter)
	if !ok {
		s.Skip("its style is two-key")
	}
	return c
}

// wantOutcome checks the outcome of a call that must fail. The error must have a kind and show no
// secret.
func (s *targets) wantOutcome(what string, err error, want rotate.Outcome) {
	s.Helper()
	if err == nil {
		s.Errorf("%s succeeds, want %s", what, want)
		return
	}
	if f, ok := errors.AsType[*rotate.Failure](err); !ok || f.Outcome != want {
		s.Errorf("%s: %v, of outcome %s, want %s", what, err, rotate.OutcomeOf(err), want)
	}
	if fault.KindOf(err) == fault.Internal {
		s.Errorf("%s: %v has no kind", what, err)
	}
	s.checkNoSecrets(what, err)
}

// checkNoSecrets checks that an error shows no secret.
func (s *targets) checkNoSecrets(what string, err error) {
	s.Helper()
	text := fmt.Sprintf("%s %+v %s", err, err, fault.Message(err))
	for _, hidden := range s.Hidden {
		if hidden != "" && strings.Contains(text, hidden) {
			s.Errorf("%s: the error shows a secret", what)
		}
	}
}

// wantLive checks that the current credential and those in more work at the provider, and no
// others.
func (s *targets) wantLive(when string, more ...rotate.Credential) {
	s.Helper()
	if s.Live == nil {
		return
	}
	var want []string
	for _, c := range append(more, s.Current) {
		want = append(want, c.ID)
	}
	got := s.Live()
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		s.Errorf("%s, %q work at the provider, want %q", when, got, want)
	}
}

// order returns an order for another credential.
func (s *targets) order() rotate.Order {
	s.orders++
	return rotate.Order{Marker: rotate.Marker{Installation: "test0001", Key: "suite", Turn: s.orders, Attempt: 1},
		Current: s.Current.ID}
}

// create creates a credential, in a bubble, and waits until the provider's replicas have caught
// up.
func (s *targets) create() rotate.Credential {
	s.Helper()
	c, err := s.creator().Create(s.Context(), s.order())
	if err != nil {
		s.Fatal("create: ", err)
	}
	s.hide(c)
	time.Sleep(s.Lag)
	if c.ID == "" || c.ID == s.Current.ID || !s.Works(c) {
		s.Fatalf("create returned %q, which works: %v; the current one is %q", c.ID, s.Works(c), s.Current.ID)
	}
	return c
}

// listed returns the IDs that the provider shows, each with whether it is disabled; nil if the
// target has no list.
func (s *targets) listed() map[string]bool {
	s.Helper()
	l, ok := s.Open().(rotate.Lister)
	if !ok || !s.Open().Capabilities().List {
		return nil
	}
	all, err := l.List(s.Context())
	if err != nil {
		s.Fatal("list: ", err)
	}
	out := map[string]bool{}
	for _, c := range all {
		out[c.ID] = c.Disabled
	}
	return out
}
