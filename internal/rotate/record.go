package rotate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State is the state of a rotation. A record without a rotation in flight is Scheduled.
type State string

// The states in order, and the results of a rotation.
const (
	Scheduled   State = "scheduled"
	Creating    State = "creating"
	Setting     State = "setting" // of the style in-place
	Settling    State = "settling"
	Verifying   State = "verifying"
	Publishing  State = "publishing"
	Grace       State = "grace"
	Retiring    State = "retiring"
	RollingBack State = "rolling-back"

	Done       State = "done"
	RolledBack State = "rolled-back"
	Failed     State = "failed"
)

// A Record is everything known about one credential that rotates, except its secrets.
type Record struct {
	Name    string    `json:"name"`
	Tag     string    `json:"tag"` // of its markers; a reused name gets a new one
	Created time.Time `json:"created"`

	Turns       uint32    `json:"turns"`        // the last rotation's number
	Journaled   int       `json:"journaled"`    // rows of the journal, counted by commits
	Current     *Ref      `json:"current"`      // nil: none that is recorded as ours
	LastRotated time.Time `json:"last_rotated"` // when a rotation last published
	Next        time.Time `json:"next"`         // the next rotation by schedule; absolute
	Retry       time.Time `json:"retry"`        // the next rotation after a failed one
	Due         time.Time `json:"due"`          // where the due item is; zero: none
	Failures    int       `json:"failures"`     // rotations in a row
	Turn        *Turn     `json:"turn"`         // in flight
	Queued      *Start    `json:"queued"`       // to begin when Turn ends
	Paused      *Pause    `json:"paused"`
	Alert       *Alert    `json:"alert"`
	LastError   string    `json:"last_error"` // redacted
	Unproven    []string  `json:"unproven"`   // of the last rotation that published
	DestructiveCall
	// Look plans the next look at what consumers read.
	Look Look `json:"next_look,omitzero"`
	// Hand counts writes of the place by hand.
	HandWrites *HandWrites `json:"hand,omitempty"`
	// Gone means that the user has deleted the record. The server finishes the rotation in
	// flight, then removes the record.
	Gone bool `json:"gone,omitempty"`
	// Disowned are credentials that were current when the configuration was pointed elsewhere. A
	// person deletes them.
	Disowned []string `json:"disowned,omitempty"`
	// Idle are the credentials of the accounts that alternate with the current one, the newest of
	// each account.
	Idle []*Ref `json:"idle,omitempty"`

	// Data is the engine's own configuration of the record.
	Data json.RawMessage `json:"data"`
}

// A DestructiveCall is a call that retires, disables or sets a credential, and may be under way.
type DestructiveCall struct {
	// CallUntil is until when the call may be under way; zero means none is. The record's Due is
	// not before CallUntil.
	CallUntil time.Time `json:"calling,omitzero"`
	// Orphan is the credential that a request retires until CallUntil.
	Orphan string `json:"orphan,omitempty"`
	// SlotsFree is until when a retiring call may still take effect, of a provider with slots.
	SlotsFree time.Time `json:"slots_free,omitzero"`
}

// A Look plans when the server next reads what consumers read.
type Look struct {
	// At is a day after the last look, and sooner if somebody has written a value that could not
	// be tried, or if the provider has refused the current credential.
	At     time.Time `json:"at"`
	Failed int       `json:"failed,omitempty"` // looks that found no answer
	By     string    `json:"by,omitempty"`     // who wrote the value that could not be tried
}

