package rotatetest

import (
	"context"
	"slices"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
)

// anyCallFaults are the faults that may affect any call.
var anyCallFaults = []Fault{Busy, Broken, CutBefore, CutAfter, Hang}

// breakable returns creator, or skips the test if the provider cannot fail on command.
func (s *targets) breakable() rotate.Creator {
	s.Helper()
	c := s.creator()
	if s.Break == nil {
		s.Skip("the provider does not fail on command")
	}
	return c
}

// others returns the IDs of the working credentials except the current one.
func (s *targets) others() []string {
	return slices.DeleteFunc(s.Live(), func(id string) bool { return id == s.Current.ID })
}

// listedWith returns the listed credentials with a marker.
func (s *targets) listedWith(m rotate.Marker) (out []rotate.Listed) {
	s.Helper()
	all, err := s.Open().(rotate.Lister).List(s.Context())
	if err != nil {
		s.Fatal("list: ", err)
	}
	return slices.DeleteFunc(all, func(l rotate.Listed) bool { return l.Marker != m })
}

func (s *targets) labels() bool { can := s.Open().Capabilities(); return can.List && can.Label }

// retireLeftovers retires what a failed call left. retireLeftovers finds the leftovers by their
// marker if there are labels.
func (s *targets) retireLeftovers(m rotate.Marker) {
	s.Helper()
	left := s.others()
	if s.labels() {
		left = nil
		for _, l := range s.listedWith(m) {
			left = append(left, l.ID)
		}
	}
	for _, id := range left {
		if err := s.creator().Retire(s.Context(), id); err != nil {
			s.Error("retire: ", err)
		}
	}
	s.wantLive("after the leftovers are retired")
}

// overlap creates two credentials beside the current one and retires the older of the two. It
// runs in a bubble.
func overlap(s *targets) {
	s.breakable()
	older, newer := s.create(), s.create()
	s.wantLive("side by side", older, newer)
	if err := s.creator().Retire(s.Context(), older.ID); err != nil {
		s.Fatal("retire: ", err)
	}
	time.Sleep(s.Lag)
	s.wantLive("after the older one is retired", newer)
	if err := s.Open().Verify(s.Context(), newer); err != nil {
		s.Error("verify, of the newer one: ", err)
	}
}

// failingCreate checks that the error of a failed creating call agrees with what happened at the
// provider. It runs in a bubble.
func failingCreate(s *targets) {
	s.breakable()
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
		if s.NoLimit && c.fault == Full {
			continue
		}
		o := s.order()
		s.Break(Create, c.fault)
		_, err := s.creator().Create(s.Context(), o)
		s.wantOutcome("create, "+string(c.fault), err, c.want)
		time.Sleep(s.Lag)
		if got := len(s.others()); got != c.made {
			s.Errorf("create, %s: %d were created, want %d: the target repeated or skipped the call", c.fault, got,
				c.made)
		}
		s.retireLeftovers(o.Marker)
	}
}

// failingReads checks that a call that only reads is never Unknown. It runs in a bubble.
func failingReads(s *targets) {
	s.breakable()
	ctx, c, can := s.Context(), s.create(), s.Open().Capabilities()
	for _, f := range anyCallFaults {
		if can.Proof != rotate.ProofNone {
			s.Break(Verify, f)
			s.wantOutcome("verify, "+string(f), s.Open().Verify(ctx, c), rotate.Transient)
			s.Break(Verify, f)
			s.wantOutcome("verify dead, "+string(f), s.Open().VerifyDead(ctx, c), rotate.Transient)
		}
		if can.List {
			s.Break(List, f)
			_, err := s.Open().(rotate.Lister).List(ctx)
			s.wantOutcome("list, "+string(f), err, rotate.Transient)
		}
		if can.LastUsed {
			s.Break(LastUsed, f)
			_, err := s.Open().(rotate.UsageReporter).LastUsed(ctx, c.ID)
			s.wantOutcome("last use, "+string(f), err, rotate.Transient)
		}
	}
}

