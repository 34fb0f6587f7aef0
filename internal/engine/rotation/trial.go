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
)

// A Trial tests a definition with one key, as a rotation would: it creates the key, verifies it
// and retires it. A Trial publishes nothing.
type Trial struct {
	Definition Definition
	Source     Source
	Marker     rotate.Marker // of the key
	// Told is called after each step, with the name of the step, what the step found, and the
	// error of the step.
	Told func(step, found string, err error)
	// Wait is the maximum time to wait for a new key to work, and for a retired key to be refused.
	// If Wait is zero, the trial tries each once.
	Wait time.Duration
}

// A Remnant is a key that may still be valid after a trial.
type Remnant struct {
	ID     string `json:"id,omitempty"`     // "": not known
	Marker string `json:"marker,omitempty"` // the label by which it can be found
	Error  string `json:"error"`
}

// retireWithin is the timeout of clean-up calls, which run even after the trial is interrupted.
const retireWithin = 2 * time.Minute

// Run runs the trial. If a step fails or ctx ends, Run still retires the key that it created. left
// lists the keys that may still be valid.
func (t *Trial) Run(ctx context.Context) (left []Remnant, err error) {
	before, err := t.before(ctx)
	if err != nil {
		return nil, err
	}
	made, err := t.Source.Create(ctx, rotate.Order{Marker: t.Marker})
	if err != nil {
		t.Told("create", "", err)
		return t.sweep(ctx, before, err), err
	}
	if before[made.ID] {
		err := alien(made.ID)
		t.Told("create", "", err)
		return []Remnant{{"", t.Marker.String(), reason(err)}}, err
	}
	t.Told("create", fmt.Sprintf("key %s, with %s", made.ID, t.outputs(made)), nil)
	err = t.use(ctx, made)
	// Retire the key whatever happened before, even if the trial was interrupted.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	if retired := t.step("retire", "", t.Source.Retire(undo, made.ID)); retired != nil {
		return []Remnant{{made.ID, t.Marker.String(), reason(retired)}}, errors.Join(err, retired)
	}
	left, dead := t.dead(ctx, made)
	return left, errors.Join(err, dead)
}

// before returns the IDs of the keys that exist before the trial creates one. The trial never
// retires these keys, because a wrong expression for the id may name a key that is in use. A
// rehearsal has no such keys.
func (t *Trial) before(ctx context.Context) (ids map[string]bool, err error) {
	switch {
	case t.Wait == 0:
		return nil, nil
	case !t.Definition.Can.List:
		t.Told("list before", "skipped: the recipe has no list, so that nobody can tell whether the id that create answers with is that of a key from before, which would be retired", nil)
		return nil, nil
	}
	all, err := t.Source.List(ctx)
	if err != nil {
		return nil, t.step("list before", "", err)
	}
	ids = map[string]bool{}
	for _, l := range all {
		ids[l.ID] = true
	}
	t.Told("list before", count(len(all)), nil)
	return ids, nil
}

// count formats a number of keys.
func count(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// alien is the error of a creating call that returned the ID of an older key. The trial does not
// retire that key.
func alien(id string) error {
	return fault.New("rotation.Trial", fault.Upstream, "create answered with the key %s, which was there before, so it is not retired; correct the recipe's id, and look for a new key at the provider", id)
}

// step reports a step to Told and returns the step's error.
func (t *Trial) step(name, found string, err error) error {
	t.Told(name, found, err)
	return err
}

// outputs lists the names of the credential's outputs, without their values.
func (t *Trial) outputs(made rotate.Credential) string {
	names := slices.Sorted(maps.Keys(made.Secret))
	for i := range names {
		names[i] += " (secret)"
	}
	return strings.Join(append(names, slices.Sorted(maps.Keys(made.Public))...), ", ")
}

// use runs the steps between creating a key and retiring it.
func (t *Trial) use(ctx context.Context, made rotate.Credential) error {
	can := t.Definition.Can
	if can.Proof == rotate.ProofNone {
		t.Told("verify", "skipped: the recipe has no way to verify a key", nil)
	} else if err := t.verify(ctx, made); err != nil {
		return err
	}
	if can.List {
		if err := t.list(ctx, made); err != nil {
			return err
		}
	}
	if can.LastUsed {
		used, err := t.Source.LastUsed(ctx, made.ID)
		found := "never used, as far as the provider tells"
		if !used.IsZero() {
			found = "last used at " + used.Format(time.RFC3339)
		}
		if t.step("last_used", found, err) != nil {
			return err
		}
	}
	t.Told("publish", "not done in a test: a rotation would write "+t.outputs(made)+" here, and give readers time", nil)
	if can.Disable {
		return t.step("disable", "", t.Source.Disable(ctx, made.ID))
	}
	return nil
}

// verify waits until the key works as many times in a row as a rotation requires.
func (t *Trial) verify(ctx context.Context, made rotate.Credential) error {
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
			return t.step("verify", "", err)
		}
		if err := t.pause(ctx, s.Interval); err != nil {
			return t.step("verify", "", err)
		}
	}
	t.Told("verify", fmt.Sprintf("the key works, %d times in a row", max(s.Successes, 1)), nil)
	return nil
}

