package rotate

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Status describes one record for a person. Times that are still to come never lie in the past.
type Status struct {
	Path       string    `json:"path"`                   // full: "rotation/keys/stripe"
	Kind       string    `json:"kind"`                   // "key"
	Class      Class     `json:"class,omitempty"`        // how sensitive it is, if that is configured
	Place      string    `json:"published_at,omitempty"` // where consumers read it, if that is not the record
	State      State     `json:"state"`
	Rotation   int       `json:"rotation"` // number of the one in flight, or of the last one
	Summary    string    `json:"summary"`  // a sentence
	CurrentID  string    `json:"current_key_id,omitempty"`
	PreviousID string    `json:"previous_key_id,omitempty"` // in its grace
	Last       time.Time `json:"last_rotated,omitzero"`
	Next       time.Time `json:"next_rotation,omitzero"`
	NextStep   time.Time `json:"next_step,omitzero"`
	Overdue    int64     `json:"overdue_seconds"`
	Failures   int       `json:"failures"` // rotations in a row
	Attempts   int       `json:"attempts"` // of the present step that failed
	Alert      string    `json:"alert,omitempty"`
	AlertSince time.Time `json:"alert_since,omitzero"`
	Paused     string    `json:"pause_reason,omitempty"`
	// Deadline is the time by which a rotation must have published; it may have passed.
	Deadline time.Time `json:"-"`
}

// Overdue returns how long an unpublished rotation has been due; zero if it is not late enough to
// count.
func (r *Record) Overdue(now time.Time) time.Duration {
	if r.Next.IsZero() {
		return 0
	}
	return overdue(r.Next, r.published(), now)
}

// overdue returns how long a rotation has been due since next; zero if it is not late enough to
// count.
func overdue(next time.Time, published bool, now time.Time) time.Duration {
	if late := now.Sub(next); late > overdueAfter && !published {
		return late
	}
	return 0
}

// deadline returns the time by which a rotation must have published: the planned one or, for a
// record that is rotated on request only, the end of the period of its class. Zero: there is none.
func (r *Record) deadline(c Class) time.Time {
	if period, ok := c.Period(); ok && r.Next.IsZero() && !r.LastRotated.IsZero() {
		return r.LastRotated.Add(period)
	}
	return r.Next
}

// Late returns how long the deadline has passed; zero if it is not late enough to count.
func (s *Status) Late(now time.Time) time.Duration {
	if s.Deadline.IsZero() || s.Overdue == 0 && !s.Next.IsZero() {
		return 0
	}
	return overdue(s.Deadline, false, now)
}

// Trouble ranks a status: records that need a person come first.
func (s *Status) Trouble() int {
	switch {
	case s.Alert != "" && s.Paused != "":
		return 0
	case s.Alert != "":
		return 1
	case s.Overdue > 0:
		return 2
	case s.Failures > 0 || s.Attempts > 0:
		return 3
	case s.Paused != "":
		return 4
	case s.State != Scheduled:
		return 5
	}
	return 6
}

// Statuses yields the status of each record of the mount. Statuses yields a damaged record with
// its path and an error.
func (m *Manager) Statuses(ctx context.Context) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		braked := ""
		if m.braked(ctx) {
			braked = "rotation is paused for this mount; write brake=false to its config to resume it"
		}
		for _, name := range slices.Sorted(maps.Keys(m.kinds)) {
			k := m.kinds[name]
			for r, err := range m.Records(ctx, name) {
				s := Status{Kind: k.Noun}
				if r.Name != "" { // else the store has not answered
					s.Path = m.cfg.Mount() + k.Path(r.Name)
				}
				if err == nil {
					s = m.status(k, r, time.Now().UTC())
					s.Paused = cmp.Or(s.Paused, braked)
				}
				if !yield(s, err) {
					return
				}
			}
		}
	}
}

// braked reports whether the mount's brake is on. braked reports false if the store cannot be
// read.
func (m *Manager) braked(ctx context.Context) bool {
	for _, k := range m.kinds {
		if all, err := k.limits(ctx); err == nil && all.Brake {
			return true
		}
	}
	return false
}

func (m *Manager) status(k *Kind, r *Record, now time.Time) Status {
	s := Status{
		Path: m.cfg.Mount() + k.Path(requestName(k, r)), Kind: k.Noun, State: r.State(), Rotation: int(r.Number()),
		CurrentID: r.Current.Key(), Last: r.LastRotated,
		Next: notBefore(r.Next, now), NextStep: notBefore(r.NextStep(), now),
		Overdue: int64(r.Overdue(now) / time.Second), Failures: r.Failures,
	}
	if k.Place != nil {
		s.Place = k.Place(r)
	}
	if k.Class != nil {
		s.Class = k.Class(r)
	}
	s.Deadline = r.deadline(s.Class)
	if t := r.Turn; t != nil {
		s.Attempts = t.Tries
		if !t.Published().IsZero() {
			s.PreviousID = t.Victim().Key()
		}
	}
	s.Alert, s.AlertSince = r.AlertText()
	if r.Paused != nil {
		s.Paused = r.Paused.Reason
	}
	s.Summary = r.Summary(now)
	return s
}

