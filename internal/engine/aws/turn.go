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
	"github.com/keyturn/keyturn/internal/storage"
)

// A turn of a static role, each step durable before the next:
//
//	begun     the ids of the user's keys are noted
//	made      AWS has made a key, and it is stored
//	proven    the key is let in, again and again
//	over      it is given out; the one before waits for the end of its grace
//	idle      AWS tells of no use of the one before: it is made inactive
//	dead      it is deleted
//
// What dies between begun and made has perhaps left a key whose secret nobody knows. It is told
// by not being among the noted ones, and deleted.

// staticKind is the due work of a static role.
const staticKind = "static"

// begin notes the user's keys.
func (b statics) begin(s *static, keys []client.Key, by string, now time.Time) {
	s.Turn = &keyTurn{At: now, By: by}
	for _, k := range keys {
		s.Turn.Before = append(s.Turn.Before, k.ID)
	}
}

// make makes the new key of a turn that was begun, and goes on.
func (b statics) make(ctx context.Context, c *client.Client, name string, s *static) error {
	k, err := c.CreateKey(ctx, s.User)
	if err != nil {
		return mine("aws.rotate", err)
	}
	s.Turn.Made, s.Turn.Secret = k.ID, k.Secret
	if err := b.save(ctx, name, s, nil, nil); err != nil {
		return err
	}
	return b.take(ctx, c, name, s)
}

// take proves the new key and gives it out.
func (b statics) take(ctx context.Context, c *client.Client, name string, s *static) error {
	_, cfg, err := b.aws(ctx)
	if err != nil {
		return err
	}
	t := s.Turn
	if err := b.works(ctx, c, client.Key{ID: t.Made, Secret: t.Secret}, s.Settle.over(cfg.Settle)); err != nil {
		return mine("aws.rotate", err)
	}
	now := time.Now().UTC()
	old := s.KeyID
	if old == "" && len(t.Before) == 1 {
		old = t.Before[0] // the one that the user had before it was taken under rotation
	}
	if old != "" {
		s.Old = &oldKey{ID: old, Since: now, After: now.Add(s.Grace)}
	}
	s.KeyID, s.Secret, s.Turn = t.Made, t.Secret, nil
	s.Last, s.Next, s.Failed, s.Why, s.Retry = now, s.When.Next(now, now), 0, "", time.Time{}
	return b.save(ctx, name, s, nil, []storage.Op{b.event(name, s, "aws/static-role", map[string]string{"previous_key_id": old, "by": t.By})})
}

func (b statics) event(name string, s *static, kind string, more map[string]string) storage.Op {
	data := map[string]string{"role": name, "username": s.User, "key_id": s.KeyID, "path": b.m.Settings().Path + "static-roles/" + name}
	for k, v := range more {
		data[k] = v
	}
	return b.m.Host.Event(kind, data)
}

// turn begins a turn, or goes on with one. Its lock is held.
func (b statics) turn(ctx context.Context, r *route.Request, name string, s *static, by, replace string) error {
	c, done, err := b.manager(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	switch t := s.Turn; {
	case t != nil && t.Made != "":
		return b.take(ctx, c, name, s)
	case t != nil:
		if err := b.unknown(ctx, c, s); err != nil {
			return err
		}
	}
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return mine("aws.rotate", err)
	}
	if len(keys) >= 2 {
		if err := b.room(ctx, r, c, s, keys, replace); err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(k client.Key) bool { return k.ID != s.KeyID })
	}
	b.begin(s, keys, by, time.Now().UTC())
	if err := b.save(ctx, name, s, nil, nil); err != nil {
		return err
	}
	return b.make(ctx, c, name, s)
}

// unknown deletes what a turn has perhaps made and nobody knows.
func (b statics) unknown(ctx context.Context, c *client.Client, s *static) error {
	t := s.Turn
	if time.Since(t.At) < resumeAfter { // AWS may not list it
		return fault.New("aws.rotate", fault.Unavailable, "whether an earlier try has made a key is not known yet; try again after %s", t.At.Add(resumeAfter).Format(time.RFC3339))
	}
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return mine("aws.rotate", err)
	}
	for _, k := range keys {
		// Keys that people made at another time are theirs.
		if slices.Contains(t.Before, k.ID) || k.Made.Before(t.At.Add(-time.Minute)) || k.Made.After(t.At.Add(rotateWithin+late)) {
			continue
		}
		if err := c.DeleteKey(ctx, s.User, k.ID); err != nil {
			return mine("aws.rotate", err)
		}
	}
	s.Turn = nil
	return nil
}

// room makes room for a third key, if that destroys none that is in use.
func (b statics) room(ctx context.Context, r *route.Request, c *client.Client, s *static, keys []client.Key, replace string) error {
	const op = "aws.rotate"
	i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != s.KeyID })
	id := keys[i].ID
	switch {
	case replace == id:
		if r != nil {
			r.Warn("key %s was deleted, because replace_key names it", id)
		}
	case s.Old != nil && s.Old.ID == id && !s.Old.Inactive.IsZero():
		// It was out of use, and its time is cut short.
	case s.Old != nil && s.Old.ID == id:
		return fault.New(op, fault.Unavailable, "the key before, %s, lives until %s at least, and AWS allows two; wait, or send replace_key=%s to delete it now", id, s.Old.After.Format(time.RFC3339), id)
	default:
		return fault.New(op, fault.Invalid, "user %s has a second key, %s, that was not made here, and AWS allows two; delete it, or send replace_key=%s to have it deleted", s.User, id, id)
	}
	if err := c.DeleteKey(ctx, s.User, id); err != nil {
		return mine(op, err)
	}
	s.Old = nil
	return nil
}