// dead verifies that the provider refuses the retired key, because a provider may report a
// deletion and still accept the key. If the refusal is not proven, dead returns a Remnant. An
// interruption of the trial ends the waiting, but not the last attempt.
func (t *Trial) dead(ctx context.Context, made rotate.Credential) ([]Remnant, error) {
	if t.Definition.Can.Proof == rotate.ProofNone {
		t.Told("verify dead", "skipped: the recipe has no way to verify a key; see at the provider whether "+made.ID+" is gone", nil)
		return nil, nil
	}
	for until := time.Now().Add(t.Wait); ; {
		err := t.tryDead(ctx, made)
		if err == nil {
			t.Told("verify dead", "the key is refused", nil)
			return nil, nil
		}
		if rotate.OutcomeOf(err) == rotate.Alive && time.Now().Before(until) && t.pause(ctx, max(t.Definition.Settle.Interval, time.Second)) == nil {
			continue
		}
		why := "the provider said that it is deleted, and whether that is so could not be found out: " + reason(err)
		if rotate.OutcomeOf(err) == rotate.Alive {
			why = "the provider said that it is deleted, and still accepts it"
		}
		return []Remnant{{made.ID, t.Marker.String(), why}}, t.step("verify dead", "", err)
	}
}

// tryDead checks once whether the key is refused, even if the trial was interrupted.
func (t *Trial) tryDead(ctx context.Context, made rotate.Credential) error {
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	return t.Source.VerifyDead(try, made)
}

// list verifies that the provider's list shows the key, with its label if the definition has
// labels. A rotation finds the key of a lost create call in this way.
func (t *Trial) list(ctx context.Context, made rotate.Credential) error {
	for until := time.Now().Add(t.Wait); ; {
		all, err := t.Source.List(ctx)
		if err != nil {
			return t.step("list", "", err)
		}
		i := slices.IndexFunc(all, func(l rotate.Listed) bool { return l.ID == made.ID })
		switch {
		case i >= 0 && (!t.Definition.Can.Label || all[i].Marker == t.Marker):
			t.Told("list", count(len(all))+"; the new one is among them", nil)
			return nil
		case time.Now().Before(until):
		case i < 0:
			err = fault.New("rotation.Trial", fault.Upstream, "the list of %s does not show the new key %s; a key that a lost call left would not be found: check the list's items, id and where", count(len(all)), made.ID)
		default:
			err = fault.New("rotation.Trial", fault.Upstream, "the list shows the key %s with the label %q, not %q; a key that a lost call left would not be found: check the label of create and of list", made.ID, all[i].Label, t.Marker)
		}
		if err != nil {
			return t.step("list", "", err)
		}
		if err := t.pause(ctx, max(t.Definition.Settle.Interval, time.Second)); err != nil {
			return t.step("list", "", err)
		}
	}
}

// pause waits for d. If Wait is zero, pause returns at once.
func (t *Trial) pause(ctx context.Context, d time.Duration) error {
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

// sweep retires the keys that a failed create call left behind. If these keys cannot be
// identified, sweep returns a Remnant with the label.
func (t *Trial) sweep(ctx context.Context, before map[string]bool, failed error) (left []Remnant) {
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), retireWithin)
	defer cancel()
	var ids []string
	f, _ := errors.AsType[*rotate.Failure](failed)
	switch {
	case f != nil && before[f.ID]:
		return []Remnant{{"", t.Marker.String(), reason(alien(f.ID))}}
	case f != nil && f.ID != "":
		ids = []string{f.ID}
	case ctx.Err() == nil && rotate.OutcomeOf(failed) != rotate.Unknown:
		return nil // surely nothing was created
	case !t.Definition.Can.List || !t.Definition.Can.Label:
		return []Remnant{{"", t.Marker.String(), "it is not known whether create made a key, and the recipe has no list with labels in which it could be looked for"}}
	default:
		all, err := t.Source.List(undo)
		if err != nil {
			return []Remnant{{"", t.Marker.String(), "it is not known whether create made a key, and the list cannot be read: " + reason(err)}}
		}
		for _, l := range all {
			if l.Marker == t.Marker && !before[l.ID] {
				ids = append(ids, l.ID)
			}
		}
		if len(ids) == 0 {
			return []Remnant{{"", t.Marker.String(), "it is not known whether create made a key; the list shows none yet, and it may still come"}}
		}
	}
	for _, id := range ids {
		if err := t.step("retire", "key "+id, t.Source.Retire(undo, id)); err != nil {
			left = append(left, Remnant{id, t.Marker.String(), reason(err)})
		} else if why := t.listed(undo, id); why != "" {
			left = append(left, Remnant{id, t.Marker.String(), why})
		}
	}
	return left
}

// listed returns the reason why a retired key may still be valid, or "" if there is none. Only the
// list can show that, because the secret of the key is not known.
func (t *Trial) listed(ctx context.Context, id string) string {
	if !t.Definition.Can.List || t.Wait == 0 {
		return ""
	}
	all, err := t.Source.List(ctx)
	switch {
	case err != nil:
		return "the provider said that it is deleted, and whether that is so could not be found out: " + reason(err)
	case slices.ContainsFunc(all, func(l rotate.Listed) bool { return l.ID == id }):
		return "the provider said that it is deleted, and still lists it, which may end within a minute"
	}
	t.Told("list after", "the key "+id+" is not listed any more", nil)
	return ""
}

// reason returns the message of an error, for people.
func reason(err error) string {
	if text := fault.Message(err); text != "" {
		return text
	}
	return err.Error()
}