// Summary says in a sentence what the record does, what it waits for, and until when. An alert
// comes first, because a record that needs a person is not idle.
func (r *Record) Summary(now time.Time) string {
	text := r.activity(now)
	if r.Turn != nil {
		text = fmt.Sprintf("rotation %d: %s", r.Turn.N, text)
	}
	if id := r.Current.Key(); id != "" {
		text += "; current key " + id
	} else {
		text += "; no key yet"
	}
	switch {
	case r.Paused != nil:
	case r.Next.IsZero():
		text += "; it is rotated on request only"
	case r.Turn == nil || !r.Turn.Published().IsZero():
		text += "; next rotation " + when(r.Next, now)
	}
	known := ""
	if r.Paused != nil {
		known = r.Paused.Reason // activity has said it
	}
	if alert, _ := r.alertTextExcept(known); alert != "" {
		if known != "" && strings.Contains(alert, known) {
			text = strings.Replace(text, "paused: "+known, "paused", 1)
		}
		text = "alert: " + alert + "; " + text
	}
	return text
}

// activity says what the record does, or waits for.
func (r *Record) activity(now time.Time) string {
	t := r.Turn
	switch {
	case r.Paused != nil:
		return "paused: " + r.Paused.Reason
	case t == nil && r.Failures > 0 && r.nextAttempt().IsZero():
		return fmt.Sprintf("failed %s", times(r.Failures))
	case t == nil && r.Failures > 0:
		return fmt.Sprintf("failed %s; the next attempt begins %s", times(r.Failures), when(r.nextAttempt(), now))
	case t == nil:
		return "idle"
	case t.Tries > 0 && t.End.WrongLists == t.Tries:
		return "the provider's list is not as expected (" + r.LastError + "), and is read again " + when(r.Due, now)
	case t.Tries > 0 && r.alerts().step != nil: // the alert says how often
		return string(t.State) + " is retried " + when(r.Due, now)
	case t.Tries > 0:
		return fmt.Sprintf("%s failed %s, and is retried %s", t.State, times(t.Tries), when(r.Due, now))
	}
	until, next := bareWhen(r.Due, now), when(r.Due, now)
	switch t.State {
	case Creating:
		if a := t.last(); a != nil && a.unresolved() && !a.Late.IsZero() && r.Due.Sub(a.Late).Abs() < time.Second {
			return "waiting in case a lost create call (" + a.Marker + ") takes effect, until " + until
		}
		if t.last() == nil && r.Due.After(now.Add(time.Second)) {
			return "waiting for a person to create the new key and to supply it"
		}
		return "creating the new key"
	case Setting:
		return "setting the new secret"
	case Settling, Verifying:
		return "verifying the new key " + t.New.Key() + ", next " + next
	case Publishing:
		return "publishing the new key " + t.New.Key()
	case RollingBack:
		return "rolling back, because " + t.Back.Reason
	case Grace:
		return r.graceActivity(now)
	}
	switch end := t.End; {
	case t.Victim() == nil && t.last() != nil && t.last().unresolved() && r.Due.After(now.Add(time.Second)):
		return "waiting in case a lost create call takes effect, until " + until
	case t.Victim() == nil:
		return "checking that the provider lists exactly the expected keys"
	case end.Retired.IsZero() && !end.Disabled.IsZero():
		return "the old key " + t.Victim().Key() + " is disabled and will be deleted " + next
	case !end.Dead.IsZero() && r.Due.After(now.Add(time.Second)):
		return "the old key is retired; waiting in case a lost create call takes effect, until " + until
	}
	return "retiring the old key " + t.Victim().Key()
}

// nextAttempt returns when the next rotation after a failed one begins.
func (r *Record) nextAttempt() time.Time {
	if r.Queued != nil {
		return r.Queued.After
	}
	return later(r.Next, r.Retry)
}

// graceActivity says what delays the retirement of the old credential.
func (r *Record) graceActivity(now time.Time) string {
	t := r.Turn
	old := t.Victim().Key()
	switch {
	case old == "":
		return "published; there is no old key to retire"
	case now.Before(t.End.After):
		return "published; readers have until " + bareWhen(t.End.After, now) + " to switch from the old key " + old
	}
	return "published; the old key " + old + " is still in use, and is checked again " + when(r.Due, now)
}
