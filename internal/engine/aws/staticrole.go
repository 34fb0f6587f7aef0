package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// staticIn is a write of a static role. Nil fields were not sent.
type staticIn struct {
	Name     string         `path:"name" doc:"The static role's name."`
	User     *string        `json:"username" doc:"The IAM user whose access key is rotated. It must exist, and cannot be changed later."`
	Period   *time.Duration `json:"rotation_period" doc:"How often the key is rotated, at least one minute. Either this or rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" doc:"When the key is rotated: five fields of cron, in UTC."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after a time of rotation_schedule the rotation may still begin, at least one hour."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the key is rotated only by rotate-role."`
	Grace    *time.Duration `json:"grace_period" default:"half of the shortest time between two rotations, at most 24h" doc:"How long the previous key stays valid after a rotation."`
	Idle     *time.Duration `json:"idle_period" default:"half of grace_period; 24h for a key from before the role" doc:"How long the previous key must be unused, according to AWS, before it is set inactive."`
	Inactive *time.Duration `json:"inactive_period" default:"half of grace_period, at most 1h" doc:"How long the previous key stays inactive, and can be set active again, before it is deleted."`

	As          *string `json:"assume_role_arn" default:"none" doc:"The role that is assumed to reach the user's account, if that is a different account."`
	SessionName *string `json:"assume_role_session_name" default:"keyturn and the installation's id" doc:"The name of that role's session, as AWS logs it."`
	ExternalID  *string `json:"external_id" default:"none" doc:"The external ID that the role's trust policy requires."`

	Checks **int           `json:"propagation_checks" default:"that of config/root" doc:"How many calls in a row a new key must pass before it is published; 0 disables this."`
	Pause  **time.Duration `json:"propagation_settle" default:"that of config/root" doc:"How long to wait after these calls."`

	existingKeyIn
}

// existingKeyIn says what to do with the keys that a user has already.
type existingKeyIn struct {
	KeyID   *string       `json:"access_key" default:"a new key is created" doc:"An existing key of the user, which is returned until the first rotation. Only for a new role."`
	Secret  *secret.Value `json:"secret_key" doc:"The secret key that belongs to access_key."`
	Replace *string       `json:"replace_key" default:"none" doc:"A key of the user that is deleted at once to make room for a new one. Only for a new role."`
}

// staticRoutes are the routes below static-roles/, static-creds/ and rotate-role/.
type staticRoutes struct {
	m       *engine.Mount
	users   *staticUsers
	records *rotate.Manager
}

func (s *staticRoutes) write(ctx context.Context, r *route.Request, in staticIn) (route.None, error) {
	if !objectForm.MatchString(in.Name) {
		return route.None{}, invalid("the static role's name %q is refused: it must be 1 to 128 of A-Z a-z 0-9 _ . "+
			"@ + = , - and begin with a letter, a digit or _", clip(in.Name))
	}
	return route.None{}, s.records.Change(ctx, staticKind, in.Name, nil, func(e *rotate.Edit) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createWithin)
		defer cancel()
		switch {
		case e.Rec.Gone:
			return fault.New("aws.static", fault.Unavailable,
				"the static role %q was deleted, and its last rotation, for user %s, has "+
					"not ended yet; try again after %s",
				in.Name, staticDataOf(e.Rec).User, e.Rec.Due.Format(time.RFC3339))
		case e.New():
			return s.create(ctx, r, e, &in)
		}
		return s.update(ctx, e, &in)
	})
}

// apply changes a role by a write, and checks the result.
func (s *staticData) apply(in *staticIn) error {
	set(&s.User, in.User)
	s.When.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	set(&s.Grace, in.Grace)
	set(&s.Idle, in.Idle)
	set(&s.Inactive, in.Inactive)
	set(&s.AssumedRole.ARN, in.As)
	set(&s.AssumedRole.Session, in.SessionName)
	set(&s.AssumedRole.ExternalID, in.ExternalID)
	set(&s.Propagation.Checks, in.Checks)
	set(&s.Propagation.Pause, in.Pause)
	return s.check()
}

