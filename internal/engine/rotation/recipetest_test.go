package rotation_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/rotate"
)

// TestRecipeTest: whatever fails, and whenever it is interrupted, a recipe test leaves no key
// behind that it does not name.
func TestRecipeTest(t *testing.T) {
	for name, tt := range map[string]struct {
		fails string // step whose call fails
		o     rotate.Outcome
		done  bool // although it has its effect
		stop  bool // somebody interrupts it there
		lives bool // at the end
		named bool // the remnant
	}{
		"all is well":             {},
		"create is refused":       {fails: "create", o: rotate.Permanent},
		"create is lost":          {fails: "create", o: rotate.Unknown, done: true},
		"create is lost and late": {fails: "create", o: rotate.Unknown, named: true},
		"interrupted in create":   {fails: "create", o: rotate.Unknown, done: true, stop: true},
		"verify fails":            {fails: "verify", o: rotate.Transient},
		"interrupted in verify":   {fails: "verify", o: rotate.Transient, stop: true},
		"list fails":              {fails: "list", o: rotate.Permanent},
		"retire fails":            {fails: "retire", o: rotate.Transient, lives: true, named: true},
		"retire is lost":          {fails: "retire", o: rotate.Unknown, done: true, named: true},
		"it stays alive":          {fails: "verify dead", o: rotate.Alive, named: true},
		"its death is not proven": {fails: "verify dead", o: rotate.Permanent, named: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &fakeSource{fails: tt.fails, failure: &rotate.Failure{Outcome: tt.o, Err: context.DeadlineExceeded},
				done: tt.done, alive: map[string]string{}}
			if tt.stop {
				s.stop = cancel
			}
			run := rotation.RecipeTest{
				Definition: rotation.Definition{
					Settle: rotate.Settle{Successes: 2, Interval: time.Second, Timeout: time.Minute},
					Can: rotate.Capabilities{Proof: rotate.ProofUse, List: true, Label: true, Disable: true,
						LastUsed: true},
				},
				Source: s, Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: time.Minute,
				OnStep: func(string, string, error) {},
			}
			left, err := run.Run(ctx)
			if lives := len(s.alive) > 0; lives != tt.lives || (err == nil) != (tt.fails == "") {
				t.Errorf("%s: %d keys are valid, and the error is %v", name, len(s.alive), err)
			}
			if named := len(left) > 0 && strings.HasPrefix(left[0].Marker, "kt:t/k/1/1"); named != tt.named {
				t.Errorf("%s: left %+v", name, left)
			}
		})
	}
}

// TestRecipeTestRetiresNothingElse: where a creating call names a key that was there before,
// because the recipe looks for the id in the wrong place, that key stays valid, and the one that
// was created is named by its label.
func TestRecipeTestRetiresNothingElse(t *testing.T) {
	for _, failure := range []error{nil,
		&rotate.Failure{Outcome: rotate.Unknown, ID: "1", Err: context.DeadlineExceeded}} {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeSource{alive: map[string]string{"1": "of somebody"}}
			if failure != nil {
				s.fails, s.failure = "create", failure
			}
			run := rotation.RecipeTest{
				Definition: rotation.Definition{Can: rotate.Capabilities{List: true, Label: true}}, Source: s,
				Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}, Wait: time.Minute,
				OnStep: func(string, string, error) {},
			}
			left, err := run.Run(t.Context())
			if s.alive["1"] == "" || err == nil || len(left) != 1 || left[0].ID != "" || left[0].Marker == "" {
				t.Errorf("alive: %v, left %+v, error %v", s.alive, left, err)
			}
		})
	}
}

// fakeSource is a source with one step that fails.
type fakeSource struct {
	fails   string
	failure error
	done    bool
	stop    func()
	alive   map[string]string // label by id
}

// do makes a call.
func (s *fakeSource) do(ctx context.Context, step string, act func()) error {
	if s.fails != step {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		act()
		return nil
	}
	if s.done {
		act()
	}
	if s.stop != nil {
		s.stop()
	}
	return s.failure
}

func (s *fakeSource) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	err := s.do(ctx, "create", func() { s.alive["1"] = o.Marker.String() })
	return rotate.Credential{ID: "1"}, err
}

func (s *fakeSource) Verify(ctx context.Context, _ rotate.Credential) error {
	return s.do(ctx, "verify", func() {})
}

func (s *fakeSource) VerifyDead(ctx context.Context, _ rotate.Credential) error {
	return s.do(ctx, "verify dead", func() {})
}

func (s *fakeSource) Retire(ctx context.Context, id string) error {
	return s.do(ctx, "retire", func() { delete(s.alive, id) })
}

func (s *fakeSource) Disable(ctx context.Context, _ string) error {
	return s.do(ctx, "disable", func() {})
}

func (s *fakeSource) LastUsed(ctx context.Context, _ string) (at time.Time, err error) {
	return at, s.do(ctx, "last_used", func() {})
}

func (s *fakeSource) List(ctx context.Context) (all []rotate.Listed, err error) {
	return all, s.do(ctx, "list", func() {
		for id, label := range s.alive {
			m, _ := rotate.ParseMarker(label)
			all = append(all, rotate.Listed{ID: id, Label: label, Marker: m})
		}
	})
}