// failingUndo checks that a call that retires or disables can be repeated until it succeeds, and
// succeeds for a credential that is gone. It runs in a bubble.
func failingUndo(s *targets) {
	t := s.breakable()
	calls := map[Step]func(context.Context, string) error{Retire: t.Retire}
	if s.Open().Capabilities().Disable {
		calls[Disable] = t.(rotate.Disabler).Disable
	}
	for call, do := range calls {
		for _, f := range anyCallFaults {
			c := s.create()
			s.Break(call, f)
			want := rotate.Unknown
			if f == Busy {
				want = rotate.Transient
			}
			s.wantOutcome(string(call)+", "+string(f), do(s.Context(), c.ID), want)
			for range 2 {
				if err := do(s.Context(), c.ID); err != nil {
					s.Errorf("%s again after %s: %v", call, f, err)
				}
			}
			time.Sleep(s.Lag)
			s.wantLive("after " + string(call))
			if err := t.Retire(s.Context(), c.ID); err != nil {
				s.Error("retire: ", err)
			}
			if err := do(s.Context(), c.ID); err != nil {
				s.Errorf("%s of a credential that is gone: %v", call, err)
			}
		}
	}
}

// hangingCreate checks that a hanging create keeps its time limits, in a bubble.
func hangingCreate(s *targets) {
	s.breakable()
	can := s.Open().Capabilities()
	if can.Timeout <= 0 || can.Late <= 0 {
		s.Fatalf("timeout %v and late %v must be set", can.Timeout, can.Late)
	}
	for _, c := range []struct {
		ended       string
		after, most time.Duration
	}{{"by its timeout", time.Hour, can.Timeout}, {"by its caller", time.Second, 2 * time.Second}} {
		ctx, cancel := context.WithTimeout(s.Context(), c.after)
		start := time.Now()
		s.Break(Create, Hang)
		_, err := s.creator().Create(ctx, s.order())
		s.wantOutcome("create, hang", err, rotate.Unknown)
		if took := time.Since(start); took > c.most {
			s.Errorf("a hanging create that is ended %s took %v, want %v at most", c.ended, took, c.most)
		}
		cancel()
	}
	s.wantLive("after the hanging calls")
}

// lateCreate checks that a late effect comes within Capabilities.Late. It runs in a bubble.
func lateCreate(s *targets) {
	s.breakable()
	o := s.order()
	s.Break(Create, Late)
	_, err := s.creator().Create(s.Context(), o)
	s.wantOutcome("create, late", err, rotate.Unknown)
	s.wantLive("while the call is on its way")
	time.Sleep(s.Open().Capabilities().Late + s.Lag)
	synctest.Wait()
	if got := len(s.others()); got != 1 {
		s.Fatalf("within its time limit the late call created %d, want 1", got)
	}
	s.retireLeftovers(o.Marker)
}

// laggingList checks that a created credential is found by its marker once the list has caught
// up. It runs in a bubble.
func laggingList(s *targets) {
	s.breakable()
	if !s.labels() {
		s.Skip("the provider has no list with labels")
	}
	o := s.order()
	c, err := s.creator().Create(s.Context(), o)
	if err != nil {
		s.Fatal("create: ", err)
	}
	s.Break(List, Lag)
	if found := s.listedWith(o.Marker); len(found) != 0 {
		s.Errorf("a lagging list shows %+v", found)
	}
	if found := s.listedWith(o.Marker); len(found) != 1 || found[0].ID != c.ID {
		s.Errorf("the list after it shows %+v, want %s", found, c.ID)
	}
}

// manyCreated creates many credentials at once, in a bubble.
func manyCreated(s *targets) {
	s.breakable()
	const n = 20
	orders, errs := make([]rotate.Order, n), make(chan error, n)
	for i := range orders {
		orders[i] = s.order()
		go func() {
			target := s.Open()
			c, err := target.(rotate.Creator).Create(s.Context(), orders[i])
			if err == nil {
				time.Sleep(s.Lag)
				err = target.Verify(s.Context(), c)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			s.Error("creating among others: ", err)
		}
	}
	if got := len(s.others()); got != n {
		s.Errorf("%d credentials work, want %d", got, n)
	}
	for _, o := range orders {
		if s.labels() && len(s.listedWith(o.Marker)) != 1 {
			s.Errorf("the marker %v is listed %d times", o.Marker, len(s.listedWith(o.Marker)))
		}
	}
}