// check refuses contradictions.
func (s *staticData) check() error {
	if err := s.When.Check(minPeriod); err != nil {
		return err
	}
	short := s.When.Shortest(time.Now())
	switch {
	case s.User == "":
		return invalid(
			"field \"username\" is required; give the name of the IAM user whose access key is to be rotated")
	case !userForm.MatchString(s.User):
		return invalid("field \"username\": %q is refused: it is the user's name alone, 1 to 64 of A-Z a-z 0-9 _ + "+
			"= , . @ -, without path", clip(s.User))
	case !s.When.Off && s.When.Never():
		return invalid("one of the fields \"rotation_period\" and \"rotation_schedule\" is required; for rotation " +
			"on request only, set disable_automated_rotation=true")
	case s.Grace < 0 || s.Idle < 0 || s.Inactive < 0:
		return invalid("fields \"grace_period\", \"idle_period\" and \"inactive_period\" must not be negative; " +
			"leave them out for the default")
	case short > 0 && s.Grace+s.Inactive >= short:
		return invalid("field \"grace_period\": with inactive_period it makes %s, not below %s, the shortest time "+
			"between two rotations; AWS allows two keys, and the previous one must be "+
			"gone by then: give shorter ones",
			s.Grace+s.Inactive, short)
	case s.AssumedRole.ARN != "" && !roleForm.MatchString(s.AssumedRole.ARN):
		return invalid("field \"assume_role_arn\": %q is not a role; it looks like "+
			"arn:aws:iam::123456789012:role/Name",
			clip(s.AssumedRole.ARN))
	case s.AssumedRole.ARN == "" && s.AssumedRole.Session != "":
		return invalid(
			"field \"assume_role_session_name\" needs assume_role_arn, whose session it names; give both, or neither")
	case s.AssumedRole.ARN == "" && s.AssumedRole.ExternalID != "":
		return invalid(
			"field \"external_id\" needs assume_role_arn, whose trust policy asks for it; give both, or neither")
	case s.AssumedRole.Session != "" && !nameForm.MatchString(s.AssumedRole.Session):
		return invalid(
			"field \"assume_role_session_name\": %q is refused by AWS; give 2 to 64 of A-Z a-z 0-9 _ + = , . @ -",
			clip(s.AssumedRole.Session))
	}
	return s.Propagation.check()
}

// update is a write of a role that is there. The time of its next rotation follows at once.
func (s *staticRoutes) update(ctx context.Context, e *rotate.Edit, in *staticIn) error {
	was := staticDataOf(e.Rec)
	d := was
	if err := d.apply(in); err != nil {
		return err
	}
	switch {
	case was.User != d.User:
		return invalid(
			"field \"username\" of a static role cannot change: it is of %q; delete it and write another one",
			was.User)
	case in.givesKey() || in.Replace != nil && *in.Replace != "":
		return invalid("fields \"access_key\", \"secret_key\" and \"replace_key\" are only for new roles; to rotate "+
			"this one, write rotate-role/%s", in.Name)
	}
	if was.AssumedRole != d.AssumedRole {
		c, done, err := s.users.client(ctx, &d)
		if err != nil {
			return upstreamError("aws.static", err)
		}
		defer done()
		who, err := c.WhoAmI(ctx)
		switch {
		case err != nil:
			return upstreamError("aws.static", err)
		case who.Account != d.Account:
			return invalid("field \"assume_role_arn\": it leads to account %s, and user %s is in %s; delete the "+
				"role and write another one", who.Account, d.User, d.Account)
		}
	}
	timing := staticTiming(e.Rec)
	if err := d.store(e.Rec); err != nil {
		return err
	}
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	next := e.Rec.Next
	due := e.Control().Retime(timing)
	if e.Rec.Turn == nil && !hasKey(e.Rec, e.Sec) { // the first key is still to be created
		e.Rec.Next = next
		due = e.Planned()
	}
	return e.Commit(ctx, "configured", due)
}