// A Ref refers to a credential at the provider that is recorded as ours.
type Ref struct {
	ID      string    `json:"id"`
	Account string    `json:"account,omitempty"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	Adopted bool      `json:"adopted"` // created by somebody else
	// Leaked means that the credential was reported as leaked. No rotation gives it a grace
	// period, even if the credential becomes current again.
	Leaked bool `json:"leaked,omitempty"`
}

// Key returns the credential's ID; "" for none.
func (r *Ref) Key() string {
	if r == nil {
		return ""
	}
	return r.ID
}

// hasLeaked reports whether the credential was reported as leaked.
func (r *Ref) hasLeaked() bool { return r != nil && r.Leaked }

// markLeaked marks a credential as leaked, wherever the record refers to it.
func (r *Record) markLeaked(id string) {
	for _, ref := range r.refs() {
		if ref.ID == id && id != "" {
			ref.Leaked = true
		}
	}
}

// refs returns the record's credentials: the current one, the idle ones, and those of the rotation
// in flight.
func (r *Record) refs() []*Ref {
	refs := append([]*Ref{r.Current}, r.Idle...)
	if t := r.Turn; t != nil {
		refs = append(refs, t.New, t.Old)
	}
	return slices.DeleteFunc(refs, func(ref *Ref) bool { return ref == nil })
}

// A Pause stops a record in its present state.
type Pause struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Auto   bool      `json:"auto"` // by the server itself: it asks a person
}

// A Start says why a rotation begins.
type Start struct {
	Reason string `json:"reason"` // "schedule", "manual"
	By     string `json:"by"`
	Leaked bool   `json:"leaked"`
	// After is the earliest time at which a queued rotation begins.
	After time.Time `json:"after,omitzero"`
}

// A Turn is one rotation: the replacement of a credential, from the first recorded intent to the
// last verification.
type Turn struct {
	N            uint32    `json:"n"`
	ID           string    `json:"id"` // the same for no two rotations, ever: publishing is idempotent by it
	Start        Start     `json:"start"`
	Started      time.Time `json:"started"`
	State        State     `json:"state"`
	Stages       []Stage   `json:"stages"`
	Attempts     []Attempt `json:"attempts"`
	New          *Ref      `json:"new"`
	Old          *Ref      `json:"old"`
	Tries        int       `json:"tries"`             // of the present call that failed
	Refused      int       `json:"refused,omitempty"` // how often the provider refused a value that it may have
	Streak       int       `json:"streak"`            // successful verifications in a row
	Until        time.Time `json:"until"`             // when settling is given up
	Proof        Proof     `json:"proof"`
	Put          Put       `json:"put"`
	Back         *Back     `json:"back"`            // the rotation is being rolled back
	Rollbacks    int       `json:"backs,omitempty"` // how many were begun after a publication
	End          Ending    `json:"end"`
	Unproven     []string  `json:"unproven"`
	Errors       []Error   `json:"errors"`
	Ended        time.Time `json:"ended"`
	PlaceProblem string    `json:"astray,omitempty"` // what is wrong with the published secret
	Kept         int       `json:"kept,omitempty"`   // how many exchanges with the provider are kept
	Swaps        int       `json:"flips,omitempty"`  // how often the victim became current again
	Hold         time.Time `json:"hold,omitzero"`    // End.Hold of the first grace; swaps do not move it
}

// A Stage records when a rotation entered a state.
type Stage struct {
	State State     `json:"state"`
	At    time.Time `json:"at"`
}

// An Attempt is one creating call. The attempt is recorded before the call.
type Attempt struct {
	N        uint16    `json:"n"`
	Marker   string    `json:"marker"`
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline"`         // when the call returns at the latest
	Late     time.Time `json:"late"`             // when its effect comes at the latest
	Outcome  string    `json:"outcome"`          // "": not known to have returned; "created", or an [Outcome]
	Before   []string  `json:"before"`           // IDs seen before the call, where there are no labels
	IDs      []string  `json:"ids"`              // what the call left without our knowing the secret
	Swept    bool      `json:"swept"`            // all of IDs are retired
	Looked   bool      `json:"looked,omitempty"` // what it left was looked for at the end, before Late
	Settled  bool      `json:"settled"`          // no effect of the call is possible any more
}

// unresolved reports whether an effect of the call may still be found.
func (a *Attempt) unresolved() bool {
	return !a.Settled && (a.Outcome == "" || a.Outcome == Unknown.String())
}

// Describe describes the outcome of the call for people.
func (a *Attempt) Describe() string {
	ids := strings.Join(a.IDs, ", ")
	switch {
	case len(a.IDs) > 0 && a.Swept:
		return a.Outcome + ": it left " + ids + ", which is retired"
	case len(a.IDs) > 0:
		return a.Outcome + ": it left " + ids + ", which is about to be retired"
	case !a.unresolved() && (a.Outcome == "" || a.Outcome == Unknown.String()):
		return "unknown: nothing was found, and it can no longer take effect"
	case a.Outcome == "":
		return "under way"
	case a.unresolved():
		return "unknown: the server looks for what it may have left until " + a.Late.UTC().Format(time.RFC3339)
	}
	return a.Outcome
}

// addLeftover records a credential that the call left behind, to be retired.
func (a *Attempt) addLeftover(id string) {
	if !slices.Contains(a.IDs, id) {
		a.IDs = append(a.IDs, id)
	}
	a.Swept = false
}

