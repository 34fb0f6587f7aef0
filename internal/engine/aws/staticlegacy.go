package aws

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A legacyStatic is the row of a static role as versions without [rotate] stored it, secrets
// included.
type legacyStatic struct {
	staticData

	Current string     `json:"current"` // the id of the published key
	Adopted bool       `json:"adopted"` // the key is older than the role
	Old     *legacyKey `json:"old"`     // the previous key, until it is deleted
	Turn    *struct {  // in flight, until its key is published
		By     string    `json:"by"`
		At     time.Time `json:"at"`
		Before []string  `json:"before"`
		New    string    `json:"new"` // once it was created
	} `json:"turn"`
	Dropped []string  `json:"dropped"`
	Last    time.Time `json:"last"`
	Next    time.Time `json:"next"`
	Due     time.Time `json:"due"`
	Failed  int       `json:"failed"`
	Why     string    `json:"why"`
	Gone    bool      `json:"gone"`

	Secret []byte `json:"secret"` // of Current
	Older  []byte `json:"older"`  // of Old
	Newer  []byte `json:"newer"`  // of Turn.New
}

// A legacyKey is the previous key, in its grace period, inactive, or to be deleted.
type legacyKey struct {
	ID       string    `json:"id"`
	Since    time.Time `json:"since"` // replaced
	At       time.Time `json:"at"`    // next check
	Used     time.Time `json:"used"`
	Inactive time.Time `json:"inactive"`
	Revived  time.Time `json:"revived"`
	Adopted  bool      `json:"adopted"`
}

// upgradeStatic makes a record of a row of an earlier version.
func upgradeStatic(row []byte, r *rotate.Record) (*rotate.Secrets, error) {
	if len(r.Data) != 0 {
		return nil, nil
	}
	var was legacyStatic
	if err := json.Unmarshal(row, &was); err != nil {
		return nil, fault.Wrap("aws.static", fault.Internal, err)
	}
	*r = rotate.Record{
		Name: r.Name, Tag: rotate.Tag(r.Name), Created: was.Last, LastRotated: was.Last, Next: was.Next, Due: was.Due,
		Failures: was.Failed, LastError: was.Why, Gone: was.Gone,
	}
	sec := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	was.setCredentials(r, sec)
	switch {
	case was.Turn != nil:
		was.setCreating(r)
	case was.Old != nil && was.Current != "":
		was.setGrace(r)
	default:
		r.Retry = was.retryAt()
		if was.Current == "" && !was.Gone { // the first key is still to be created
			r.Next = was.Due
		}
	}
	return sec, was.store(r)
}

// retryAt is when a failed rotation is retried; zero if none has failed.
func (s *legacyStatic) retryAt() time.Time {
	if s.Failed == 0 {
		return time.Time{}
	}
	return s.Due
}

// setCredentials copies the keys of the row. A key that is older than the role, and is not
// published, is the current one until the first rotation has ended.
func (s *legacyStatic) setCredentials(r *rotate.Record, sec *rotate.Secrets) {
	add := func(id string, secretKey []byte) {
		if id != "" && len(secretKey) > 0 {
			sec.Keys[id] = rotate.Credential{ID: id,
				Secret: map[string]secret.Value{secretField: secret.New(secretKey)}}
		}
	}
	add(s.Current, s.Secret)
	if s.Current != "" {
		r.Current = &rotate.Ref{ID: s.Current, At: s.Last, Adopted: s.Adopted || s.Last.IsZero()}
	}
	if s.Old != nil {
		add(s.Old.ID, s.Older)
		if r.Current == nil {
			r.Current = &rotate.Ref{ID: s.Old.ID, At: s.Old.Since, Adopted: true}
		}
	}
	if s.Turn != nil {
		add(s.Turn.New, s.Newer)
	}
}

// setCreating makes a rotation whose key is not published yet. Whether a key was created is
// unknown until its id is stored.
func (s *legacyStatic) setCreating(r *rotate.Record) {
	why := rotate.Start{Reason: "manual"}
	if s.Turn.By == "schedule" {
		why.Reason = "schedule"
	}
	known := slices.Concat(s.Turn.Before, s.Dropped)
	if s.Old != nil {
		known = append(known, s.Old.ID)
	}
	r.Turns, r.Turn = 1, legacyTurn(r, why, s.Turn.At, s.Turn.New, known)
	r.Failures = 0
	r.Turn.Tries = s.Failed
	if s.Gone {
		r.Turn.Back = &rotate.Back{At: s.Due, Reason: "its record was deleted", ByUser: true}
		r.Turn.State = rotate.RollingBack
	}
}

// legacyTurn makes a rotation in flight that started at a time. made is the key that it has
// created, empty if that is unknown.
func legacyTurn(r *rotate.Record, why rotate.Start, at time.Time, made string, known []string) *rotate.Turn {
	a := rotate.Attempt{
		N: 1, Marker: "the call at " + at.Format(time.RFC3339), At: at, Deadline: at, Late: at.Add(signatureLife),
		Before: known,
	}
	t := &rotate.Turn{N: 1, ID: r.Tag + "/1", Start: why, Started: at, State: rotate.Creating, Old: r.Current}
	if made != "" {
		a.Outcome = "created"
		t.State, t.New, t.Until = rotate.Verifying, &rotate.Ref{ID: made, At: at}, at.Add(signatureLife)
	}
	t.Attempts = []rotate.Attempt{a}
	return t
}

// setGrace makes a rotation whose key is published, while the previous key is still valid.
func (s *legacyStatic) setGrace(r *rotate.Record) {
	t := &rotate.Turn{
		N: 1, ID: r.Tag + "/1", Start: rotate.Start{Reason: "schedule"}, Started: s.Old.Since, State: rotate.Grace,
		New:   r.Current,
		Old:   &rotate.Ref{ID: s.Old.ID, At: s.Old.Since, Adopted: s.Old.Adopted || len(s.Older) == 0},
		Proof: rotate.ProofUse,
		Put:   rotate.Put{IntendedAt: s.Old.Since, At: s.Old.Since, Next: s.Next},
		End: rotate.Ending{
			After: s.Old.Since.Add(s.gracePeriod(s.Old.Since)), Disabled: s.Old.Inactive, Revived: s.Old.Revived,
			Used: s.Old.Used,
		},
	}
	t.End.Hold = t.End.After.Add(s.gracePeriod(s.Old.Since))
	if !s.Old.Inactive.IsZero() {
		t.State = rotate.Retiring
	}
	r.Turns, r.Turn, r.Failures = 1, t, 0
}
