package rotation_test

import (
	"context"
	"errors"
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

// scriptedSource is a source that answers each kind of call with its own list of errors, and then
// succeeds.
type scriptedSource struct {
	fakeSource
	errs  map[string][]error
	calls map[string]int
	shows []rotate.Listed // what each list shows, instead of what is alive
	hides int             // so many of the next lists show nothing
	used  time.Time
}

func (s *scriptedSource) answer(call string) error {
	s.calls[call]++
	if all := s.errs[call]; len(all) > 0 {
		s.errs[call] = all[1:]
		return all[0]
	}
	return nil
}

func (s *scriptedSource) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	if err := s.answer("create"); err != nil {
		return rotate.Credential{}, err
	}
	return s.fakeSource.Create(ctx, o)
}

func (s *scriptedSource) Verify(ctx context.Context, _ rotate.Credential) error {
	return errors.Join(ctx.Err(), s.answer("verify"))
}

func (s *scriptedSource) VerifyDead(context.Context, rotate.Credential) error {
	return s.answer("verify dead")
}

func (s *scriptedSource) LastUsed(context.Context, string) (time.Time, error) {
	return s.used, s.answer("last_used")
}

func (s *scriptedSource) List(ctx context.Context) ([]rotate.Listed, error) {
	if err := s.answer("list"); err != nil {
		return nil, err
	}
	if s.hides > 0 {
		s.hides--
		return nil, nil
	}
	if s.shows != nil {
		return s.shows, nil
	}
	return s.fakeSource.List(ctx)
}

func outcome(o rotate.Outcome) error {
	return &rotate.Failure{Outcome: o, Err: fault.New("scripted", fault.Upstream, "it is %v", o)}
}

func times(n int, err error) []error { return slices.Repeat([]error{err}, n) }

// A testRun is a recipe test, and what it reported.
type testRun struct {
	rotation.RecipeTest
	s        *scriptedSource
	reported []string // "step: found", or "step! error"
}

func newTestRun(can rotate.Capabilities) *testRun {
	r := &testRun{s: &scriptedSource{fakeSource: fakeSource{alive: map[string]string{}}, errs: map[string][]error{},
		calls: map[string]int{}}}
	r.RecipeTest = rotation.RecipeTest{
		Definition: rotation.Definition{Can: can,
			Settle: rotate.Settle{Successes: 3, Interval: time.Second, Timeout: time.Minute}},
		Source: r.s, Marker: rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1},
		Wait: 30 * time.Second,
		OnStep: func(step, found string, err error) {
			if err != nil {
				r.reported = append(r.reported, step+"! "+err.Error())
			} else {
				r.reported = append(r.reported, step+": "+found)
			}
		},
	}
	return r
}

// steps returns the names of the reported steps.
func (r *testRun) steps() string {
	var names []string
	for _, t := range r.reported {
		names = append(names, t[:strings.IndexAny(t, ":!")+1])
	}
	return strings.Join(names, " ")
}

var canAll = rotate.Capabilities{Proof: rotate.ProofUse, List: true, Label: true, Disable: true, LastUsed: true}

// TestRecipeTestTakesEachStep: it takes each step that the recipe has, in the order of a rotation,
// and reports each.
func TestRecipeTestTakesEachStep(t *testing.T) {
	noProof := canAll
	noProof.Proof = rotate.ProofNone
	noLabel := canAll
	noLabel.Label = false
	all := "list before: create: verify: list: last_used: publish: disable: retire: verify dead:"
	for name, tt := range map[string]struct {
		can      rotate.Capabilities
		prepare  func(r *testRun)
		steps    string
		reported []string
	}{
		"everything": {canAll, nil, all, []string{"list before: 0 keys", "list: 1 key;", "last_used: never used",
			"verify: the key works, 3 times in a row", "verify dead: the key is refused"}},
		"with a neighbour": {canAll, func(r *testRun) { r.s.alive["0"] = "x" }, all,
			[]string{"list before: 1 key", "list: 2 keys;"}},
		"it was used": {canAll, func(r *testRun) { r.s.used = time.Unix(0, 0).UTC() }, all,
			[]string{"last_used: last used at 1970-01-01T00:00:00Z"}},
		"with example replies": {canAll, func(r *testRun) { r.Wait = 0 }, strings.TrimPrefix(all, "list before: "),
			nil},
		"nothing": {rotate.Capabilities{Proof: rotate.ProofNone}, nil,
			"list before: create: verify: publish: retire: verify dead:",
			[]string{"list before: skipped: the recipe has no list", "verify: skipped", "verify dead: skipped"}},
		"no proof": {noProof, nil, all, []string{"verify: skipped", "verify dead: skipped"}},
		"no labels": {noLabel, func(r *testRun) { r.s.shows = []rotate.Listed{{ID: "1"}}; r.Wait = 0 },
			strings.TrimPrefix(all, "list before: "), nil},
		"no list": {rotate.Capabilities{Proof: rotate.ProofUse, Disable: true, LastUsed: true}, nil,
			"list before: create: verify: last_used: publish: disable: retire: verify dead:", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newTestRun(tt.can)
			if tt.prepare != nil {
				tt.prepare(r)
			}
			left, err := r.Run(t.Context())
			if err != nil || len(left) > 0 || r.steps() != tt.steps {
				t.Errorf("%s: left %v, error %v, steps\n%s, want\n%s", name, left, err, r.steps(), tt.steps)
			}
			for _, want := range tt.reported {
				if !slices.ContainsFunc(r.reported, func(s string) bool { return strings.HasPrefix(s, want) }) {
					t.Errorf("%s: reported %q, want %q", name, r.reported, want)
				}
			}
		})
	}
}

