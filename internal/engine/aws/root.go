package aws

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A rootTurn is a rotation of the key of config/root that is under way. Each step is durable before the
// next, so that whatever dies in between, the work that is due goes on: a key of which
// nobody knows the secret is deleted, and one that was replaced, too.
type rootTurn struct {
	User    string    `json:"user"`
	Account string    `json:"account,omitempty"` // the user's
	At      time.Time `json:"at"`
	Before  []string  `json:"before"`        // ids of the user's keys before a new one is made
	New     string    `json:"new,omitempty"` // once it was made
	Old     string    `json:"old,omitempty"` // once it is replaced: to be deleted

	NewSecret secret.Value `json:"-"`
}

// rootKind is the due work of a rotation that is under way.
const rootKind = "root"

const (
	rotateWithin = 85 * time.Second
	resumeAfter  = 2 * time.Minute  // what died is taken up
	lastCalls    = 10 * time.Second // what is being made by the key before is let end
)

type rotateIn struct {
	Replace *string `json:"replace_key" doc:"The user's second key, which is deleted to make room although it was used within a day."`
}

type rotateOut struct {
	KeyID string `json:"access_key"`
}

// rotateRoot replaces the key of config/root.
func (b configs) rotateRoot(ctx context.Context, r *route.Request, in rotateIn) (*rotateOut, error) {
	release, err := b.locks.Take(ctx, rootKey)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rotateWithin)
	defer cancel()
	c, cfg, err := b.aws(ctx)
	switch {
	case err != nil:
		return nil, err
	case cfg.Turn != nil:
		if err := b.resume(ctx, c, cfg, in.Replace); err != nil {
			return nil, err
		}
		if c, cfg, err = b.aws(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.KeyID == "" {
		return nil, invalid("there is no access_key in config/root to rotate; credentials come from this server's environment, where they are replaced by hand")
	}
	if err := b.begin(ctx, c, cfg, &asker{r, in.Replace}); err != nil {
		return nil, err
	}
	if err := b.replace(ctx, c, cfg); err != nil {
		return nil, err
	}
	return &rotateOut{cfg.KeyID}, nil
}

// An asker wants a rotation now. One that comes by schedule has none.
type asker struct {
	r       *route.Request
	replace *string
}

// begin notes which keys there are, and makes room for one more, if somebody asks.
func (b configs) begin(ctx context.Context, c *client.Client, cfg *root, by *asker) error {
	const op = "aws.rotateRoot"
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return mine(op, err)
	}
	_, name, ok := strings.Cut(who.ARN, ":user/")
	if !ok {
		return invalid("the access_key of config/root is of %s, which is no IAM user, so that it cannot be rotated; give that of a user", who.ARN)
	}
	name = name[strings.LastIndex(name, "/")+1:]
	keys, err := c.Keys(ctx, name)
	if err != nil {
		return mine(op, err)
	}
	keys = cfg.Dropped.rest(keys)
	cfg.Turn = &rootTurn{User: name, Account: who.Account, At: time.Now().UTC()}
	for _, k := range keys {
		cfg.Turn.Before = append(cfg.Turn.Before, k.ID)
	}
	if len(keys) < 2 {
		return b.saveRoot(ctx, cfg, time.Now().Add(resumeAfter))
	}
	i := slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != cfg.KeyID })
	if by == nil {
		return fault.New(op, fault.Invalid, "user %s has two keys, as many as AWS allows, and by schedule none is deleted to make room; delete %s, or write config/rotate-root, which says what it deletes", name, keys[i].ID)
	}
	why, err := b.dispensable(ctx, c, keys[i], by.replace)
	if err != nil {
		return err
	}
	if err := b.saveRoot(ctx, cfg, time.Now().Add(resumeAfter)); err != nil {
		return err
	}
	if err := c.DeleteKey(ctx, name, keys[i].ID); err != nil {
		return mine(op, err)
	}
	cfg.Dropped.add(keys[i].ID)
	by.r.Warn("AWS allows two keys, and user %s had two: %s was deleted, because %s", name, keys[i].ID, why)
	return nil
}