// retire takes the key before through the rest of its life. Its lock is held.
func (b statics) retire(ctx context.Context, name string, s *static, now time.Time) error {
	c, done, err := b.manager(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	o := s.Old
	if !o.Inactive.IsZero() {
		if err := c.DeleteKey(ctx, s.User, o.ID); err != nil {
			return mine("aws.retire", err)
		}
		s.Old, s.Failed, s.Why, s.Retry = nil, 0, "", time.Time{}
		return b.save(ctx, name, s, nil, []storage.Op{b.event(name, s, "aws/static-role-retired", map[string]string{"previous_key_id": o.ID})})
	}
	keys, err := c.Keys(ctx, s.User)
	if err != nil {
		return mine("aws.retire", err)
	}
	if !slices.ContainsFunc(keys, func(k client.Key) bool { return k.ID == o.ID }) {
		s.Old = nil // somebody was faster
		return b.save(ctx, name, s, nil, nil)
	}
	used, err := c.LastUsed(ctx, o.ID)
	if err != nil {
		return mine("aws.retire", err)
	}
	if o.Used = used; now.Sub(used) < idleFor {
		o.After = now.Add(lookAgain)
		b.m.Log.Warn("a key that was replaced is still used, and kept", "role", name, "key", o.ID, "last_used", used)
		return b.save(ctx, name, s, nil, []storage.Op{b.event(name, s, "aws/static-role-held", map[string]string{"previous_key_id": o.ID})})
	}
	if err := c.SetActive(ctx, s.User, o.ID, false); err != nil {
		return mine("aws.retire", err)
	}
	o.Inactive, s.Failed, s.Why, s.Retry = now, 0, "", time.Time{}
	return b.save(ctx, name, s, nil, []storage.Op{b.event(name, s, "aws/static-role-inactive", map[string]string{"previous_key_id": o.ID})})
}

// failed notes that a try has failed, and when the next one is made.
func (b statics) failed(ctx context.Context, name string, s *static, why error) {
	now := time.Now().UTC()
	s.Failed++
	s.Why, s.Retry = fault.Message(why), cron.Retry(s.Failed, now)
	if s.Turn == nil && !s.Next.IsZero() && !s.Next.After(now) && s.When.Missed(s.Next, s.Retry) {
		s.Next = s.When.Next(s.Last, now)
	}
	b.m.Log.Warn("rotating a static role failed", "role", name, "failures", s.Failed, "next_try", s.Retry, "error", why)
	event := b.event(name, s, "aws/static-role-failed", map[string]string{"failures": strconv.Itoa(s.Failed)})
	if err := b.save(ctx, name, s, nil, []storage.Op{event}); err != nil {
		b.m.Log.Error("keeping why a static role was not rotated", "role", name, "error", err)
	}
}

type rotateRoleIn struct {
	Name    string `path:"name" doc:"The static role's name."`
	Replace string `json:"replace_key" doc:"The user's second key, which is deleted to make room although it may be in use."`
}

// rotate is a turn on request.
func (b statics) rotate(ctx context.Context, r *route.Request, in rotateRoleIn) (route.None, error) {
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err == nil && s == nil {
		err = fault.New("aws.rotate", fault.Invalid, "unknown static role: %s; list static-roles/", in.Name)
	}
	if err != nil {
		return route.None{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
	defer cancel()
	if err = b.turn(ctx, r, in.Name, s, "request", in.Replace); err != nil && s.Turn != nil {
		b.failed(ctx, in.Name, s, err)
	}
	return route.None{}, err
}

// workStatic does what is due of a static role: what failed sets its own time.
func (b statics) workStatic(ctx context.Context, name string) error {
	release, err := b.locks.Take(ctx, staticPrefix+name)
	if err != nil {
		return err
	}
	defer release()
	s, err := b.static(ctx, name)
	now := time.Now().UTC()
	switch {
	case err != nil || s == nil:
		return err
	case s.Due.IsZero() || s.Due.After(now):
		return nil // moved meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, rotateWithin)
	defer cancel()
	turns := s.Turn != nil || !s.Next.IsZero() && !s.Next.After(now)
	switch {
	case turns && s.Turn == nil && s.When.Missed(s.Next, now):
		b.m.Log.Warn("the window of a static role's rotation was missed", "role", name, "was", s.Next)
		s.Next = s.When.Next(s.Last, now)
		return b.save(ctx, name, s, nil, nil)
	case !turns && s.Old == nil:
		return b.save(ctx, name, s, nil, nil)
	}
	a := engine.Automatic{Operation: "rotate", Path: b.m.Settings().Path + "static-roles/" + name, Detail: map[string]string{"role": name, "username": s.User}}
	due := s.Due
	err = b.m.Host.Audited(ctx, a, func(ctx context.Context) error {
		var err error
		if s.Old != nil && !now.Before(s.Old.next(s.Inactive)) { // first, since it makes room
			err = b.retire(ctx, name, s, now)
		}
		if turns && err == nil {
			err = b.turn(ctx, nil, name, s, "schedule", "")
		}
		if err != nil {
			b.failed(context.WithoutCancel(ctx), name, s, err)
		}
		return err
	})
	if err != nil && !s.Due.Equal(due) {
		return nil // noted, and tried again at its time
	}
	return err
}

// next is when an old key is looked at.
func (o *oldKey) next(inactive time.Duration) time.Time {
	if o.Inactive.IsZero() {
		return o.After
	}
	return o.Inactive.Add(inactive)
}
