package aws

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys of static roles, below the mount:
//
//	static/<name>             a static role, its keys and all
//	owned/<account>/<user>    the static role that rotates the user's keys
//
// Invariants:
//   - That a key is about to be made is durable before AWS hears of it, and its secret before
//     it is tried. A key whose secret was lost is deleted, once it is certain which it is.
//   - A key is given out once it works. The one before it is set inactive after its grace, if it
//     is unused by then, and deleted once AWS refuses it.
//   - The key that is given out is never deleted, nor one that somebody else has made and nobody named.
//   - One role alone rotates a user's keys.
const (
	staticPrefix = "static/"
	ownedPrefix  = "owned/"
)

// staticKind is the due work of a static role: a step of a rotation, or of a retirement.
const staticKind = "static"

// A static role is a user that people made, whose access key changes.
type static struct {
	User     string        `json:"user"`
	Account  string        `json:"account"`
	As       assumption    `json:"as,omitzero"`
	When     cron.When     `json:"when"`
	Grace    time.Duration `json:"grace,omitempty"`    // these three: 0 means by default
	Idle     time.Duration `json:"idle,omitempty"`     // how long the key before must be unused
	Inactive time.Duration `json:"inactive,omitempty"` // how long it is inactive before it is deleted
	Settle   settle        `json:"settle,omitzero"`

	Current string    `json:"current,omitempty"` // the id of the key that is given out
	Adopted bool      `json:"adopted,omitempty"` // it was there before the role
	Old     *oldKey   `json:"old,omitempty"`
	Turn    *keyTurn  `json:"turn,omitempty"` // under way
	Dropped dropped   `json:"dropped,omitempty"`
	Last    time.Time `json:"last,omitzero"`
	Next    time.Time `json:"next,omitzero"` // zero: by request alone
	Due     time.Time `json:"due,omitzero"`  // where the due item is
	Failed  int       `json:"failed,omitempty"`
	Why     string    `json:"why,omitempty"`  // the last try failed, or what is waited for
	Gone    bool      `json:"gone,omitempty"` // deleted, but for what is under way

	Secret    secret.Value `json:"-"` // of Current
	OldSecret secret.Value `json:"-"` // of Old; empty: the key is not of our making
	NewSecret secret.Value `json:"-"` // of Turn.New

	stored storage.Version
}

// An assumption is the role that is assumed to reach another account.
type assumption struct {
	ARN        string `json:"arn,omitempty"`
	Session    string `json:"session,omitempty"`
	ExternalID string `json:"external,omitempty"`
}

// A keyTurn is one rotation, from before AWS hears of it.
type keyTurn struct {
	By     string    `json:"by"` // "schedule", "request" or "import"
	At     time.Time `json:"at"`
	Before []string  `json:"before,omitempty"` // ids of the user's keys before a new one is made
	New    string    `json:"new,omitempty"`    // once it was made
}

// An oldKey is the key before, until it is deleted.
type oldKey struct {
	ID       string    `json:"id"`
	Since    time.Time `json:"since"` // replaced
	At       time.Time `json:"at"`    // looked at next
	Used     time.Time `json:"used,omitzero"`
	Inactive time.Time `json:"inactive,omitzero"` // since when
	Revived  time.Time `json:"revived,omitzero"`  // set active again by somebody else
	Told     bool      `json:"told,omitempty"`    // that it is kept because it is used
	Adopted  bool      `json:"adopted,omitempty"` // it was there before the role, which gave it out
}

// needed is when somebody showed last that the key is needed.
func (o *oldKey) needed() time.Time {
	if o.Revived.After(o.Used) {
		return o.Revived
	}
	return o.Used
}

// dropped are ids of keys that were deleted last: AWS lists them for a while.
type dropped []string

func (d *dropped) add(id string) {
	*d = append(*d, id)
	*d = (*d)[max(len(*d)-4, 0):]
}

// rest are keys that were not deleted.
func (d dropped) rest(keys []client.Key) []client.Key {
	return slices.DeleteFunc(keys, func(k client.Key) bool { return slices.Contains(d, k.ID) })
}

