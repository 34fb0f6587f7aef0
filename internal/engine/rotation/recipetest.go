package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A RecipeTest tests a definition with one key, as a rotation would: it creates the key, verifies
// it and retires it. A RecipeTest publishes nothing.
type RecipeTest struct {
	Definition Definition
	Source     Source
	Marker     rotate.Marker // of the key
	// OnStep is called after each step, with the name of the step, what the step found, and the
	// error of the step.
	OnStep func(step, found string, err error)
	// Wait is the maximum time to wait for a new key to work, and for a retired key to be refused.
	// If Wait is zero, each is tried once.
	Wait time.Duration
}

// A Remnant is a key that may still be valid after a test.
type Remnant struct {
	ID     string `json:"id,omitempty"`     // "": not known
	Marker string `json:"marker,omitempty"` // the label by which it can be found
	Error  string `json:"error"`
}

// retireWithin is the timeout of clean-up calls, which run even after the test is interrupted.
const retireWithin = 2 * time.Minute

// Run runs the test. If a step fails or ctx ends, Run still retires the key that it created. left
// lists the keys that may still be valid.
func (t *RecipeTest) Run(ctx context.Context) (left []Remnant, err error) {
	why := notLive[t.Definition.Style]
	switch {
	case t.Definition.Style == rotate.External:
		return nil, fault.New("rotation.RecipeTest", fault.Invalid, "a recipe of style %q creates no key to test; "+
			"register a path with it at rotation/external, and write a key there", rotate.External)
	case t.Wait > 0 && why != "":
		return nil, fault.New("rotation.RecipeTest", fault.Unsupported, "a recipe of style %q cannot be tested with "+
			"a real key: %s; test it with its examples alone", t.Definition.Style, why)
	case t.Definition.Can.CreatedByHand:
		return nil, t.runByHand(ctx)
	}
	before, err := t.existingKeys(ctx)
	if err != nil {
		return nil, err
	}
	order := rotate.Order{Marker: t.Marker}
	if slots := t.Definition.Slots; len(slots) > 0 {
		order.Current = slots[0]
	}
	made, err := t.Source.Create(ctx, order)
	if err != nil {
		t.OnStep("create", "", err)
		return t.cleanUp(ctx, before, err), err
	}
	if before[made.ID] {
		err := errExistingKey(made.ID)
		t.OnStep("create", "", err)
		return []Remnant{{"", t.Marker.String(), reason(err)}}, err
	}
	t.OnStep("create", fmt.Sprintf("key %s, with %s", made.ID, t.outputs(made)), nil)
	err = t.exercise(ctx, made)
	// Retire the key whatever happened before, even if the test was interrupted.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	if retired := t.report("retire", "", t.Source.Retire(undo, made.ID)); retired != nil {
		return []Remnant{{made.ID, t.Marker.String(), reason(retired)}}, errors.Join(err, retired)
	}
	left, dead := t.verifyDead(ctx, made)
	return left, errors.Join(err, dead)
}

// notLive says why a style has no test with a real key.
var notLive = map[rotate.Style]string{
	rotate.Slots:  "the test would regenerate a slot that may be in use",
	rotate.Manual: "a person creates the keys",
}

// TestsLive reports whether a [RecipeTest] can create a real key.
func (d *Definition) TestsLive() bool { return notLive[d.Style] == "" }

// runByHand tests the calls of a definition whose keys a person creates, with example replies.
func (t *RecipeTest) runByHand(ctx context.Context) error {
	made := rotate.Credential{ID: "example", Secret: map[string]secret.Value{}, Public: map[string]string{}}
	for _, o := range t.Definition.Outputs {
		if o.Secret {
			made.Secret[o.Name] = secret.Text("example-of-" + o.Name)
		} else {
			made.Public[o.Name] = "example-of-" + o.Name
		}
	}
	t.OnStep("supply", "skipped in a test: a person supplies "+t.outputs(made), nil)
	if err := t.exercise(ctx, made); err != nil {
		return err
	}
	if t.Definition.Can.RetiredByHand {
		t.OnStep("retire", "skipped in a test: a person deletes the old key", nil)
		return nil
	}
	return t.report("retire", "", t.Source.Retire(ctx, made.ID))
}