// TestRecipeTestWaits: it waits as a rotation does, for a new key to work, to be listed and, once
// it is retired, to be refused; no longer than it may, and not after other errors.
func TestRecipeTestWaits(t *testing.T) {
	rejected, alive, broken := outcome(rotate.Rejected), outcome(rotate.Alive), outcome(rotate.Transient)
	for name, tt := range map[string]struct {
		prepare func(r *testRun)
		call    string
		calls   int
		fails   string // the beginning of what is reported
		lasts   time.Duration
	}{
		"it works at once": {func(*testRun) {}, "verify", 3, "", 3 * time.Second},
		"it works after a while": {func(r *testRun) { r.s.errs["verify"] = times(4, rejected) }, "verify", 7, "",
			7 * time.Second},
		"it works now and then": {func(r *testRun) { r.s.errs["verify"] = []error{nil, nil, rejected} },
			"verify", 6, "", 6 * time.Second},
		"it never works": {func(r *testRun) { r.s.errs["verify"] = times(99, rejected) }, "verify", 31,
			"verify! ", 30 * time.Second},
		"verifying is broken": {func(r *testRun) { r.s.errs["verify"] = times(1, broken) }, "verify", 1,
			"verify! ", 0},
		"it is refused after a while": {func(r *testRun) { r.s.errs["verify dead"] = times(4, alive) }, "verify dead",
			5, "", 7 * time.Second},
		"it is never refused": {func(r *testRun) { r.s.errs["verify dead"] = times(99, alive) }, "verify dead",
			31, "verify dead! ", 33 * time.Second},
		"proving that is broken": {func(r *testRun) { r.s.errs["verify dead"] = times(1, broken) }, "verify dead",
			1, "verify dead! ", 3 * time.Second},
		"it is listed after a while": {func(r *testRun) { r.s.hides = 5 }, "list", 6, "", 7 * time.Second},
		"it is never listed":         {func(r *testRun) { r.s.hides = 99 }, "list", 32, "list! ", 33 * time.Second},
		"it is listed by another name": {func(r *testRun) {
			r.s.shows = []rotate.Listed{{ID: "9"}, {ID: "1", Label: "other"}}
			r.Wait, r.s.hides = 0, 0
		}, "list", 1, "list! ", 0},
		"the list is broken": {func(r *testRun) { r.s.errs["list"] = []error{nil, broken} }, "list",
			2, "list! ", 3 * time.Second},
		"the first list is broken": {func(r *testRun) { r.s.errs["list"] = []error{broken} }, "list", 1,
			"list before! ", 0},
		"last use is broken": {func(r *testRun) { r.s.errs["last_used"] = times(1, broken) },
			"last_used", 1, "last_used! ", 3 * time.Second},
		"it does not wait for example replies": {func(r *testRun) {
			r.Wait, r.s.errs["verify"] = 0,
				times(1, rejected)
		}, "verify", 1, "verify! ", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newTestRun(canAll)
			tt.prepare(r)
			start := time.Now()
			_, err := r.Run(t.Context())
			if took := time.Since(start); r.s.calls[tt.call] != tt.calls || took != tt.lasts ||
				(err != nil) != (tt.fails != "") {
				t.Errorf("%s: %d calls of %q in %v, want %d in %v; error %v, reported %q", name, r.s.calls[tt.call],
					tt.call, took, tt.calls, tt.lasts, err, r.reported)
			}
			if tt.fails != "" &&
				!slices.ContainsFunc(r.reported, func(s string) bool { return strings.HasPrefix(s, tt.fails) }) {
				t.Errorf("%s: reported %q, want %q", name, r.reported, tt.fails)
			}
			if len(r.s.alive) > 0 {
				t.Errorf("%s: left alive: %v", name, r.s.alive)
			}
		})
	}
}

