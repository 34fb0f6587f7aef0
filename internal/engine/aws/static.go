package aws

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys of static roles, below the mount:
//
//	static/<name>          a static role, its current secret key and all
//	owned/<account>/<user>  the static role that turns the user's keys
//
// Invariants:
//   - A new key is in the store before it is given out, and works by then.
//   - The key before it is deleted after its grace, once AWS has told of no use since, and only
//     after it was inactive for a while. Nothing else deletes a key that was not made here.
//   - A key whose secret nobody knows – its creation's answer was lost – is deleted.
//   - One role alone turns a user's keys.
const (
	staticPrefix = "static/"
	ownedPrefix  = "owned/"
)

const (
	leastPeriod = time.Minute
	mostGrace   = 48 * time.Hour // by default
	idleFor     = time.Hour      // no use for so long means that a key is out of use
	lookAgain   = time.Hour      // at a key that is held because it is used
)

// A static role is a user that was there before, whose access key changes.
type static struct {
	User     string        `json:"user"`
	Account  string        `json:"account"`
	Via      via           `json:"via,omitzero"`
	When     cron.When     `json:"when"`
	Grace    time.Duration `json:"grace"`
	Inactive time.Duration `json:"inactive"` // how long a key is inactive before it is deleted
	Settle   settle        `json:"settle,omitzero"`

	KeyID  string    `json:"key,omitempty"` // current
	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"` // zero: by request alone
	Due    time.Time `json:"due,omitzero"`  // where the due item is
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`
	Retry  time.Time `json:"retry,omitzero"`
	Turn   *keyTurn  `json:"turn,omitempty"`
	Old    *oldKey   `json:"old,omitempty"`

	Secret secret.Value `json:"-"` // of KeyID
	stored storage.Version
}

// via is the role by which a user of another account is managed.
type via struct {
	ARN      string `json:"arn,omitempty"`
	Session  string `json:"session,omitempty"`
	External string `json:"external,omitempty"`
}

// A keyTurn is a new key that is being made.
type keyTurn struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Before []string  `json:"before"` // ids of the user's keys before
	Made   string    `json:"made,omitempty"`

	Secret secret.Value `json:"-"` // of Made
}

// An oldKey lives on until nobody uses it.
type oldKey struct {
	ID       string    `json:"id"`
	Since    time.Time `json:"since"` // when another took its place
	After    time.Time `json:"after"` // not retired before
	Used     time.Time `json:"used,omitzero"`
	Inactive time.Time `json:"inactive,omitzero"` // since when
}

// storedStatic is what the barrier encrypts.
type storedStatic struct {
	*static
	Secret []byte `json:"secret,omitempty"`
	Made   []byte `json:"made_secret,omitempty"`
}

func (s *static) put(name string) (storage.Op, error) {
	st := storedStatic{static: s, Secret: s.Secret.Reveal()}
	if s.Turn != nil {
		st.Made = s.Turn.Secret.Reveal()
	}
	b, err := json.Marshal(st)
	return storage.Set(staticPrefix+name, b).If(s.stored), fault.Wrap("aws.static", fault.Internal, err)
}

// static finds a static role; nil for none.
func (b statics) static(ctx context.Context, name string) (*static, error) {
	e, err := b.m.Store.Get(ctx, staticPrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	st := storedStatic{static: &static{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &st); err != nil {
		return nil, fault.Wrap("aws.static", fault.Internal, err)
	}
	st.static.Secret = secret.New(st.Secret)
	if st.Turn != nil {
		st.Turn.Secret = secret.New(st.Made)
	}
	return st.static, nil
}

// due is when there is something to do next; zero for never.
func (s *static) due() time.Time {
	at := s.Next
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if o := s.Old; o != nil {
		if o.Inactive.IsZero() {
			earlier(o.After)
		} else {
			earlier(o.Inactive.Add(s.Inactive))
		}
	}
	if s.Turn != nil {
		earlier(s.Turn.At.Add(resumeAfter))
	}
	if !s.Retry.IsZero() && (at.IsZero() || at.Before(s.Retry)) {
		return s.Retry // what fails waits
	}
	return at
}

// save commits a role, with its due item where it belongs, and more.
func (b statics) save(ctx context.Context, name string, s *static, ops, abs []storage.Op) error {
	from := s.Due
	s.Due = tick(from, s.due())
	op, err := s.put(name)
	if err != nil {
		return err
	}
	s.stored, err = b.m.Store.CommitWith(ctx, append(ops, op), append(abs, b.m.Host.Schedule(staticKind, name, from, s.Due)...))
	return err
}

// statics are the routes and the work of static roles.
type statics struct{ *backend }

// staticIn is a static role as it is written. What is nil was not given.
type staticIn struct {
	Name     string         `path:"name" doc:"The static role's name."`
	User     *string        `json:"username" doc:"The IAM user whose access keys are turned. It must be there already, and cannot be changed."`
	ARN      *string        `json:"assume_role_arn" default:"none" doc:"The role by which a user of another account is managed."`
	Session  *string        `json:"assume_role_session_name" default:"keyturn" doc:"That session's name, as AWS logs it."`
	External *string        `json:"external_id" default:"none" doc:"What that role wants to be told by who assumes it."`
	Period   *time.Duration `json:"rotation_period" doc:"How often the key changes. Excludes rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" doc:"When the key changes: cron, five fields, UTC. Excludes rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after the schedule's time a change may begin, 1h or more."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the key changes by rotate-role alone."`
	Grace    *time.Duration `json:"grace_period" default:"48h, at most half of the period" doc:"How long the key before lives on at least."`
	Inactive *time.Duration `json:"inactive_period" default:"1h, at most grace_period" doc:"How long the key before is inactive, and can be made active again, before it is deleted."`
	KeyID    *string        `json:"access_key" doc:"A key of the user's that is given out until the first change, with secret_key; without it, a new one is made at once."`
	Secret   *secret.Value  `json:"secret_key" doc:"The secret key that belongs to access_key."`
	Checks   *int           `json:"propagation_checks" default:"as in config/root" doc:"How many calls in a row a new access key must be let in before it is given out."`
	Pause    *time.Duration `json:"propagation_settle" default:"as in config/root" doc:"The wait after these calls."`
}

