package aws

import (
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// Keys of static roles, below the mount. [rotate] keeps all but the last:
//
//	static/<name>             a static role
//	ss/<name>                 its secrets
//	sh/<name>/<number>        a rotation of it that has ended
//	sj/<name>/<commit>        its journal
//	owned/<account>/<user>    the static role that rotates the user's keys
//
// Invariants, beside those of [rotate]:
//   - A key that was there before the role, and whose secret nobody has given, is given out to nobody. It has its grace
//     like one that was rotated, and is retired once it is unused.
//   - The key that is given out is never deleted, nor one that somebody else has made and nobody named.
//   - One role alone rotates a user's keys.
const (
	staticPrefix = "static/"
	ownedPrefix  = "owned/"
)

// staticKind is the kind of the records and the due items of static roles.
const staticKind = "static"

// A static role is a user that people made, whose access key is rotated: what is configured of it.
type staticData struct {
	User        string         `json:"user"`
	Account     string         `json:"account"`
	AssumedRole assumedRoleRef `json:"as,omitzero"`
	When        cron.When      `json:"when"`
	Grace       time.Duration  `json:"grace,omitempty"`    // these three: 0 means by default
	Idle        time.Duration  `json:"idle,omitempty"`     // how long the key before must be unused
	Inactive    time.Duration  `json:"inactive,omitempty"` // how long it is inactive before it is deleted
	Propagation propagation    `json:"settle,omitzero"`
}

// An assumption is the role that is assumed to reach another account.
type assumedRoleRef struct {
	ARN        string `json:"arn,omitempty"`
	Session    string `json:"session,omitempty"`
	ExternalID string `json:"external,omitempty"`
}

// staticDataOf is what is configured of a record.
func staticDataOf(r *rotate.Record) (s staticData) {
	_ = json.Unmarshal(r.Data, &s) // this version has written it, or has read it before
	return s
}

// store puts what is configured into a record.
func (s *staticData) store(r *rotate.Record) error {
	b, err := json.Marshal(s)
	r.Data = b
	return fault.Wrap("aws.static", fault.Internal, err)
}

func (s *staticData) ownerKey() string { return ownedPrefix + s.Account + "/" + s.User }

// staticTiming is when a role's key is rotated. A key that is used after its grace is an alert once it was held for as long again:
// with the default grace, that is when the next rotation is due, which must wait for it.
func staticTiming(r *rotate.Record) rotate.Timing {
	s, now := staticDataOf(r), time.Now()
	adopted := r.Turn != nil && r.Turn.Old != nil && r.Turn.Old.Adopted
	grace := s.gracePeriod(now)
	return rotate.Timing{When: s.When, Grace: grace, Idle: s.idlePeriod(now, adopted), Rest: s.inactivePeriod(now), MaxHold: grace}
}

// gracePeriod is how long the key before lives on: what the role says, or half of the shortest time between two
// rotations, and a day at most.
func (s *staticData) gracePeriod(now time.Time) time.Duration {
	if s.Grace > 0 {
		return s.Grace
	}
	if short := s.When.Shortest(now); short > 0 {
		return min(short/2, longestGrace)
	}
	return longestGrace
}

// idlePeriod is how long the key before must be unused to be retired. One that was there before the role
// may belong to what runs once a day.
func (s *staticData) idlePeriod(now time.Time, adopted bool) time.Duration {
	switch idle := s.gracePeriod(now) / 2; {
	case s.Idle > 0:
		return s.Idle
	case adopted:
		return max(idle, unusedFor)
	default:
		return idle
	}
}

// inactivePeriod is how long the key before stays inactive, so that it can be set active again, until
// it is deleted.
func (s *staticData) inactivePeriod(now time.Time) time.Duration {
	if s.Inactive > 0 {
		return s.Inactive
	}
	return min(s.gracePeriod(now)/2, longestRest)
}

// readWithin is after how long readers are to read again at the latest: early enough in the grace
// of a rotation that nobody had planned.
func (s *staticData) readWithin(now time.Time) time.Duration {
	return max(min(s.gracePeriod(now)/4, longestRead), time.Second)
}