// dispensable says why a key may be deleted to make room, or that it may not.
func (b configs) dispensable(ctx context.Context, c *client.Client, k client.Key, replace *string) (why string, err error) {
	if replace != nil && *replace == k.ID {
		return "replace_key names it", nil
	}
	if !k.Active {
		return "it was inactive", nil
	}
	used, err := c.LastUsed(ctx, k.ID)
	if err != nil {
		return "", mine("aws.rotateRoot", err)
	}
	switch {
	case used.IsZero():
		return "it was never used", nil
	case time.Since(used) >= unusedFor:
		return "it was last used at " + used.UTC().Format(time.RFC3339), nil
	}
	return "", fault.New("aws.rotateRoot", fault.Invalid, "the user has two keys, as many as AWS allows, and the other one, %s, was used at %s; nothing was changed; to delete it all the same, send replace_key=%s", k.ID, used.UTC().Format(time.RFC3339), k.ID)
}

// replace makes the new key, waits until it works, and takes it in place of the old one.
func (b configs) replace(ctx context.Context, c *client.Client, cfg *root) error {
	const op = "aws.rotateRoot"
	t := cfg.Turn
	if err := ctx.Err(); err != nil {
		return fault.Wrap(op, fault.Unavailable, err)
	}
	// From here on, only what is stored knows the key: nobody who goes away, and no seal, comes in between.
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWithin)
	defer cancel()
	k, err := c.CreateKey(making, t.User)
	if err != nil {
		if client.Unchanged(err) {
			if serr := b.settled(making, cfg); serr != nil {
				return serr
			}
		}
		return mine(op, err)
	}
	t.New, t.NewSecret = k.ID, k.Secret
	if err := b.saveRoot(making, cfg, time.Now().Add(resumeAfter)); err != nil {
		return err
	}
	return b.take(ctx, c, cfg)
}

// take proves the new key and makes it the one of config/root.
func (b configs) take(ctx context.Context, c *client.Client, cfg *root) error {
	t := cfg.Turn
	if err := b.works(ctx, c, client.Key{ID: t.New, Secret: t.NewSecret}, cfg.Settle); err != nil {
		if time.Since(t.At) >= landing { // lists have it, if it is there
			keys, lerr := c.Keys(ctx, t.User)
			if lerr == nil && !slices.Contains(ids(keys), t.New) {
				b.m.Log.Warn("somebody has deleted the new root key before it was used", "user", t.User, "key", t.New)
				if serr := b.settled(ctx, cfg); serr != nil {
					return serr
				}
			}
		}
		return mine("aws.rotateRoot", err)
	}
	if !cfg.Made {
		cfg.Replaced = append(cfg.Replaced, digest(cfg.Secret))
		cfg.Replaced = cfg.Replaced[max(len(cfg.Replaced)-32, 0):]
	}
	t.Old, cfg.KeyID, cfg.Secret, cfg.Made = cfg.KeyID, t.New, t.NewSecret, true
	t.New, t.NewSecret = "", secret.Value{}
	cfg.Auto.done(time.Now().UTC())
	event := b.m.Host.Event("aws/root", engine.Details(map[string]string{"key_id": cfg.KeyID, "previous_key_id": t.Old, "path": b.m.Settings().Path + "config/root"})...)
	if err := b.saveRoot(ctx, cfg, time.Now().Add(resumeAfter), event); err != nil {
		return err
	}
	c, _, err := b.aws(ctx)
	if err != nil {
		return err
	}
	b.idle(ctx, t.Old)
	return b.discard(ctx, c, cfg)
}

// discard deletes the key that was replaced.
func (b configs) discard(ctx context.Context, c *client.Client, cfg *root) error {
	if err := c.DeleteKey(ctx, cfg.Turn.User, cfg.Turn.Old); err != nil {
		// The new key is in use and the old one will go: for whoever asked, it is done.
		b.m.Log.Warn("deleting the root key that was replaced; it is tried again", "key", cfg.Turn.Old, "error", err)
		cfg.Auto.Why = fault.Message(mine("aws.rotateRoot", err))
		return b.saveRoot(context.WithoutCancel(ctx), cfg, time.Now().Add(resumeAfter), b.rootFailed(cfg))
	}
	cfg.Dropped.add(cfg.Turn.Old)
	return b.settled(ctx, cfg)
}

// saveRoot commits the configuration with its due item at a time, and events.
func (b configs) saveRoot(ctx context.Context, c *root, at time.Time, events ...storage.Op) error {
	from := c.Due
	c.Due = tick(from, at)
	op, err := c.put()
	if err != nil {
		return err
	}
	c.stored, err = b.m.Store.CommitWith(ctx, []storage.Op{op}, append(b.m.Host.Schedule(rootKind, "root", from, c.Due), events...))
	return err
}

