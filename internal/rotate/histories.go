package rotate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// A HistoryQuery holds the parameters of a request for a record's history, in any engine.
type HistoryQuery struct {
	Limit int  `json:"limit" default:"all that are kept" doc:"How many rotations to return at most."`
	Steps bool `json:"steps" default:"false" doc:"Whether to return the steps of each rotation."`
	Turn  int  `json:"rotation" default:"all" doc:"The number of one rotation to show. With steps=true, the answer also has its requests to the provider and the beginnings of the replies, without secrets."`
}

// A History is the answer to a [HistoryQuery]. A History holds no secret.
type History struct {
	Turns []PastTurn   `json:"rotations"` // the newest first
	Steps []JournalRow `json:"steps,omitempty"`
}

// A PastTurn is a rotation as the history shows it. For the rotation in flight, it shows what has
// happened so far.
type PastTurn struct {
	N           int       `json:"rotation"`
	Result      State     `json:"result"` // where it stands, or how it ended
	Reason      string    `json:"reason"`
	By          string    `json:"by"`
	Leaked      bool      `json:"leaked"`
	Started     time.Time `json:"started"`
	Published   time.Time `json:"published"`
	Ended       time.Time `json:"ended"`
	KeyID       string    `json:"key_id"`
	PreviousID  string    `json:"previous_key_id"`
	Version     int       `json:"version"`
	Proof       Proof     `json:"proof"`
	DeadProof   string    `json:"dead_proof"`
	RetireAfter time.Time `json:"retire_after"`
	Retired     time.Time `json:"retired"`
	Proven      bool      `json:"proven"`
	Unproven    []string  `json:"unproven"`
	BackReason  string    `json:"rolled_back_because"`
	Stages      []Stage   `json:"states"`
	Attempts    []string  `json:"attempts"`
	Errors      []Error   `json:"errors"`
}

// History returns the rotations of a record, for a request. missing is the error if there is no
// such record.
func (m *Manager) History(ctx context.Context, kind, name string, missing error, q HistoryQuery) (*History, error) {
	e, err := m.View(ctx, kind, name)
	if err == nil && e == nil {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	past, err := m.rotations(ctx, e)
	if err != nil {
		return nil, err
	}
	if q.Turn != 0 {
		past = slices.DeleteFunc(past, func(t *Turn) bool { return int(t.N) != q.Turn })
		if len(past) == 0 {
			return nil, fault.New("rotate.History", fault.NotFound, "%s has no rotation %d in its history; leave "+
				"the parameter \"rotation\" out to list those that are kept", e.name(), q.Turn)
		}
	}
	if q.Limit <= 0 {
		q.Limit = MaxHistory
	}
	out := &History{Turns: []PastTurn{}}
	for _, t := range past[:min(q.Limit, len(past))] {
		out.Turns = append(out.Turns, t.shown())
	}
	if q.Steps {
		//nolint:gosec // it is 0, or that of a rotation that was found
		out.Steps, err = m.Journal(ctx, kind, name, uint32(q.Turn))
	}
	return out, err
}

func (t *Turn) shown() PastTurn {
	out := PastTurn{
		N: int(t.N), Result: t.State, Reason: t.Start.Reason, By: t.Start.By, Leaked: t.Start.Leaked,
		Started: t.Started, Published: t.Put.At, Ended: t.Ended,
		KeyID: t.New.Key(), PreviousID: t.Old.Key(), Version: t.Put.Version, Proof: t.Proof, DeadProof: t.End.Proof,
		RetireAfter: t.End.After, Retired: t.End.Retired,
		Proven: t.State == Done && len(t.Unproven) == 0, Unproven: t.Unproven, Stages: t.Stages, Errors: t.Errors,
	}
	if t.Back != nil {
		out.BackReason = t.Back.Reason
	}
	for _, a := range t.Attempts {
		name := a.Marker
		if name == "" { // the secret is replaced in place: nothing at the provider has the label
			name = fmt.Sprintf("attempt %d:", a.N)
		}
		out.Attempts = append(out.Attempts, name+" "+a.Describe())
	}
	return out
}
