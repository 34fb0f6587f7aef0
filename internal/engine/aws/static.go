package aws

import (
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// Keys of static roles, below the mount. [rotate] writes all but the last:
//
//	static/<name>             a static role
//	ss/<name>                 its secrets
//	sh/<name>/<number>        a rotation of it that has ended
//	sj/<name>/<commit>        its journal
//	owned/<account>/<user>    the static role that rotates the user's keys
//
// Invariants, in addition to those of [rotate]:
//   - A key that is older than the role, and whose secret was not written, is never published. It
//     has a grace period like a replaced key, and is retired once it is unused.
//   - The published key is never deleted, nor a key of another owner that no request names.
//   - Only one role rotates a user's keys.
const (
	staticPrefix = "static/"
	ownedPrefix  = "owned/"
)

// staticKind is the kind of the records and the due items of static roles.
const staticKind = "static"

// staticData is the configuration of a static role, which rotates the access key of an existing
// user.
type staticData struct {
	User        string         `json:"user"`
	Account     string         `json:"account"`
	AssumedRole assumedRoleRef `json:"as,omitzero"`
	When        cron.When      `json:"when"`
	Grace       time.Duration  `json:"grace,omitempty"`    // 0 means the default, also in the next two
	Idle        time.Duration  `json:"idle,omitempty"`     // how long the previous key must be unused before it is retired
	Inactive    time.Duration  `json:"inactive,omitempty"` // how long the previous key is inactive before it is deleted
	Propagation propagation    `json:"settle,omitzero"`
}

// An assumedRoleRef is the role that is assumed to reach another account.
type assumedRoleRef struct {
	ARN        string `json:"arn,omitempty"`
	Session    string `json:"session,omitempty"`
	ExternalID string `json:"external,omitempty"`
}

// staticDataOf returns the configuration of a record.
func staticDataOf(r *rotate.Record) (s staticData) {
	_ = json.Unmarshal(r.Data, &s) // this server has encoded it, or has read it before
	return s
}

// store writes the configuration into a record.
func (s *staticData) store(r *rotate.Record) error {
	b, err := json.Marshal(s)
	r.Data = b
	return fault.Wrap("aws.static", fault.Internal, err)
}

func (s *staticData) ownerKey() string { return ownedPrefix + s.Account + "/" + s.User }

// staticTiming is when a role's key is rotated. A previous key that is still used after its grace
// period causes an alert after as much time again: with the default grace period, the next
// rotation is due then, and must wait for that key.
func staticTiming(r *rotate.Record) rotate.Timing {
	s, now := staticDataOf(r), time.Now()
	adopted := r.Turn != nil && r.Turn.Old != nil && r.Turn.Old.Adopted
	grace := s.gracePeriod(now)
	return rotate.Timing{When: s.When, Grace: grace, Idle: s.idlePeriod(now, adopted),
		DisabledWait: s.inactivePeriod(now), MaxHold: grace}
}

// gracePeriod is how long the previous key stays valid: as configured, or else half of the
// shortest time between two rotations, at most a day.
func (s *staticData) gracePeriod(now time.Time) time.Duration {
	if s.Grace > 0 {
		return s.Grace
	}
	if short := s.When.Shortest(now); short > 0 {
		return min(short/2, longestGrace)
	}
	return longestGrace
}

// idlePeriod is how long the previous key must be unused before it is retired. A key that is
// older than the role may be of an application that runs once a day.
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

// inactivePeriod is how long the previous key stays inactive, and can be set active again, before
// it is deleted.
func (s *staticData) inactivePeriod(now time.Time) time.Duration {
	if s.Inactive > 0 {
		return s.Inactive
	}
	return min(s.gracePeriod(now)/2, longestRest)
}

// readWithin is the longest time until clients should read again: early enough in the grace
// period of an unscheduled rotation.
func (s *staticData) readWithin(now time.Time) time.Duration {
	return max(min(s.gracePeriod(now)/4, longestRead), time.Second)
}
