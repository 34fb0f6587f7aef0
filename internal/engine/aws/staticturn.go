package aws

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// Times of rotating.
const (
	landing = 15 * time.Minute // the life of a signature: whatever was asked for has happened by then, and is in lists
	clocks  = time.Minute      // how far AWS's clock may be from ours
)

// rotate makes a new key, or goes on with a rotation that was begun. The role's lock is held.
func (b statics) rotate(ctx context.Context, name string, s *static, by, replace string) error {
	c, done, err := b.client(ctx, s)
	if err != nil {
		return b.failed(ctx, name, s, mine("aws.rotate", err))
	}
	defer done()
	if s.Turn != nil {
		if ended, err := b.resume(ctx, c, name, s); ended || err != nil {
			return err
		}
	}
	if err := b.begin(ctx, c, s, by, replace); err != nil {
		return b.failed(ctx, name, s, err)
	}
	if err := b.save(ctx, name, s, time.Now().Add(resumeAfter), commit{}); err != nil {
		return err
	}
	return b.mint(ctx, c, name, s)
}

// begin notes which keys there are, after it made sure that there is a place for one more.
func (b statics) begin(ctx context.Context, c *client.Client, s *static, by, replace string) error {
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return mine("aws.rotate", err)
	}
	keys = s.Dropped.rest(keys)
	if i := slices.IndexFunc(keys, func(k client.Key) bool { return replace != "" && k.ID == replace && k.ID != s.Current }); i >= 0 {
		if err := c.DeleteKey(ctx, s.User, replace); err != nil {
			return mine("aws.rotate", err)
		}
		keys = slices.Delete(keys, i, i+1)
		s.Dropped.add(replace)
		if s.Old != nil && s.Old.ID == replace {
			s.Old, s.OldSecret = nil, secret.Value{}
		}
	}
	if len(keys) > 1 {
		i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != s.Current && (s.Old == nil || k.ID != s.Old.ID) })
		i = max(i, 0)
		return fault.New("aws.rotate", fault.Invalid, "user %s has another access key, %s, that this role has not made, and AWS allows two; delete it in AWS, or write rotate-role with replace_key=%s", s.User, keys[i].ID, keys[i].ID)
	}
	s.Turn = &keyTurn{By: by, At: time.Now().UTC(), Before: ids(keys)}
	return nil
}

// mint makes the new key. That it is going to be made is durable.
func (b statics) mint(ctx context.Context, c *client.Client, name string, s *static) error {
	k, err := c.CreateKey(ctx, s.User)
	if err != nil {
		if client.Unchanged(err) {
			s.Turn = nil
		}
		return b.failed(ctx, name, s, mine("aws.rotate", err))
	}
	s.Turn.New, s.NewSecret = k.ID, k.Secret
	if err := b.save(context.WithoutCancel(ctx), name, s, time.Now().Add(resumeAfter), commit{}); err != nil {
		return err
	}
	return b.take(ctx, c, name, s)
}

// take gives the new key out, once it works.
func (b statics) take(ctx context.Context, c *client.Client, name string, s *static) error {
	cfg, err := b.config(ctx)
	if err != nil {
		return err
	}
	var base settle
	if cfg != nil {
		base = cfg.Settle
	}
	if err := b.works(ctx, c, client.Key{ID: s.Turn.New, Secret: s.NewSecret}, s.Settle.over(base)); err != nil {
		if gone, lerr := b.vanished(ctx, c, s); lerr == nil && gone {
			s.Turn, s.NewSecret = nil, secret.Value{}
		}
		return b.failed(ctx, name, s, &fault.Error{Op: "aws.rotate", Kind: fault.Upstream, Err: err,
			Msg: "the new access key is not let in by AWS yet; the one before goes on to be given out, and it is tried again"})
	}
	now := time.Now().UTC()
	data := map[string]string{"by": s.Turn.By, "key_id": s.Turn.New}
	if s.Current != "" {
		s.Old, s.OldSecret = &oldKey{ID: s.Current, Adopted: s.Adopted}, s.Secret
		data["previous_key_id"] = s.Current
	}
	if s.Old != nil {
		s.Old.Since, s.Old.At = now, now.Add(s.grace(now))
	}
	s.Current, s.Secret, s.Adopted = s.Turn.New, s.NewSecret, false
	s.Turn, s.NewSecret, s.Failed, s.Why = nil, secret.Value{}, 0, ""
	s.Last, s.Next = now, s.When.Next(now, now)
	return b.save(ctx, name, s, s.later(now), b.event("aws/static-role", name, s, data))
}