// A Put is what was published, or is about to be.
type Put struct {
	IntendedAt time.Time `json:"asked"` // the intent; zero: nothing can have been published
	CAS        int       `json:"cas"`
	Next       time.Time `json:"next"`
	At         time.Time `json:"at"` // done; zero: not known
	Version    int       `json:"version"`
	Again      int       `json:"again,omitempty"` // how often it was published again, after an overwrite
}

// publicationID returns the ID of the rotation's publication.
func (t *Turn) publicationID() string {
	if t.Put.Again > 0 {
		return fmt.Sprintf("%s/again-%d", t.ID, t.Put.Again)
	}
	return t.ID
}

// mayBeRead reports whether readers may have received the new credential.
func (t *Turn) mayBeRead() bool { return !t.Put.IntendedAt.IsZero() || t.Put.Again > 0 }

// rollbackPublicationID returns the ID of the publication that rolls the rotation back.
func (t *Turn) rollbackPublicationID() string {
	if n := t.Back.Put.Again; n > 0 {
		return fmt.Sprintf("%s/back-%d", t.ID, n)
	}
	return t.ID + "/back"
}

// A Back says how a rotation is rolled back.
type Back struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	ByUser bool      `json:"by_user"`
	Pause  bool      `json:"ask"`    // the record waits for a person when the rotation has ended
	Leaked bool      `json:"leaked"` // the new credential does not get its grace
	Put    Put       `json:"put"`    // of the old value, where the new one was published
}

// An Ending is the end of life of the credential that the rotation retires.
type Ending struct {
	After      time.Time `json:"after"` // not before
	Now        bool      `json:"now"`   // even if somebody uses it
	Hold       time.Time `json:"hold"`  // uses delay the retirement until then; then a person is alerted
	Disabled   time.Time `json:"disabled"`
	Revived    time.Time `json:"revived,omitzero"` // somebody has enabled it again
	Held       time.Time `json:"held,omitzero"`    // consumers read it, although the provider refused it
	Used       time.Time `json:"used,omitzero"`    // as the provider said last
	Retired    time.Time `json:"retired"`
	Dead       time.Time `json:"dead"`
	Proof      string    `json:"proof"` // "refused", "management", "not listed", "confirmed" (by a person), "none"
	Listed     time.Time `json:"listed"`
	WrongLists int       `json:"wrong,omitempty"`  // how often the provider's list was wrong
	Accepted   int       `json:"undead,omitempty"` // how often it was accepted after it was retired
}

// An Error is a failed call of a rotation.
type Error struct {
	At      time.Time `json:"at"`
	State   State     `json:"state"`
	Outcome string    `json:"outcome"`
	Text    string    `json:"text"` // redacted
}

// Victim returns the credential that the rotation retires; Live returns the one that it keeps.
func (t *Turn) Victim() *Ref {
	if t.Back != nil {
		return t.New
	}
	return t.Old
}

// leaked reports whether the victim has leaked.
func (t *Turn) leaked() bool {
	switch {
	case t.Victim().hasLeaked():
		return true
	case t.Back != nil:
		return t.Back.Leaked
	}
	return t.Start.Leaked
}

// Replaced reports whether readers get the new credential and only the old one is left to retire.
func (t *Turn) Replaced() bool { return t.Back == nil && (t.State == Grace || t.State == Retiring) }

// Needed returns the last sign that somebody needs the victim: its last use, or the time somebody
// enabled it again.
func (t *Turn) Needed() time.Time { return later(t.End.Used, t.End.Revived) }

// Live returns the credential that the rotation keeps.
func (t *Turn) Live() *Ref {
	if t.Back != nil {
		return t.Old
	}
	return t.New
}

// Published returns the last time at which readers could read the victim's value as the current
// one.
func (t *Turn) Published() time.Time {
	if t.Back != nil {
		return t.Back.Put.At
	}
	return t.Put.At
}

// IDs returns what the rotation may have at the provider: the IDs of credentials, and the markers
// of calls whose effect is unknown.
func (t *Turn) IDs() (out []string) {
	for _, h := range []*Ref{t.New, t.Victim()} {
		if h != nil && !slices.Contains(out, h.ID) {
			out = append(out, h.ID)
		}
	}
	for _, a := range t.Attempts {
		if a.unresolved() {
			out = append(out, a.Marker)
		}
	}
	return out
}