// TestRecipeTestSaysWhatTheListLacks: whether the new key itself or only its label is missing.
func TestRecipeTestSaysWhatTheListLacks(t *testing.T) {
	for want, shows := range map[string][]rotate.Listed{
		"does not show the new key 1":            {{ID: "8"}, {ID: "9"}},
		`shows the key 1 with the label "other"`: {{ID: "1", Label: "other"}},
	} {
		r := newTestRun(canAll)
		r.Wait, r.s.shows = 0, shows
		if _, err := r.Run(t.Context()); err == nil || !contains(fault.Message(err), want) {
			t.Errorf("the list shows %v: %v, want %q", shows, err, want)
		}
	}
}

// TestRecipeTestCleansUp: it retires what a failed create call left, and nothing else.
func TestRecipeTestCleansUp(t *testing.T) {
	label := rotate.Marker{Installation: "t", Key: "k", Turn: 1, Attempt: 1}
	noLabel, noList := canAll, canAll
	noLabel.Label = false
	noList.List = false
	id := func(o rotate.Outcome, id string) error {
		return &rotate.Failure{Outcome: o, ID: id, Err: errors.New("the reply had no secret")}
	}
	for name, tt := range map[string]struct {
		can    rotate.Capabilities
		failed error
		before map[string]string
		comes  map[string]string // by the call
		alive  string
		left   string // a part of the remnant's error; "": none
	}{
		"the reply names the key": {canAll, id(rotate.Unknown, "1"), nil,
			map[string]string{"1": "", "2": ""}, "map[2:]", ""},
		"the reply names it, and there is no list": {noList, id(rotate.Permanent, "1"), nil,
			map[string]string{"1": ""}, "map[]", ""},
		"it is found by its label": {canAll, outcome(rotate.Unknown), nil,
			map[string]string{"1": label.String(), "2": "other"}, "map[2:other]", ""},
		"one of before has the label": {canAll, outcome(rotate.Unknown),
			map[string]string{"0": label.String()}, map[string]string{"1": label.String()},
			"map[0:" + label.String() + "]", ""},
		"nothing is found": {canAll, outcome(rotate.Unknown), nil, nil, "map[]", "may still appear"},
		"surely nothing was created": {canAll, outcome(rotate.Permanent), nil,
			map[string]string{"2": label.String()}, "map[2:" + label.String() + "]", ""},
		"there are no labels": {noLabel, outcome(rotate.Unknown), nil, map[string]string{"1": ""},
			"map[1:]", "no list with labels"},
		"there is no list": {noList, outcome(rotate.Unknown), nil, map[string]string{"1": ""},
			"map[1:]", "no list with labels"},
	} {
		r := newTestRun(tt.can)
		for k, v := range tt.before {
			r.s.alive[k] = v
		}
		r.s.errs["create"] = []error{tt.failed}
		r.OnStep = func(step, _ string, _ error) {
			if step == "create" {
				for k, v := range tt.comes {
					r.s.alive[k] = v
				}
			}
		}
		left, err := r.Run(t.Context())
		if got := fmt.Sprint(r.s.alive); err == nil || got != tt.alive {
			t.Errorf("%s: alive %s, want %s; error %v", name, got, tt.alive, err)
		}
		if (len(left) > 0) != (tt.left != "") || tt.left != "" &&
			(!contains(left[0].Error, tt.left) || left[0].Marker != label.String()) {
			t.Errorf("%s: left %+v, want one with %q", name, left, tt.left)
		}
	}
}

// TestRemnantsSayWhy: a remnant gives the reason, whatever the source of the error.
func TestRemnantsSayWhy(t *testing.T) {
	for want, err := range map[string]error{
		"a plain one":    errors.New("a plain one"),
		"ask the vendor": fault.New("scripted", fault.Upstream, "ask the vendor"),
	} {
		r := newTestRun(canAll)
		r.Wait, r.s.fakeSource.fails, r.s.fakeSource.failure = 0, "retire", err
		if left, _ := r.Run(t.Context()); len(left) != 1 || left[0].ID != "1" || left[0].Error != want {
			t.Errorf("left %+v, want the reason %q", left, want)
		}
	}
}
