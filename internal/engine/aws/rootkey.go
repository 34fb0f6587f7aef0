package aws

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys of the rotation of config/root's key, below the mount. The row "root" has the key as well: it is written in the commit by
// which the record has another one.
//
//	rk/root                 the record
//	rs/root                 its secrets
//	rh/root/<number>        a rotation that has ended
//	rj/root/<commit>        its journal

// kind is what [rotate] is told of the key of config/root.
func (b configs) kind() rotate.Kind {
	return rotate.Kind{
		Name: rootKind, Noun: "config", Style: rotate.TwoKey, Eager: true,
		Records: "rk/", Secrets: "rs/", History: "rh/", Journal: "rj/",
		Path: func(string) string { return "config/root" },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"key_id": r.Current.Key(), "path": b.m.Settings().Path + "config/root"}
		},
		Timing: func(r *rotate.Record) rotate.Timing {
			return rotate.Timing{When: rootDataOf(r).When, Grace: drainWithin}
		},
		Open: func(_ context.Context, r *rotate.Record, _ *rotate.Secrets, red *secret.Redactor) (rotate.Target, error) {
			t := &rootTarget{record: r}
			t.target = target{b: b.backend, connect: t.connectAsRoot, red: red, keyLimitError: func(user string, keys []client.Key) error {
				i := max(slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != r.Current.Key() }), 0)
				return fault.New("aws.rotateRoot", fault.Invalid, "user %s has two keys, as many as AWS allows, and by schedule none is deleted to make room; delete %s, or write config/rotate-root, which says what it deletes", user, keys[i].ID)
			}}
			return t, nil
		},
		Missing: b.recordFromLegacy,
		Earlier: func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) { yield(rootKind, nil) }
		},
	}
}

// A rootTarget is the keys of the user of config/root, by whose key itself they are created and deleted.
type rootTarget struct {
	target
	record *rotate.Record
}

// Capabilities implements [rotate.Target].
func (t *rootTarget) Capabilities() rotate.Capabilities { return capabilities() }

// connectAsRoot is a client by the key of config/root, for the user that the rotation is of. Its first call finds out which that is: the commit
// before the creating call stores it.
func (t *rootTarget) connectAsRoot(ctx context.Context) (*client.Client, string, func(), error) {
	c, _, err := t.b.client(ctx)
	if err != nil {
		return nil, "", nil, err
	}
	d := rootDataOf(t.record)
	if d.Turn != t.record.Number() {
		who, err := c.WhoAmI(ctx)
		if err != nil {
			return nil, "", nil, err
		}
		d.Turn, d.Account = t.record.Number(), who.Account
		if d.User, err = userOf(who); err != nil {
			return nil, "", nil, err
		}
		return c, d.User, func() {}, d.store(t.record)
	}
	in, err := t.b.account(ctx, c)
	if err == nil {
		_, err = strandedKey(t.record, in)
	}
	return c, d.User, func() {}, err
}

// List implements [rotate.Lister]. Of a key that may have been created in an account that is out of reach nobody can tell more, in the
// end, than that.
func (t *rootTarget) List(ctx context.Context) ([]rotate.Listed, error) {
	out, err := t.target.List(ctx)
	turn := t.record.Turn
	if err == nil || turn == nil || !fault.Is(err, fault.Unavailable) {
		return out, err
	}
	if n := len(turn.Attempts); n == 0 || time.Now().Before(turn.Attempts[n-1].Late) {
		return out, err
	}
	c, _, aerr := t.b.client(ctx)
	if aerr != nil {
		return nil, err
	}
	in, aerr := t.b.account(ctx, c)
	if aerr != nil {
		return nil, err
	}
	if id, away := strandedKey(t.record, in); away == nil || id != "" {
		return nil, err
	}
	d := rootDataOf(t.record)
	t.b.m.Log.Error("a key may be left that nobody knows, since config/root was written with one of another account; look at the user's keys", "user", d.User, "account", d.Account, "made", turn.Started)
	if live := turn.Live(); live != nil {
		out = append(out, rotate.Listed{ID: live.ID})
	}
	return out, nil
}

// Retire implements [rotate.Creator].
func (t *rootTarget) Retire(ctx context.Context, id string) error {
	if err := t.delete(ctx, id); err != nil {
		return err
	}
	d := rootDataOf(t.record)
	d.Deleted.add(id)
	return d.store(t.record)
}

// Join implements [rotate.Joiner]: config/root has the new key from the commit on by which it is the current one.
func (t *rootTarget) Join(ctx context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	cfg, err := t.b.config(ctx)
	switch {
	case err != nil:
		return nil, err
	case cfg == nil:
		return nil, notConfigured()
	}
	if !cfg.Generated {
		cfg.Replaced = append(cfg.Replaced, secretDigest(cfg.Secret))
		cfg.Replaced = cfg.Replaced[max(len(cfg.Replaced)-32, 0):]
	}
	cfg.KeyID, cfg.Secret, cfg.Generated = r.Current.ID, s.Keys[r.Current.ID].Secret[secretField], true
	op, err := cfg.storeOp()
	return []storage.Op{op}, err
}

// setCurrentKey makes the pair that was written into config/root the current one. Whoever gives a key says which one is right: what a
// rotation in flight has created is deleted, unless it was published already.
func setCurrentKey(e *rotate.Edit, c *rootConfig) (undone bool) {
	rec, t := e.Rec, e.Rec.Turn
	rec.Current = nil
	if c.KeyID != "" {
		rec.Current = &rotate.Ref{ID: c.KeyID, At: e.Now, Adopted: true}
		e.Sec.Keys[c.KeyID] = rotate.Credential{ID: c.KeyID, Secret: map[string]secret.Value{secretField: c.Secret}}
	}
	e.Control().Fresh()
	switch {
	case t == nil:
	case t.Replaced():
		t.New = rec.Current
	default:
		t.Old = rec.Current
		if t.Back == nil {
			e.Control().Undo("config/root was written with another key", false)
			return true
		}
	}
	return false
}

// strandedKey says what a rotation has left in an account that config/root reaches no more: the id of a key, if it is known, and an error.
// It is nil where config/root reaches the account.
func strandedKey(r *rotate.Record, in string) (id string, err error) {
	const op = "aws.rotateRoot"
	d, t := rootDataOf(r), r.Turn
	if d.Turn != r.Number() || d.Account == "" || d.Account == in || t == nil {
		return "", nil
	}
	if id = t.New.Key(); t.Replaced() {
		id = t.Old.Key()
	}
	at := t.Started.Format(time.RFC3339)
	if id == "" {
		return "", fault.New(op, fault.Unavailable, "whether the rotation at %s has made a key for user %s in account %s is not known, and config/root reaches account %s; write config/root with a key of account %s", at, d.User, d.Account, in, d.Account)
	}
	return id, fault.New(op, fault.Upstream, "the rotation at %s has left the key %s of user %s in account %s, and config/root reaches account %s; write config/root with a key of account %s, or delete that key there and write rotate-root with replace_key=%s", at, id, d.User, d.Account, in, d.Account, id)
}

// userOf is the IAM user of a key.
func userOf(who client.Identity) (string, error) {
	_, name, ok := strings.Cut(who.ARN, ":user/")
	if !ok {
		return "", invalid("the access_key of config/root is of %s, which is no IAM user, so that it cannot be rotated; give that of a user", who.ARN)
	}
	return name[strings.LastIndex(name, "/")+1:], nil
}