// Limits on what a rotation keeps.
const (
	maxStages = 60
	maxErrors = 20
	maxBefore = 2000
	// maxDisowned is how many disowned credentials a record remembers.
	maxDisowned = 50
)

// last returns the newest attempt, or nil.
func (t *Turn) last() *Attempt {
	if len(t.Attempts) == 0 {
		return nil
	}
	return &t.Attempts[len(t.Attempts)-1]
}

// attempt returns the attempt with the marker, or nil.
func (t *Turn) attempt(marker string) *Attempt {
	i := slices.IndexFunc(t.Attempts, func(a Attempt) bool { return a.Marker == marker })
	if i < 0 {
		return nil
	}
	return &t.Attempts[i]
}

// leftBy returns the attempt that left a credential, or nil.
func (t *Turn) leftBy(id string) *Attempt {
	i := slices.IndexFunc(t.Attempts, func(a Attempt) bool { return slices.Contains(a.IDs, id) })
	if i < 0 {
		return nil
	}
	return &t.Attempts[i]
}

// Touched reports whether a call of the rotation may have had an effect.
func (t *Turn) Touched() bool {
	return t.New != nil ||
		slices.ContainsFunc(t.Attempts, func(a Attempt) bool { return a.unresolved() || len(a.IDs) > 0 })
}

// unproven records why the rotation does not count as proven.
func (t *Turn) unproven(why string) {
	if !slices.Contains(t.Unproven, why) {
		t.Unproven = append(t.Unproven, why)
	}
}

// enter moves the rotation to a state and resets the count of failed calls.
func (t *Turn) enter(s State, now time.Time) {
	t.State, t.Tries, t.Streak = s, 0, 0
	if len(t.Stages) < maxStages {
		t.Stages = append(t.Stages, Stage{s, now})
	}
}

// State returns the state of the rotation in flight, or Scheduled.
func (r *Record) State() State {
	if r.Turn == nil {
		return Scheduled
	}
	return r.Turn.State
}

// Number returns the number of the rotation in flight, or of the last one.
func (r *Record) Number() uint32 {
	if r.Turn != nil {
		return r.Turn.N
	}
	return r.Turns
}

// An Alert names a cause and what to do. The alert stands until the cause is gone.
type Alert struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
	// Step is the state whose calls fail. The alert ends with the first call that succeeds. If
	// Step is empty, the alert stands until a rotation has published, or until the alert's own
	// check finds the cause gone.
	Step State `json:"step,omitempty"`
	// Place means that the alert is about what consumers read. The alert ends once they read the
	// right value.
	Place bool `json:"place,omitempty"`
	// About is what the place held when a Place alert was raised: "nothing", or a version. The
	// alert does not change while the place still holds that, because its text names who wrote
	// the place and how to undo the write.
	About string `json:"about,omitempty"`
	// Before is the alert that this one covers. The earlier alert stands again once this one
	// ends.
	Before *Alert `json:"before,omitempty"`
}

// HandWrites counts the writes of a place by hand that call the provider or are refused. Without
// the count, any client that may write the place could make this server try values at the provider
// as fast as the provider answers, with the server's address and admin credentials.
type HandWrites struct {
	// Free is when all calls that were made are paid for. Each call costs [handEvery].
	Free time.Time `json:"free"`
	// Refused counts the refused writes. By and Last describe the newest one.
	Refused int       `json:"refused,omitempty"`
	By      string    `json:"by,omitempty"`
	Last    time.Time `json:"last,omitzero"`
	// Journaled is when a count was last journaled. JournaledCount is that count.
	Journaled      time.Time `json:"told,omitzero"`
	JournaledCount int       `json:"told_of,omitempty"`
}

// nothingWrong is the result of a look that found nothing wrong. A commit that records
// nothingWrong has no journal row and no event.
const nothingWrong = "nothing-wrong"

// published reports whether the rotation in flight has published.
func (r *Record) published() bool { return r.Turn != nil && !r.Turn.Published().IsZero() }

// NextStep returns when the record is due for more than the daily look.
func (r *Record) NextStep() time.Time {
	if r.Turn == nil && r.Queued == nil && r.Look.Failed == 0 && r.Look.By == "" && !r.Look.At.IsZero() &&
		r.Due.Sub(r.Look.At).Abs() < time.Second {
		return later(r.Next, r.Retry)
	}
	return r.Due
}