func (b statics) write(ctx context.Context, r *route.Request, in staticIn) (route.None, error) {
	if !objectForm.MatchString(in.Name) {
		return route.None{}, invalid("the static role's name %q is refused; give 1 to 128 of A-Z a-z 0-9 _ . @ + = , -, beginning with a letter, a digit or _", clip(in.Name))
	}
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if s == nil {
		return route.None{}, b.adopt(ctx, r, &in)
	}
	was := *s
	in.apply(s)
	switch {
	case was.User != s.User || was.Via.ARN != s.Via.ARN:
		return route.None{}, invalid("fields \"username\" and \"assume_role_arn\" of a static role cannot change; it is of %s in account %s; delete it and write another one", was.User, was.Account)
	case in.KeyID != nil && *in.KeyID != "" && *in.KeyID != s.KeyID:
		return route.None{}, invalid("field \"access_key\": the role has the key %s already; change it by rotate-role/%s", s.KeyID, in.Name)
	}
	if err := s.check(); err != nil {
		return route.None{}, err
	}
	if was.When != s.When {
		s.Next = s.When.Next(s.Last, time.Now().UTC())
	}
	if s.Old != nil && was.Grace != s.Grace {
		s.Old.After = s.Old.Since.Add(s.Grace)
	}
	return route.None{}, b.save(ctx, in.Name, s, nil, nil)
}