// tick makes a time one that the due index can hold: whole milliseconds, never early, and
// another one than before, since a row that did not change is taken for done.
func tick(from, at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	at = at.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond)
	if at.Equal(from) {
		at = at.Add(time.Millisecond)
	}
	return at
}

// resume takes up a rotation that died.
func (b configs) resume(ctx context.Context, c *client.Client, cfg *root, replace *string) error {
	const op = "aws.rotateRoot"
	t := cfg.Turn
	in, err := b.account(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case t.Account != "" && t.Account != in: // config/root was written since
		if err := b.left(t, in, replace); err != nil {
			return err
		}
	case t.Old != "":
		if err := c.DeleteKey(ctx, t.User, t.Old); err != nil {
			return mine(op, err)
		}
		cfg.Dropped.add(t.Old)
	case t.New != "":
		return b.take(ctx, c, cfg)
	default: // whether a key was made is not known, and nobody knows its secret
		id, err := lost(ctx, c, t.User, t.At, slices.Concat([]string{cfg.KeyID}, t.Before, cfg.Dropped))
		if err != nil {
			return err
		}
		if id != "" {
			b.m.Log.Warn("deleting an access key whose secret was lost", "user", t.User, "key", id)
			if err := c.DeleteKey(ctx, t.User, id); err != nil {
				return mine(op, err)
			}
			cfg.Dropped.add(id)
		}
	}
	return b.settled(ctx, cfg)
}

// left says what a rotation has left in an account that config/root reaches no more, until somebody has seen to it. Of
// a key that may not have been made nobody can tell more than that, in the end.
func (b configs) left(t *rootTurn, in string, replace *string) error {
	const op = "aws.rotateRoot"
	id := t.Old
	if id == "" {
		id = t.New
	}
	switch {
	case id == "" && time.Since(t.At) < landing:
		return fault.New(op, fault.Unavailable, "whether the rotation at %s has made a key for user %s in account %s is not known, and config/root reaches account %s; write config/root with a key of account %s", t.At.Format(time.RFC3339), t.User, t.Account, in, t.Account)
	case id == "":
		b.m.Log.Error("a key may be left that nobody knows, since config/root was written with one of another account; look at the user's keys", "user", t.User, "account", t.Account, "made", t.At)
	case replace == nil || *replace != id:
		return fault.New(op, fault.Upstream, "the rotation at %s has left the key %s of user %s in account %s, and config/root reaches account %s; write config/root with a key of account %s, or delete that key there and write rotate-root with replace_key=%s", t.At.Format(time.RFC3339), id, t.User, t.Account, in, t.Account, id)
	}
	return nil
}

// workRoot takes up a rotation that died, or begins one whose time has come.
func (b configs) workRoot(ctx context.Context) error {
	release, err := b.locks.Take(ctx, rootKey)
	if err != nil {
		return err
	}
	defer release()
	c, cfg, err := b.aws(ctx)
	switch {
	case err != nil:
		return err
	case cfg.Due.IsZero() || cfg.Due.After(time.Now()):
		return nil // moved meanwhile
	case cfg.Turn == nil:
		return b.rotateDue(ctx, c, cfg)
	}
	did := engine.Automatic{Operation: "rotate", Path: b.m.Settings().Path + "config/root", Detail: map[string]string{"username": cfg.Turn.User, "key_id": cfg.KeyID}}
	return b.noting(ctx, did, func(ctx context.Context) error { return b.resume(ctx, c, cfg, nil) })
}

// Work does what fell due.
func (b *backend) Work(ctx context.Context, kind, id string) error {
	switch kind {
	case rootKind:
		return configs{b}.workRoot(ctx)
	case staticKind:
		return b.rotations.Work(ctx, kind, id)
	}
	return fault.New("aws.Work", fault.Internal, "there is no work of kind %q for %q", kind, id)
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

// missedWindow says why nothing was rotated at a time.
func missedWindow(at time.Time) string {
	return "the window of " + at.UTC().Format(time.RFC3339) + " was missed: the server did not run, or waited for its clock; the next one counts"
}

func ids(keys []client.Key) (out []string) {
	for _, k := range keys {
		out = append(out, k.ID)
	}
	return out
}

const clocks = time.Minute // how far AWS's clock may be from ours
