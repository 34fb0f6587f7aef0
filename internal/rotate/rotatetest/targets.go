package rotatetest

import (
	"context"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// Targets tests that a target keeps the contract of [rotate.Target], and of [rotate.Creator] or
// [rotate.Setter], whichever it is. open makes a new provider for each of the suite's tests, in a
// bubble of synctest.
func Targets(t *testing.T, open func(t *testing.T) Fixture) {
	for name, test := range map[string]func(s *targets){
		"create and retire":   createAndRetire,
		"disable":             disable,
		"wrong secret":        wrongSecret,
		"set":                 set,
		"ended context":       endedContext,
		"usable concurrently": concurrently,
		"overlap":             overlap,
		"failing create":      failingCreate,
		"failing reads":       failingReads,
		"failing undo":        failingUndo,
		"hanging create":      hangingCreate,
		"late create":         lateCreate,
		"lagging list":        laggingList,
		"many created":        manyCreated,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := &targets{T: t, Fixture: open(t)}
				s.Open()
				test(s)
			})
		})
	}
}

// createAndRetire takes one credential through its whole life. It runs in a bubble.
func createAndRetire(s *targets) {
	c := s.create()
	if err := s.Open().Verify(s.Context(), c); err != nil {
		s.Error("verify: ", err)
	}
	s.wantOutcome("verify dead, of one that works", s.Open().VerifyDead(s.Context(), c), rotate.Alive)
	s.wantLive("after one is created", c)
	if ids := s.listed(); ids != nil {
		disabled, fresh := ids[c.ID]
		if disabled {
			s.Errorf("%s is listed as disabled", c.ID)
		}
		_, current := ids[s.Current.ID]
		if !fresh || s.Current.ID != "" && !current {
			s.Errorf("the list %v lacks %s or %s", ids, c.ID, s.Current.ID)
		}
	}
	if u, ok := s.Open().(rotate.UsageReporter); ok && s.Open().Capabilities().LastUsed {
		if at, err := u.LastUsed(s.Context(), c.ID); err != nil || at.IsZero() &&
			s.Open().Capabilities().Proof == rotate.ProofUse {
			s.Errorf("the last use of a used credential: %s, %v", at, err)
		}
	}
	for i := range 2 { // retiring what is gone succeeds
		if err := s.creator().Retire(s.Context(), c.ID); err != nil {
			s.Fatalf("retire, call %d: %v", i+1, err)
		}
		time.Sleep(s.Lag)
	}
	if s.wantLive("after it is retired"); s.Works(c) {
		s.Error("the retired credential works")
	}
	if err := s.Open().VerifyDead(s.Context(), c); err != nil {
		s.Error("verify dead: ", err)
	}
	s.wantOutcome("verify, of a retired one", s.Open().Verify(s.Context(), c), rotate.Rejected)
	if _, there := s.listed()[c.ID]; there {
		s.Error("the retired one is listed")
	}
	if s.Current.ID != "" && !s.Works(s.Current) {
		s.Error("the current credential no longer works")
	}
}

// disable disables one credential, and then retires it. It runs in a bubble.
func disable(s *targets) {
	d, ok := s.creator().(rotate.Disabler)
	if !ok || !s.Open().Capabilities().Disable {
		s.Skip("the provider does not disable")
	}
	c := s.create()
	for i := range 2 {
		if err := d.Disable(s.Context(), c.ID); err != nil {
			s.Fatalf("disable, call %d: %v", i+1, err)
		}
		time.Sleep(s.Lag)
	}
	if s.wantLive("after one is disabled"); s.Works(c) {
		s.Error("the disabled one works")
	}
	can := s.Open().Capabilities()
	if off, there := s.listed()[c.ID]; (can.ListsDisabled || can.List && can.Label) && (!there || !off) {
		s.Errorf("it is listed: %v, as disabled: %v", there, off)
	}
	if err := s.creator().Retire(s.Context(), c.ID); err != nil {
		s.Error("retire: ", err)
	}
	time.Sleep(s.Lag)
	if err := d.Disable(s.Context(), c.ID); err != nil {
		s.Error("disabling a credential that is gone: ", err)
	}
}