func (in *staticIn) apply(s *static) {
	set(&s.User, in.User)
	set(&s.Via.ARN, in.ARN)
	set(&s.Via.Session, in.Session)
	set(&s.Via.External, in.External)
	set(&s.When.Period, in.Period)
	set(&s.When.Schedule, in.Schedule)
	set(&s.When.Window, in.Window)
	set(&s.When.Off, in.Off)
	s.defaults()
	if in.Grace != nil && *in.Grace != 0 {
		s.Grace = *in.Grace
	}
	if in.Inactive != nil && *in.Inactive != 0 {
		s.Inactive = *in.Inactive
	}
	if in.Checks != nil {
		s.Settle.Checks = in.Checks
	}
	if in.Pause != nil {
		s.Settle.Pause = in.Pause
	}
}

// defaults fills in what was never said.
func (s *static) defaults() {
	if s.Grace == 0 {
		if s.Grace = mostGrace; s.When.Period > 0 {
			s.Grace = min(s.Grace, s.When.Period/2)
		}
	}
	if s.Inactive == 0 {
		s.Inactive = min(time.Hour, s.Grace)
	}
}

func (s *static) check() error {
	switch {
	case s.User == "" || !nameForm.MatchString(s.User) && len(s.User) != 1:
		return invalid("field \"username\" is required; give the name of an IAM user that is there, without its path")
	case !s.When.Off && s.When.Never():
		return invalid("one of the fields \"rotation_period\" and \"rotation_schedule\" is required; for rotation by request alone, set disable_automated_rotation=true")
	case s.Grace < 0 || s.When.Period > 0 && s.Grace >= s.When.Period:
		return invalid("field \"grace_period\": %s must be less than rotation_period %s, since AWS allows two keys; lower it", s.Grace, s.When.Period)
	case s.Inactive < 0 || s.When.Period > 0 && s.Grace+s.Inactive >= s.When.Period:
		return invalid("field \"inactive_period\": %s and grace_period %s must together be less than rotation_period %s; lower one", s.Inactive, s.Grace, s.When.Period)
	case s.Via.ARN != "" && !strings.Contains(s.Via.ARN, ":role/"):
		return invalid("field \"assume_role_arn\": %q is no role's ARN; it looks like arn:aws:iam::123456789012:role/Name", clip(s.Via.ARN))
	case s.Via.ARN == "" && s.Via.External != "":
		return invalid("field \"external_id\" needs assume_role_arn; give both or none")
	}
	if err := s.When.Check(leastPeriod); err != nil {
		return err
	}
	return s.Settle.check()
}

// adopt takes a user under rotation. A key that the user has is never destroyed: one becomes the
// old key, which lives while it is used; with two there is no room, and the writer decides.
func (b statics) adopt(ctx context.Context, r *route.Request, in *staticIn) error {
	s := new(static)
	in.apply(s)
	if err := s.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
	defer cancel()
	c, done, err := b.manager(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return mine("aws.static", err)
	}
	s.Account = who.Account
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return mine("aws.static", err)
	}
	if strings.HasSuffix(who.ARN, "/"+s.User) && s.Via.ARN == "" {
		return invalid("field \"username\": %s is the user of config/root; rotate its key by config/rotate-root", s.User)
	}
	if err := b.unowned(ctx, s); err != nil {
		return err
	}
	now := time.Now().UTC()
	s.Next = s.When.Next(time.Time{}, now)
	ops := []storage.Op{storage.Set(ownedKey(s), []byte(in.Name)).If(0)}
	if in.KeyID != nil && *in.KeyID != "" {
		if err := b.given(ctx, r, c, s, in, keys); err != nil {
			return err
		}
		return b.save(ctx, in.Name, s, ops, nil)
	}
	if in.Secret != nil && !in.Secret.Empty() {
		return invalid("field \"access_key\" is empty and secret_key is not; give both, or neither to have a new key made")
	}
	if len(keys) >= 2 {
		return invalid("user %s has two keys already, %s and %s, and AWS allows no third; delete one that is out of use, or give the pair that is to be given out as access_key and secret_key", s.User, keys[0].ID, keys[1].ID)
	}
	b.begin(s, keys, "import", now)
	if err := b.save(ctx, in.Name, s, ops, nil); err != nil {
		return err
	}
	err = b.make(ctx, c, in.Name, s)
	switch {
	case err == nil:
		return nil
	case client.Unchanged(err) && s.Turn.Made == "":
		if rerr := b.forget(ctx, in.Name, s); rerr != nil {
			return rerr
		}
		return err
	}
	r.Warn("whether the first new key was made is not known; it goes on until it is: %s", fault.Message(err))
	b.failed(ctx, in.Name, s, err)
	return nil
}