// vanished reports whether somebody has deleted the new key.
func (b statics) vanished(ctx context.Context, c *client.Client, s *static) (bool, error) {
	if time.Since(s.Turn.At) < landing {
		return false, nil // lists may not show it yet
	}
	keys, err := c.Keys(ctx, s.User)
	return !slices.Contains(ids(keys), s.Turn.New), err
}

// resume goes on with a rotation that was cut short. ended means that nothing is left to do;
// otherwise what was begun is undone, and a new key can be made.
func (b statics) resume(ctx context.Context, c *client.Client, name string, s *static) (ended bool, err error) {
	t := s.Turn
	switch {
	case t.New != "" && s.Gone: // it was never given out
		if err := c.DeleteKey(ctx, s.User, t.New); err != nil {
			return true, b.failed(ctx, name, s, mine("aws.rotate", err))
		}
	case t.New != "":
		return true, b.take(ctx, c, name, s)
	default:
		known := slices.Concat([]string{s.Current}, t.Before, s.Dropped)
		if s.Old != nil {
			known = append(known, s.Old.ID)
		}
		id, err := lost(ctx, c, s.User, t.At, known)
		if err != nil {
			return true, b.failed(ctx, name, s, err)
		}
		if id != "" {
			b.m.Log.Warn("deleting an access key whose secret was lost", "role", name, "key", id)
			if err := c.DeleteKey(ctx, s.User, id); err != nil {
				return true, b.failed(ctx, name, s, mine("aws.rotate", err))
			}
			s.Dropped.add(id)
		}
	}
	s.Turn, s.NewSecret = nil, secret.Value{}
	return false, nil
}

// lost finds the key that a rotation has made and whose secret nobody knows; "" if it surely made
// none. AWS's keys bear no mark: it is the only one that came since the rotation began, and it was never used.
func lost(ctx context.Context, c *client.Client, user string, began time.Time, known []string) (string, error) {
	const op = "aws.rotate"
	keys, err := c.Keys(ctx, user)
	if err != nil {
		return "", mine(op, err)
	}
	var found []client.Key
	for _, k := range keys {
		if !slices.Contains(known, k.ID) && !k.Made.Before(began.Add(-clocks)) && !k.Made.After(began.Add(landing+clocks)) {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 0 && time.Since(began) < landing:
		return "", fault.New(op, fault.Unavailable, "whether AWS has made a key for user %s is not known yet; the key before stays, and it is looked at again until %s", user, began.Add(landing).Format(time.RFC3339))
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", fault.New(op, fault.Conflict, "user %s has several keys that may have been made by the rotation at %s: %s; delete in AWS those that nobody uses", user, began.Format(time.RFC3339), describe(found))
	}
	used, err := c.LastUsed(ctx, found[0].ID)
	switch {
	case err != nil:
		return "", mine(op, err)
	case !used.IsZero():
		return "", fault.New(op, fault.Conflict, "the key %s of user %s came when a rotation made one whose secret was lost, but it was used at %s: somebody else has made it; delete it in AWS when it is not needed", found[0].ID, user, used.UTC().Format(time.RFC3339))
	}
	return found[0].ID, nil
}

// failed notes that a try has failed, and when the next one is made. It returns why.
func (b statics) failed(ctx context.Context, name string, s *static, why error) error {
	now := time.Now().UTC()
	s.Failed++
	s.Why = fault.Message(why)
	at := cron.Retry(s.Failed, now)
	switch t := s.Turn; {
	case t != nil && t.New == "" && at.After(t.At.Add(landing)) && now.Before(t.At.Add(landing)):
		at = t.At.Add(landing)
	case t == nil && s.Old == nil && !s.Gone:
		var over bool
		if at, over = s.When.Again(s.Next, s.Last, s.Failed, now); over {
			s.Next, s.Failed = at, 0
		}
	}
	b.m.Log.Warn("a step of a static role failed", "role", name, "failures", s.Failed, "next_try", at, "error", why)
	event := b.event("aws/static-role-failed", name, s, map[string]string{"failures": strconv.Itoa(s.Failed)})
	if err := b.save(context.WithoutCancel(ctx), name, s, at, event); err != nil {
		b.m.Log.Error("keeping why a static role was not rotated", "role", name, "error", err)
	}
	return why
}

// A step is what is due of a role.
type step int

const (
	nothing step = iota
	turning
	retiring
	missed
	ending
)

// step says what is due.
func (s *static) step(now time.Time) step {
	switch {
	case s.Turn != nil || s.Current == "" && !s.Gone:
		return turning
	case s.Old != nil && !s.Old.At.After(now):
		return retiring
	case s.Old != nil:
		return nothing
	case s.Gone:
		return ending
	case s.Next.IsZero() || s.Next.After(now):
		return nothing
	case s.When.Missed(s.Next, now):
		return missed
	}
	return turning
}

// workStatic is what the due item of a static role brings. Each failure sets its own time.
func (b statics) workStatic(ctx context.Context, name string) error {
	release, err := b.locks.Take(ctx, staticPrefix+name)
	if err != nil {
		return err
	}
	defer release()
	s, err := b.static(ctx, name)
	now := time.Now().UTC()
	if err != nil || s == nil || s.Due.IsZero() || s.Due.After(now) {
		return err // or moved meanwhile
	}
	did := engine.Automatic{Operation: "rotate", Path: b.m.Settings().Path + "static-roles/" + name, Detail: map[string]string{"role": name, "username": s.User}}
	act := b.work
	switch s.step(now) {
	case nothing:
		s.Failed, s.Why = 0, ""
		return b.save(ctx, name, s, s.later(now), commit{})
	case ending:
		return b.remove(ctx, name, s)
	case missed:
		b.m.Log.Warn("the window of a static role's rotation was missed", "role", name, "was", s.Next)
		if s.Failed == 0 { // else it says what failed
			s.Why = missedWindow(s.Next)
		}
		s.Next, s.Failed = s.When.Next(s.Last, now), 0
		return b.save(ctx, name, s, s.Next, b.event("aws/static-role-failed", name, s, map[string]string{"failures": "0"}))
	case retiring:
		did.Operation, did.Takes, did.Detail["key_id"] = "retire", true, s.Old.ID
		act = retirement{b}.retire
	}
	due := s.Due
	err = b.m.Host.Audited(ctx, did, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, createWithin)
		defer cancel()
		return act(ctx, name, s)
	})
	if err != nil && !s.Due.Equal(due) {
		return nil // noted, and tried again at its time
	}
	return err
}