// storedStatic is what the barrier encrypts.
type storedStatic struct {
	*static
	Secret []byte `json:"secret,omitempty"`
	Older  []byte `json:"older,omitempty"`
	Newer  []byte `json:"newer,omitempty"`
}

func (s *static) put(name string) (storage.Op, error) {
	b, err := json.Marshal(storedStatic{s, s.Secret.Reveal(), s.OldSecret.Reveal(), s.NewSecret.Reveal()})
	return storage.Set(staticPrefix+name, b).If(s.stored), fault.Wrap("aws.static", fault.Internal, err)
}

// statics are the routes and the work of static roles.
type statics struct{ *backend }

// static finds a static role, also one that is being wound up; nil for none.
func (b statics) static(ctx context.Context, name string) (*static, error) {
	e, err := b.m.Store.Get(ctx, staticPrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	st := storedStatic{static: &static{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &st); err != nil {
		return nil, fault.Wrap("aws.static", fault.Internal, err)
	}
	s := st.static
	s.Secret, s.OldSecret, s.NewSecret = secret.New(st.Secret), secret.New(st.Older), secret.New(st.Newer)
	return s, nil
}

// live is static for those who ask for the role.
func (b statics) live(ctx context.Context, name string) (*static, error) {
	s, err := b.static(ctx, name)
	if err == nil && (s == nil || s.Gone) {
		err = fault.New("aws.static", fault.Invalid, "unknown static role: %s; list static-roles/", name)
	}
	return s, err
}

// A commit is what joins another.
type commit struct{ ops, abs []storage.Op }

// save commits a static role with its due item at a time, and more.
func (b statics) save(ctx context.Context, name string, s *static, at time.Time, more commit) error {
	from := s.Due
	s.Due = tick(from, at)
	op, err := s.put(name)
	if err != nil {
		return err
	}
	s.stored, err = b.m.Store.CommitWith(ctx, append(more.ops, op), append(more.abs, b.m.Host.Schedule(staticKind, name, from, s.Due)...))
	return err
}

// remove forgets a role.
func (b statics) remove(ctx context.Context, name string, s *static) error {
	ops := []storage.Op{storage.Remove(staticPrefix + name).If(s.stored), storage.Remove(s.owned())}
	_, err := b.m.Store.CommitWith(ctx, ops, b.m.Host.Schedule(staticKind, name, s.Due, time.Time{}))
	return err
}

func (s *static) owned() string { return ownedPrefix + s.Account + "/" + s.User }

// event tells users what became of a role's keys.
func (b statics) event(kind, name string, s *static, more map[string]string) commit {
	data := map[string]string{"role": name, "username": s.User, "path": b.m.Settings().Path + "static-roles/" + name}
	for k, v := range more {
		data[k] = v
	}
	return commit{abs: []storage.Op{b.m.Host.Event(kind, engine.Details(data)...)}}
}

// later is when the role's next step is due, if nothing has failed.
func (s *static) later(now time.Time) time.Time {
	switch {
	case s.Turn != nil || s.Current == "" && !s.Gone:
		return now.Add(resumeAfter)
	case s.Old != nil:
		return s.Old.At // until it is gone, AWS takes no other
	case s.Gone:
		return now
	}
	return s.Next
}

// Bounds of what a role does not say.
const (
	minPeriod    = time.Minute
	longestGrace = 24 * time.Hour
	longestRest  = time.Hour
	longestRead  = 5 * time.Minute
)

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

// idle is how long the key before must be unused to be retired. One that somebody else has made
// may belong to what runs once a day.
func (s *static) idle(now time.Time) time.Duration {
	idle := s.Idle
	if idle == 0 {
		idle = s.grace(now) / 2
	}
	if s.Idle == 0 && (s.OldSecret.Empty() || s.Old != nil && s.Old.Adopted) {
		idle = max(idle, unusedFor)
	}
	return idle
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
