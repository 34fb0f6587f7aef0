package rotate

import (
	"context"
	"maps"
	"time"
)

// A Tally counts the records of one mount by state and trouble, for metrics. A Tally is made from
// memory and costs no scan of the store.
type Tally struct {
	Mount  string
	States map[State]int64 // records without a rotation in flight are scheduled

	Alerts  int64 // records that need a person
	Failing int64 // whose last rotation, or the present step of one, has failed
	Overdue int64
	Paused  int64
	Braked  bool // rotation is paused for the whole mount

	// Failed counts the failed steps since the mount was opened.
	Failed map[FailedStep]int64
	// Missed counts the rotations since then that missed their window.
	Missed int64
	// Standings are the standings of at most the requested number of records: those in trouble
	// first, then those known longest.
	Standings []Standing
}

// Records returns the number of records.
func (t *Tally) Records() (n int64) {
	for _, of := range t.States {
		n += of
	}
	return n
}

// A Standing is the state of one record.
type Standing struct {
	Path     string // full: "rotation/keys/stripe"
	State    State
	Age      time.Duration // of the current credential; below zero: there is none
	Overdue  time.Duration
	NextStep time.Duration // until the next step; below zero: none is planned
	Failures int           // rotations in a row
	Attempts int           // of the present step that failed, in a row
	Alert    bool
	Paused   bool
}

// Trouble ranks a standing: records that need a person come first.
func (s *Standing) Trouble() int {
	switch {
	case s.Alert:
		return 0
	case s.Overdue > 0:
		return 1
	case s.failing():
		return 2
	case s.Paused:
		return 3
	}
	return healthy
}

// healthy is the rank of a standing without trouble.
const healthy = 4

func (s *Standing) failing() bool { return s.Failures > 0 || s.Attempts > 0 }

// Tally returns the tally of the mount. most limits the number of its standings.
func (m *Manager) Tally(ctx context.Context, most int) Tally {
	t := Tally{Mount: m.cfg.Mount(), Braked: m.braked(ctx), States: map[State]int64{}, Failed: map[FailedStep]int64{}}
	var listed [healthy + 1][]Standing // by rank
	now := time.Now()
	m.census.mu.Lock()
	maps.Copy(t.Failed, m.census.failed)
	t.Missed = m.census.missed
	m.census.mu.Unlock()
	for some := range m.census.chunks() {
		for i := range some {
			one := some[i].asOf(now)
			t.States[one.State]++
			t.Alerts += oneIf(one.Alert)
			t.Failing += oneIf(one.failing())
			t.Overdue += oneIf(one.Overdue > 0)
			t.Paused += oneIf(one.Paused)
			if of := &listed[one.Trouble()]; len(*of) < most {
				*of = append(*of, one)
			}
		}
	}
	for _, of := range listed {
		t.Standings = append(t.Standings, of[:min(len(of), most-len(t.Standings))]...)
	}
	for i := range t.Standings {
		t.Standings[i].Path = t.Mount + t.Standings[i].Path
	}
	return t
}

// Limit cuts the standings of all tallies together to most, those in trouble first.
func Limit(all []Tally, most int) {
	kept := make([][]Standing, len(all))
	for rank, left := 0, most; rank <= healthy; rank++ {
		for i := range all {
			for _, s := range all[i].Standings {
				if left > 0 && s.Trouble() == rank {
					kept[i] = append(kept[i], s)
					left--
				}
			}
		}
	}
	for i := range all {
		all[i].Standings = kept[i]
	}
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// asOf returns the standing at a given time. The path is below the mount.
func (s *standing) asOf(now time.Time) Standing {
	out := Standing{
		Path: s.path, State: s.state, Age: -1, NextStep: -1, Failures: s.failures, Attempts: s.attempts,
		Alert: s.alert, Paused: s.paused,
	}
	if s.since != 0 {
		out.Age = max(now.Sub(time.Unix(s.since, 0)), 0)
	}
	if s.due != 0 {
		out.NextStep = max(time.Unix(s.due, 0).Sub(now), 0)
	}
	if s.next != 0 {
		out.Overdue = overdue(time.Unix(s.next, 0), s.published, now)
	}
	return out
}