// create stores a new role. A key that the user already has continues to work: it becomes the
// previous key or, on request, the published one.
func (s *staticRoutes) create(ctx context.Context, r *route.Request, e *rotate.Edit, in *staticIn) error {
	const op = "aws.static"
	d := new(staticData)
	if err := d.apply(in); err != nil {
		return err
	}
	c, done, err := s.users.client(ctx, d)
	if err != nil {
		return upstreamError(op, err)
	}
	defer done()
	if err := s.checkOwner(ctx, c, in.Name, d); err != nil {
		return err
	}
	keys, err := c.Keys(ctx, d.User)
	if err != nil {
		return upstreamError(op, err)
	}
	if err := d.store(e.Rec); err != nil {
		return err
	}
	e.Ops = []storage.Op{storage.Set(d.ownerKey(), []byte(in.Name)).If(0)}
	if in.givesKey() {
		return adoptKey(ctx, &newRole{r: r, c: c, e: e, d: d}, in, keys)
	}
	keys, err = in.makeRoom(ctx, c, d, keys)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		e.Rec.Current = &rotate.Ref{ID: keys[0].ID, At: e.Now, Adopted: true}
		r.Warn("user %s has the access key %s already; it continues to work, and is retired after %s, once it is "+
			"unused for %s", d.User, keys[0].ID, e.Now.Add(d.gracePeriod(e.Now)).Format(time.RFC3339),
			d.idlePeriod(e.Now, true))
	}
	e.Rec.Next = e.Now
	if _, err := e.Control().RotateNow(ctx, rotate.RotateRequest{By: r.Caller.DisplayName}); err != nil {
		return err
	}
	return createFirstKey(ctx, r, e)
}

// createFirstKey creates the first key of a role. If that surely failed, the role is not stored.
func createFirstKey(ctx context.Context, r *route.Request, e *rotate.Edit) error {
	err := e.Control().Drive(ctx, keyReplaced)
	switch {
	case hasKey(e.Rec, e.Sec) && e.CurrentID() == e.Rec.Current.Key():
		return nil
	case err != nil && e.Rec.Turn != nil && !e.Rec.Turn.Touched():
		werr := e.Control().DeleteWhenDone(ctx)
		if werr == nil {
			werr = e.Control().Drive(ctx, untilEnd)
		}
		if werr != nil {
			return werr
		}
		return err
	}
	why := e.Rec.LastError
	if err != nil {
		why = fault.Message(err)
	}
	r.Warn("the first key of user %s is not verified yet, and the verification is retried: %s",
		staticDataOf(e.Rec).User, why)
	return nil
}

// hasKey reports whether a record has a key to publish.
func hasKey(r *rotate.Record, s *rotate.Secrets) bool {
	_, known := s.Keys[r.Current.Key()]
	return known
}

// checkOwner sets the account, and refuses a user that does not exist or whose keys are rotated
// elsewhere.
func (s *staticRoutes) checkOwner(ctx context.Context, c *client.Client, name string, d *staticData) error {
	const op = "aws.static"
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return upstreamError(op, err)
	}
	d.Account = who.Account
	if strings.HasSuffix(who.ARN, "/"+d.User) && strings.Contains(who.ARN, ":user/") {
		return invalid("field \"username\": %s is the user of config/root; rotate its key with config/rotate-root",
			d.User)
	}
	e, err := s.m.Store.Get(ctx, d.ownerKey())
	switch {
	case err != nil:
		return err
	case e.Version != 0 && string(e.Value) != name:
		return invalid(
			"field \"username\": the keys of %s are rotated by the static role %q already; read static-creds/%s",
			d.User, e.Value, e.Value)
	}
	there, _, err := c.User(ctx, d.User)
	switch {
	case err != nil:
		return upstreamError(op, err)
	case !there:
		return invalid(
			"field \"username\": there is no user %s in account %s; create it in AWS first, or see assume_role_arn",
			d.User, d.Account)
	}
	return nil
}

// givesKey reports whether a write gives a key that the user has already.
func (in *existingKeyIn) givesKey() bool {
	return in.KeyID != nil && *in.KeyID != "" || in.Secret != nil && !in.Secret.Empty()
}