// existingKeys returns the IDs of the keys that exist before the test creates one. The test never
// retires these keys, because a wrong expression for the id may name a key that is in use. With
// example replies, there are no such keys.
func (t *RecipeTest) existingKeys(ctx context.Context) (ids map[string]bool, err error) {
	switch {
	case t.Wait == 0:
		return nil, nil
	case !t.Definition.Can.List:
		t.OnStep("list before", "skipped: the recipe has no list, so the test cannot tell whether create returns "+
			"the id of an older key, which would then be retired", nil)
		return nil, nil
	}
	all, err := t.Source.List(ctx)
	if err != nil {
		return nil, t.report("list before", "", err)
	}
	ids = map[string]bool{}
	for _, l := range all {
		ids[l.ID] = true
	}
	t.OnStep("list before", count(len(all)), nil)
	return ids, nil
}

// count formats a number of keys.
func count(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// errExistingKey is the error of a creating call that returned the ID of an older key. The test
// does not retire that key.
func errExistingKey(id string) error {
	return fault.New("rotation.RecipeTest", fault.Upstream, "create returned the key %s, which existed before, so "+
		"it is not retired; correct the recipe's id, and look for a new key at the provider", id)
}

// report reports a step to OnStep and returns the step's error.
func (t *RecipeTest) report(name, found string, err error) error {
	t.OnStep(name, found, err)
	return err
}

// outputs lists the names of the credential's outputs, without their values.
func (t *RecipeTest) outputs(made rotate.Credential) string {
	names := slices.Sorted(maps.Keys(made.Secret))
	for i := range names {
		names[i] += " (secret)"
	}
	return strings.Join(append(names, slices.Sorted(maps.Keys(made.Public))...), ", ")
}

// exercise runs the steps between creating a key and retiring it.
func (t *RecipeTest) exercise(ctx context.Context, made rotate.Credential) error {
	can := t.Definition.Can
	if can.Proof == rotate.ProofNone {
		t.OnStep("verify", "skipped: the recipe has no way to verify a key", nil)
	} else if err := t.verify(ctx, made); err != nil {
		return err
	}
	if can.List && !can.CreatedByHand {
		if err := t.verifyListed(ctx, made); err != nil {
			return err
		}
	}
	if can.LastUsed {
		used, err := t.Source.LastUsed(ctx, made.ID)
		found := "never used, according to the provider"
		if !used.IsZero() {
			found = "last used at " + used.Format(time.RFC3339)
		}
		if t.report("last_used", found, err) != nil {
			return err
		}
	}
	t.OnStep("publish", "skipped in a test: a rotation would write "+t.outputs(made)+" here, and give readers time",
		nil)
	if can.Disable {
		return t.report("disable", "", t.Source.Disable(ctx, made.ID))
	}
	return nil
}

// verify waits until the key works as many times in a row as a rotation requires.
func (t *RecipeTest) verify(ctx context.Context, made rotate.Credential) error {
	s := t.Definition.Settle
	until := time.Now().Add(min(s.Timeout, t.Wait))
	for streak := 0; streak < max(s.Successes, 1); {
		err := t.Source.Verify(ctx, made)
		switch {
		case err == nil:
			streak++
		case rotate.OutcomeOf(err) == rotate.Rejected && time.Now().Before(until):
			streak = 0
		default:
			return t.report("verify", "", err)
		}
		if err := t.sleep(ctx, s.Interval); err != nil {
			return t.report("verify", "", err)
		}
	}
	t.OnStep("verify", fmt.Sprintf("the key works, %d times in a row", max(s.Successes, 1)), nil)
	return nil
}

// verifyDead verifies that the provider refuses the retired key, because a provider may report a
// deletion and still accept the key. If the refusal is not proven, verifyDead returns a Remnant.
// An interruption of the test ends the waiting, but not the last attempt.
func (t *RecipeTest) verifyDead(ctx context.Context, made rotate.Credential) ([]Remnant, error) {
	if t.Definition.Can.Proof == rotate.ProofNone {
		t.OnStep("verify dead",
			"skipped: the recipe has no way to verify a key; check at the provider that "+made.ID+" is gone", nil)
		return nil, nil
	}
	for until := time.Now().Add(t.Wait); ; {
		err := t.verifyDeadOnce(ctx, made)
		if err == nil {
			t.OnStep("verify dead", "the key is refused", nil)
			return nil, nil
		}
		if rotate.OutcomeOf(err) == rotate.Alive && time.Now().Before(until) &&
			t.sleep(ctx, max(t.Definition.Settle.Interval, time.Second)) == nil {
			continue
		}
		why := "the provider reported it as deleted, but that could not be verified: " + reason(err)
		if rotate.OutcomeOf(err) == rotate.Alive {
			why = "the provider reported it as deleted, but still accepts it"
		}
		return []Remnant{{made.ID, t.Marker.String(), why}}, t.report("verify dead", "", err)
	}
}

// verifyDeadOnce checks once whether the key is refused, even if the test was interrupted.
func (t *RecipeTest) verifyDeadOnce(ctx context.Context, made rotate.Credential) error {
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	return t.Source.VerifyDead(try, made)
}

// verifyListed verifies that the provider's list shows the key, with its label if the definition
// has labels. A rotation finds the key of a lost create call in this way.
func (t *RecipeTest) verifyListed(ctx context.Context, made rotate.Credential) error {
	for until := time.Now().Add(t.Wait); ; {
		all, err := t.Source.List(ctx)
		if err != nil {
			return t.report("list", "", err)
		}
		i := slices.IndexFunc(all, func(l rotate.Listed) bool { return l.ID == made.ID })
		switch {
		case i >= 0 && (!t.Definition.Can.Label || all[i].Marker == t.Marker):
			t.OnStep("list", count(len(all))+"; the new one is among them", nil)
			return nil
		case time.Now().Before(until):
		case i < 0:
			err = fault.New("rotation.RecipeTest", fault.Upstream, "the list of %s does not show the new key %s, so "+
				"a key whose create reply was lost would not be found; check the list's items, id and where",
				count(len(all)), made.ID)
		default:
			err = fault.New("rotation.RecipeTest", fault.Upstream, "the list shows the key %s with the label %q, "+
				"not %q, so a key whose create reply was lost would not be found; check the label of "+
				"create and of list",
				made.ID, all[i].Label, t.Marker)
		}
		if err != nil {
			return t.report("list", "", err)
		}
		if err := t.sleep(ctx, max(t.Definition.Settle.Interval, time.Second)); err != nil {
			return t.report("list", "", err)
		}
	}
}

// sleep waits for d. If Wait is zero, sleep returns at once.
func (t *RecipeTest) sleep(ctx context.Context, d time.Duration) error {
	if t.Wait == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// cleanUp retires the keys that a failed create call left behind. If these keys cannot be
// identified, cleanUp returns a Remnant with the label.
func (t *RecipeTest) cleanUp(ctx context.Context, before map[string]bool, failed error) (left []Remnant) {
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	var ids []string
	f, _ := errors.AsType[*rotate.Failure](failed)
	switch {
	case f != nil && before[f.ID]:
		return []Remnant{{"", t.Marker.String(), reason(errExistingKey(f.ID))}}
	case f != nil && f.ID != "":
		ids = []string{f.ID}
	case ctx.Err() == nil && rotate.OutcomeOf(failed) != rotate.Unknown:
		return nil // nothing was created
	case !t.Definition.Can.List || !t.Definition.Can.Label:
		return []Remnant{{"", t.Marker.String(),
			"it is not known whether create made a key, and the recipe has no list with labels to look for one"}}
	default:
		all, err := t.Source.List(undo)
		if err != nil {
			return []Remnant{{"", t.Marker.String(),
				"it is not known whether create made a key, and the list cannot be read: " + reason(err)}}
		}
		for _, l := range all {
			if l.Marker == t.Marker && !before[l.ID] {
				ids = append(ids, l.ID)
			}
		}
		if len(ids) == 0 {
			return []Remnant{{"", t.Marker.String(),
				"it is not known whether create made a key; the list shows none yet, but one may still appear"}}
		}
	}
	for _, id := range ids {
		if err := t.report("retire", "key "+id, t.Source.Retire(undo, id)); err != nil {
			left = append(left, Remnant{id, t.Marker.String(), reason(err)})
		} else if why := t.whyStillListed(undo, id); why != "" {
			left = append(left, Remnant{id, t.Marker.String(), why})
		}
	}
	return left
}

// whyStillListed returns the reason why a retired key may still be valid, or "" if there is none.
// Only the list can show that, because the secret of the key is not known.
func (t *RecipeTest) whyStillListed(ctx context.Context, id string) string {
	if !t.Definition.Can.List || t.Wait == 0 {
		return ""
	}
	all, err := t.Source.List(ctx)
	switch {
	case err != nil:
		return "the provider reported it as deleted, but that could not be verified: " + reason(err)
	case slices.ContainsFunc(all, func(l rotate.Listed) bool { return l.ID == id }):
		return "the provider reported it as deleted, but still lists it, perhaps only for a minute"
	}
	t.OnStep("list after", "the key "+id+" is no longer listed", nil)
	return ""
}

// reason returns the message of an error, for people.
func reason(err error) string {
	if text := fault.Message(err); text != "" {
		return text
	}
	return err.Error()
}