// given takes a key of the writer's, after a try.
func (b statics) given(ctx context.Context, r *route.Request, c *client.Client, s *static, in *staticIn, keys []client.Key) error {
	if in.Secret == nil || in.Secret.Empty() {
		return invalid("field \"secret_key\" is empty and access_key is not; give both, or neither to have a new key made")
	}
	its, err := c.As(ctx, *in.KeyID, *in.Secret, secret.Value{})
	if err != nil {
		return err
	}
	defer its.Close()
	who, err := its.WhoAmI(ctx)
	switch {
	case err != nil:
		return invalid("field \"secret_key\": AWS does not take the pair: %s", fault.Message(err))
	case !strings.HasSuffix(who.ARN, "/"+s.User) || who.Account != s.Account:
		return invalid("field \"access_key\": %s is of %s, and not of user %s of account %s; give a key of that user", *in.KeyID, who.ARN, s.User, s.Account)
	}
	for _, k := range keys {
		if k.ID != *in.KeyID {
			r.Warn("user %s has a second key, %s: the first change cannot begin before it is deleted, since AWS allows two", s.User, k.ID)
		}
	}
	s.KeyID, s.Secret = *in.KeyID, *in.Secret
	return nil
}

func ownedKey(s *static) string { return ownedPrefix + s.Account + "/" + s.User }

func (b statics) unowned(ctx context.Context, s *static) error {
	e, err := b.m.Store.Get(ctx, ownedKey(s))
	if err != nil {
		return err
	}
	if e.Version != 0 {
		return invalid("field \"username\": the keys of %s are turned by the static role %q already; two would take each other's place", s.User, e.Value)
	}
	return nil
}

// manager is the client that may change a role's keys.
func (b statics) manager(ctx context.Context, s *static) (*client.Client, func(), error) {
	c, cfg, err := b.aws(ctx)
	if err != nil || s.Via.ARN == "" {
		return c, func() {}, err
	}
	name := s.Via.Session
	if name == "" {
		name = "keyturn"
	}
	got, err := c.AssumeRole(ctx, client.SessionRequest{Name: name, RoleARN: s.Via.ARN, ExternalID: s.Via.External, TTL: shortestSession})
	if err != nil {
		return nil, nil, mine("aws.static", err)
	}
	conf := cfg.client(b.m)
	conf.KeyID, conf.Secret, conf.Session = got.ID, got.Secret, got.Token
	its, err := client.New(ctx, conf)
	if err != nil {
		return nil, nil, err
	}
	return its, its.Close, nil
}

// staticOut is a static role as it is shown.
type staticOut struct {
	Name     string        `json:"name"`
	User     string        `json:"username"`
	Account  string        `json:"account_id"`
	ARN      string        `json:"assume_role_arn,omitempty"`
	Session  string        `json:"assume_role_session_name,omitempty"`
	External string        `json:"external_id,omitempty"`
	Off      bool          `json:"disable_automated_rotation,omitempty"`
	Grace    time.Duration `json:"grace_period"`
	Inactive time.Duration `json:"inactive_period"`
	KeyID    string        `json:"access_key,omitempty"`
	OldID    string        `json:"previous_access_key,omitempty"`
	After    time.Time     `json:"retire_after,omitempty"`
	Used     time.Time     `json:"previous_last_used,omitempty"`
	Dead     time.Time     `json:"inactive_since,omitempty"`
	Last     time.Time     `json:"last_vault_rotation,omitempty"`
	Next     time.Time     `json:"next_rotation,omitempty"`
	Failures int           `json:"failures,omitempty"`
	LastFail string        `json:"last_error,omitempty"`

	timing
}