// missedWindow says why nothing was rotated at a time.
func missedWindow(at time.Time) string {
	return "the window of " + at.UTC().Format(time.RFC3339) + " was missed: the server did not run, or waited for its clock; the next one counts"
}

// work begins a rotation, or ends one that was cut short.
func (b statics) work(ctx context.Context, name string, s *static) error {
	if !s.Gone {
		return b.rotate(ctx, name, s, "schedule", "")
	}
	c, done, err := b.client(ctx, s)
	if err != nil {
		return b.failed(ctx, name, s, mine("aws.rotate", err))
	}
	defer done()
	if ended, err := b.resume(ctx, c, name, s); ended || err != nil {
		return err
	}
	s.Failed, s.Why = 0, ""
	return b.save(ctx, name, s, s.later(time.Now().UTC()), commit{})
}

// rotateNowIn asks for a rotation.
type rotateNowIn struct {
	Name    string  `path:"name" doc:"The static role's name."`
	Replace *string `json:"replace_key" default:"none" doc:"A key of the user's to be deleted at once, to make room for the new one: the one before, in its grace, or one that somebody else has made."`
}

// rotateNow is a rotation on request.
func (b statics) rotateNow(ctx context.Context, _ *route.Request, in rotateNowIn) (route.None, error) {
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createWithin)
	defer cancel()
	s, err := b.live(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	var replace string
	set(&replace, in.Replace)
	switch {
	case replace != "" && replace == s.Current:
		return route.None{}, invalid("field \"replace_key\": %s is the key that is given out now; leave replace_key out, and it is retired after its grace", replace)
	case s.Turn == nil && s.Old != nil && s.Current != "" && replace != s.Old.ID:
		return route.None{}, fault.New("aws.rotate", fault.Unavailable, "the key before, %s, is not retired yet, and AWS allows two; wait until %s, or send replace_key=%s to delete it now", s.Old.ID, s.Old.At.Format(time.RFC3339), s.Old.ID)
	}
	return route.None{}, b.rotate(ctx, in.Name, s, "request", replace)
}