// wrongSecret tries a secret that the provider never issued. The outcome must be Rejected.
// Permanent is allowed if the provider's reply may have another meaning, such as a wrong
// signature that may come from a wrong clock.
func wrongSecret(s *targets) {
	wrong := rotate.Credential{ID: s.Current.ID, Account: s.Current.Account, Public: s.Current.Public,
		Secret: map[string]secret.Value{}}
	for name := range s.Current.Secret {
		wrong.Secret[name] = secret.Text("canary-of-a-wrong-secret")
	}
	s.hide(wrong)
	err := s.Open().Verify(s.Context(), wrong)
	want := rotate.Rejected
	if rotate.OutcomeOf(err) == rotate.Permanent {
		want = rotate.Permanent
	}
	s.wantOutcome("verify, of a wrong secret", err, want)
	if !s.Works(s.Current) {
		s.Error("the current credential no longer works")
	}
}

// set sets a new secret, twice. It runs in a bubble.
func set(s *targets) {
	made, err := s.setter().Generate(s.Context())
	if err != nil {
		s.Fatal("generate: ", err)
	}
	s.hide(made)
	if made.ID == "" || made.ID == s.Current.ID || s.Works(made) || !s.Works(s.Current) {
		s.Fatalf("generate returned %q, and has called the provider", made.ID)
	}
	if err := s.setter().Set(s.Context(), s.Current, made); err != nil {
		s.Fatal("set: ", err)
	}
	time.Sleep(s.Lag)
	if !s.Works(made) {
		s.Fatal("it does not work")
	}
	// a call that authenticates with the old one is refused
	if err := s.setter().Set(s.Context(), s.Current, made); err != nil {
		s.wantOutcome("setting the same secret again", err, rotate.OutcomeOf(err))
	}
	if time.Sleep(s.Lag); !s.Works(made) {
		s.Error("setting the same secret again has changed something")
	}
	if err := s.Open().Verify(s.Context(), made); err != nil {
		s.Error("verify: ", err)
	}
	if made.Account == s.Current.Account {
		s.wantOutcome("verify, of the old one", s.Open().Verify(s.Context(), s.Current), rotate.Rejected)
	}
}

// endedContext, in a bubble, makes each call with a context that has ended. Each call must return
// an error at once, and have no effect.
func endedContext(s *targets) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	before, began := s.listed(), time.Now()
	calls := map[string]func() error{
		"verify": func() error { return s.Open().Verify(ctx, s.Current) },
	}
	switch t := s.Open().(type) {
	case rotate.Creator:
		calls["create"] = func() error {
			_, err := t.Create(ctx, s.order())
			return err
		}
		calls["retire"] = func() error { return t.Retire(ctx, s.Current.ID) }
		calls["verify dead"] = func() error { return s.Open().VerifyDead(ctx, s.Current) }
		if l, ok := t.(rotate.Lister); ok && s.Open().Capabilities().List {
			calls["list"] = func() error { _, err := l.List(ctx); return err }
		}
	case rotate.Setter:
		made, err := t.Generate(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		calls["set"] = func() error { return t.Set(ctx, s.Current, made) }
	}
	for name, call := range calls {
		err := call()
		if err == nil {
			s.Errorf("%s succeeds", name)
			continue
		}
		s.checkNoSecrets(name, err)
	}
	if took := time.Since(began); took > time.Minute {
		s.Errorf("the calls took %s", took)
	}
	time.Sleep(s.Lag)
	s.wantLive("after calls that were not made")
	if after := s.listed(); len(after) != len(before) || !s.Works(s.Current) {
		s.Errorf("the list was %v and is %v; the current one works: %v", before, after, s.Works(s.Current))
	}
}

// concurrently verifies the current credential many times at once.
func concurrently(s *targets) {
	const n = 8
	errs := make(chan error, n)
	for range n {
		go func() { errs <- s.Open().Verify(s.Context(), s.Current) }()
	}
	for range n {
		if err := <-errs; err != nil {
			s.Error(err)
		}
	}
}
