package aws

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
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
type static struct {
	User     string        `json:"user"`
	Account  string        `json:"account"`
	As       assumption    `json:"as,omitzero"`
	When     cron.When     `json:"when"`
	Grace    time.Duration `json:"grace,omitempty"`    // these three: 0 means by default
	Idle     time.Duration `json:"idle,omitempty"`     // how long the key before must be unused
	Inactive time.Duration `json:"inactive,omitempty"` // how long it is inactive before it is deleted
	Settle   settle        `json:"settle,omitzero"`
}

// An assumption is the role that is assumed to reach another account.
type assumption struct {
	ARN        string `json:"arn,omitempty"`
	Session    string `json:"session,omitempty"`
	ExternalID string `json:"external,omitempty"`
}

// statics are the routes of static roles.
type statics struct{ *backend }

// staticOf is what is configured of a record.
func staticOf(r *rotate.Record) (s static) {
	_ = json.Unmarshal(r.Data, &s) // this version has written it, or has read it before
	return s
}

// keep puts what is configured into a record.
func (s *static) keep(r *rotate.Record) error {
	b, err := json.Marshal(s)
	r.Data = b
	return fault.Wrap("aws.static", fault.Internal, err)
}

// kind is what [rotate] is told of static roles.
func (b statics) kind() rotate.Kind {
	return rotate.Kind{
		Name: staticKind, Noun: "static role", Style: rotate.TwoKey, Eager: true,
		Records: staticPrefix, Secrets: "ss/", History: "sh/", Journal: "sj/",
		Path: func(name string) string { return "static-roles/" + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"role": r.Name, "username": staticOf(r).User, "path": b.m.Settings().Path + "static-roles/" + r.Name}
		},
		Timing: staticTiming,
		Open:   b.open,
		Adopt:  adoptStatic,
		Forget: func(r *rotate.Record) []storage.Op {
			s := staticOf(r)
			return []storage.Op{storage.Remove(s.owned())}
		},
	}
}

// open readies the keys of a role's user.
func (b statics) open(_ context.Context, r *rotate.Record, sec *rotate.Secrets, _ *secret.Redactor) (rotate.Target, error) {
	s := staticOf(r)
	return &staticTarget{record: r, secrets: sec, target: target{
		b: b.backend, settle: s.Settle,
		reach: func(ctx context.Context) (*client.Client, string, func(), error) {
			c, done, err := b.client(ctx, &s)
			return c, s.User, done, err
		},
		full: func(user string, keys []client.Key) error {
			k := keys[0]
			if k.ID == r.Current.Key() {
				k = keys[len(keys)-1]
			}
			return fault.New("aws.rotate", fault.Invalid, "user %s has another access key, %s, that this role has not made, and AWS allows two; delete it in AWS, or write rotate-role with replace_key=%s", user, k.ID, k.ID)
		},
	}}, nil
}

// A staticTarget is the keys of a role's user. A key that is replaced is inactive for a while before it is deleted.
type staticTarget struct {
	target
	record  *rotate.Record
	secrets *rotate.Secrets
}

// Capabilities implements [rotate.Target].
func (t *staticTarget) Capabilities() rotate.Capabilities {
	can := capabilities()
	can.Disable, can.ListsDisabled = true, true
	return can
}

// Disable implements [rotate.Disabler].
func (t *staticTarget) Disable(ctx context.Context, id string) error {
	return t.call(ctx, true, func(c *client.Client, user string) error {
		err := c.SetActive(ctx, user, id, false)
		if client.CodeOf(err) == "NoSuchEntity" {
			return nil
		}
		return err
	})
}

// Retire implements [rotate.Creator]. A key that is inactive is deleted once AWS refuses it: until then, its deletion might not
// be noticed everywhere, and it could not be undone any more.
func (t *staticTarget) Retire(ctx context.Context, id string) error {
	if turn := t.record.Turn; turn != nil && !turn.End.Disabled.IsZero() && !turn.End.Now {
		if old, known := t.secrets.Keys[id]; known {
			if err := t.VerifyDead(ctx, old); err != nil {
				return err
			}
		}
	}
	return t.delete(ctx, id)
}

// client is one for the account of the role's user.
func (b statics) client(ctx context.Context, s *static) (*client.Client, func(), error) {
	c, _, err := b.aws(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.As.ARN == "" {
		return c, func() {}, b.home(ctx, c, "user "+s.User, s.Account)
	}
	r := client.SessionRequest{RoleARN: s.As.ARN, Name: s.As.Session, ExternalID: s.As.ExternalID, TTL: shortestSession}
	if r.Name == "" {
		r.Name = "keyturn"
	}
	session, err := c.AssumeRole(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	its, err := c.As(ctx, session.ID, session.Secret, session.Token)
	if err != nil {
		return nil, nil, err
	}
	return its, its.Close, nil
}

func (s *static) owned() string { return ownedPrefix + s.Account + "/" + s.User }

// Bounds of what a role does not say.
const (
	minPeriod    = time.Minute
	longestGrace = 24 * time.Hour
	longestRest  = time.Hour
	longestRead  = 5 * time.Minute
)

// staticTiming is when a role's key is rotated. A key that is used after its grace is an alert once it was held for as long again:
// with the default grace, that is when the next rotation is due, which must wait for it.
func staticTiming(r *rotate.Record) rotate.Timing {
	s, now := staticOf(r), time.Now()
	adopted := r.Turn != nil && r.Turn.Old != nil && r.Turn.Old.Adopted
	grace := s.grace(now)
	return rotate.Timing{When: s.When, Grace: grace, Idle: s.idle(now, adopted), Rest: s.rest(now), MaxHold: grace}
}

// grace is how long the key before lives on: what the role says, or half of the shortest time between two
// rotations, and a day at most.
func (s *static) grace(now time.Time) time.Duration {
	if s.Grace > 0 {
		return s.Grace
	}
	if short := s.When.Shortest(now); short > 0 {
		return min(short/2, longestGrace)
	}
	return longestGrace
}

// idle is how long the key before must be unused to be retired. One that was there before the role
// may belong to what runs once a day.
func (s *static) idle(now time.Time, adopted bool) time.Duration {
	switch idle := s.grace(now) / 2; {
	case s.Idle > 0:
		return s.Idle
	case adopted:
		return max(idle, unusedFor)
	default:
		return idle
	}
}

// rest is how long the key before stays inactive, so that it can be set active again, until
// it is deleted.
func (s *static) rest(now time.Time) time.Duration {
	if s.Inactive > 0 {
		return s.Inactive
	}
	return min(s.grace(now)/2, longestRest)
}

// readWithin is after how long readers are to read again at the latest: early enough in the grace
// of a rotation that nobody had planned.
func (s *static) readWithin(now time.Time) time.Duration {
	return max(min(s.grace(now)/4, longestRead), time.Second)
}