// A newRole is one write of a new role.
type newRole struct {
	r *route.Request
	c *client.Client
	e *rotate.Edit
	d *staticData
}

// adoptKey publishes a key that the user already has, until the first rotation.
func adoptKey(ctx context.Context, n *newRole, in *staticIn, keys []client.Key) error {
	var id string
	var given secret.Value
	set(&id, in.KeyID)
	set(&given, in.Secret)
	d, e := n.d, n.e
	switch {
	case id == "" || given.Empty():
		return invalid("fields \"access_key\" and \"secret_key\" belong together; give both, or neither for a new key")
	case in.Replace != nil && *in.Replace != "":
		return invalid(
			"field \"replace_key\" makes room for a new key, but with access_key no key is created; leave it out")
	case !slices.ContainsFunc(keys, func(k client.Key) bool { return k.ID == id && k.Active }):
		return invalid("field \"access_key\": user %s has no active key %s; it has %s", d.User, clip(id),
			describeKeys(keys))
	}
	existing, err := n.c.As(ctx, id, given, secret.Value{})
	if err != nil {
		return upstreamError("aws.static", err)
	}
	defer existing.Close()
	if who, err := existing.WhoAmI(ctx); err != nil {
		return &fault.Error{Op: "aws.static", Kind: fault.Invalid, Err: err,
			Msg: "field \"secret_key\": AWS refuses the pair (" + client.CodeOf(err) +
				"); check that it belongs to access_key"}
	} else if who.Account != d.Account || !strings.HasSuffix(who.ARN, "/"+d.User) {
		return invalid(
			"field \"access_key\": it belongs to %s, and not to user %s in account %s; give a key of that user",
			who.ARN, d.User, d.Account)
	}
	e.Now = time.Now().UTC()
	e.Rec.Current = &rotate.Ref{ID: id, At: e.Now, Adopted: true}
	e.Sec.Keys[id] = rotate.Credential{ID: id, Secret: map[string]secret.Value{secretField: given}}
	e.Rec.Next = d.When.Next(time.Time{}, e.Now)
	due := e.Rec.Next
	for _, k := range keys {
		if k.ID != id {
			e.Control().Supersede(rotate.Start{Reason: "manual", By: n.r.Caller.DisplayName},
				&rotate.Ref{ID: k.ID, At: e.Now, Adopted: true})
			due = e.Rec.Turn.End.After
			n.r.Warn("user %s has another access key, %s; it continues to work, and is retired after %s, once it is "+
				"unused for %s, because the first rotation needs its place", d.User, k.ID, due.Format(time.RFC3339),
				d.idlePeriod(e.Now, true))
		}
	}
	return e.Commit(ctx, "adopted", due)
}

// makeRoom deletes the key that replace_key names, and refuses if there is no room for a new key.
func (in *staticIn) makeRoom(ctx context.Context, c *client.Client, d *staticData, keys []client.Key) ([]client.Key,
	error) {
	if in.Replace != nil && *in.Replace != "" {
		i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID == *in.Replace })
		if i < 0 {
			return nil, invalid("field \"replace_key\": user %s has no key %s; it has %s", d.User, clip(*in.Replace),
				describeKeys(keys))
		}
		if err := c.DeleteKey(ctx, d.User, keys[i].ID); err != nil {
			return nil, upstreamError("aws.static", err)
		}
		keys = slices.Delete(keys, i, i+1)
	}
	if len(keys) > 1 {
		return nil, invalid("user %s has two access keys, as many as AWS allows: %s; nothing was changed; give "+
			"access_key and secret_key of the one to publish until the first rotation, or replace_key=%s to delete "+
			"that one now", d.User, describeKeys(keys), keys[0].ID)
	}
	return keys, nil
}

// describeKeys names keys for a person.
func describeKeys(keys []client.Key) string {
	if len(keys) == 0 {
		return "none"
	}
	var out []string
	for _, k := range keys {
		text := k.ID + " of " + k.Made.UTC().Format(time.DateOnly)
		if !k.Active {
			text += " (inactive)"
		}
		out = append(out, text)
	}
	return strings.Join(out, " and ")
}