// timing is how roles and their credentials show when they are rotated.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func show(w cron.When) timing { return timing{w.Period, w.Schedule, w.Window} }

func (b statics) read(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	s, err := b.static(ctx, in.Name)
	if err != nil || s == nil {
		return nil, err
	}
	out := &staticOut{
		Name: in.Name, User: s.User, Account: s.Account, ARN: s.Via.ARN, Session: s.Via.Session, External: s.Via.External, Off: s.When.Off,
		Grace: s.Grace, Inactive: s.Inactive, KeyID: s.KeyID, Last: s.Last, Next: s.Next, Failures: s.Failed, LastFail: s.Why, timing: show(s.When),
	}
	if o := s.Old; o != nil {
		out.OldID, out.After, out.Used, out.Dead = o.ID, o.After, o.Used, o.Inactive
		if !o.Used.IsZero() && o.Used.After(o.Since) {
			r.Warn("the key before, %s, was used at %s and is kept while it is; find who still has it", o.ID, o.Used.Format(time.RFC3339))
		}
	}
	if s.Failed > 0 {
		r.Warn("the last %d tries have failed, and it is tried again at %s: %s", s.Failed, s.Due.Format(time.RFC3339), s.Why)
	}
	return out, nil
}

func (b statics) exists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, staticPrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b statics) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := b.names(ctx, staticPrefix)
	return route.Keys{Keys: names}, err
}

// drop forgets a role. Its user keeps the keys that it has.
func (b statics) drop(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err != nil || s == nil {
		return route.None{}, err
	}
	if s.Turn != nil {
		r.Warn("a new key of user %s was being made; look for keys of it that nobody knows, and delete them", s.User)
	}
	if s.Old != nil {
		r.Warn("the key before, %s, stays; delete it when it is out of use", s.Old.ID)
	}
	return route.None{}, b.forget(ctx, in.Name, s)
}

func (b statics) forget(ctx context.Context, name string, s *static) error {
	_, err := b.m.Store.CommitWith(ctx, []storage.Op{storage.Remove(staticPrefix + name).If(s.stored), storage.Remove(ownedKey(s))},
		b.m.Host.Schedule(staticKind, name, s.Due, time.Time{}))
	return err
}

// staticCredsOut is what the readers of a static role are given.
type staticCredsOut struct {
	KeyID      string        `json:"access_key"`
	Secret     secret.Value  `json:"secret_key"`
	Last       time.Time     `json:"last_vault_rotation,omitempty"`
	Expiration time.Time     `json:"expiration,omitempty"`
	TTL        time.Duration `json:"ttl"`

	timing
}

func (b statics) creds(ctx context.Context, _ *route.Request, in nameIn) (*staticCredsOut, error) {
	s, err := b.static(ctx, in.Name)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return nil, fault.New("aws.static", fault.Invalid, "unknown static role: %s; list static-roles/", in.Name)
	case s.KeyID == "":
		return nil, fault.New("aws.static", fault.Unavailable, "the first key of %s is still being made; try again in a minute", s.User)
	}
	out := &staticCredsOut{KeyID: s.KeyID, Secret: s.Secret, Last: s.Last, timing: show(s.When)}
	if s.Next.IsZero() {
		return out, nil
	}
	// Clients that know how sleep for ttl, if rotation_period comes with it and ttl is not zero.
	now := time.Now()
	left := s.Next.Sub(now)
	if left <= 0 {
		left = min(s.Due.Sub(now), time.Minute)
	}
	out.TTL, out.Expiration = max(left.Round(time.Second), time.Second), s.Next
	if s.When.Schedule != "" {
		if out.Period = out.TTL; !s.Last.IsZero() {
			out.Period = max(s.Next.Sub(s.Last).Round(time.Second), time.Second)
		}
	}
	return out, nil
}
