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

// Keys of the rotation of config/root's key, below the mount. The row "root" has the current key,
// too: the commit that changes the record's current key also writes that row.
//
//	rk/root                 the record
//	rs/root                 its secrets
//	rh/root/<number>        a rotation that has ended
//	rj/root/<commit>        its journal

// kind describes the record of config/root's key to [rotate].
func (s *rootRotation) kind() rotate.Kind {
	return rotate.Kind{
		Name: rootKind, Noun: "config", Style: rotate.TwoKey, Eager: true,
		Records: "rk/", Secrets: "rs/", History: "rh/", Journal: "rj/",
		Path: func(string) string { return "config/root" },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"key_id": r.Current.Key(), "path": s.m.Settings().Path + "config/root"}
		},
		Timing: func(r *rotate.Record) rotate.Timing {
			return rotate.Timing{When: rootDataOf(r).When, Grace: drainWithin}
		},
		Open: func(_ context.Context, r *rotate.Record, _ *rotate.Secrets, red *secret.Redactor) (rotate.Target,
			error) {
			t := &rootTarget{root: s, record: r}
			t.target = target{configs: s.configs, connect: t.connectAsRoot, red: red,
				keyLimitError: func(user string, keys []client.Key) error {
					i := max(slices.IndexFunc(keys, func(k client.Key) bool { return k.ID != r.Current.Key() }), 0)
					return fault.New("aws.rotateRoot", fault.Invalid,
						"user %s has two keys, as many as AWS allows, and "+
							"a scheduled rotation deletes none of them; delete %s, or write config/rotate-root, "+
							"which says "+
							"what it deletes", user, keys[i].ID)
				}}
			return t, nil
		},
		Missing: s.recordFromLegacy,
		Earlier: func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) { yield(rootKind, nil) }
		},
	}
}

// A rootTarget is the keys of the user of config/root. That key itself creates and deletes them.
type rootTarget struct {
	target
	root   *rootRotation
	record *rotate.Record
}

// Capabilities implements [rotate.Target].
func (t *rootTarget) Capabilities() rotate.Capabilities { return capabilities() }

// connectAsRoot returns a client of config/root and its user. The first call of a rotation asks
// AWS for the user, and the commit before the creating call stores it.
func (t *rootTarget) connectAsRoot(ctx context.Context) (*client.Client, string, func(), error) {
	c, _, err := t.root.clients.current(ctx)
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
	in, err := t.root.clients.accountOf(ctx, c)
	if err == nil {
		_, err = strandedKey(t.record, in)
	}
	return c, d.User, func() {}, err
}

// List implements [rotate.Lister]. When a key may have been created in an account that
// config/root no longer reaches, List gives up after the creating call can have no effect any
// more, and logs it.
func (t *rootTarget) List(ctx context.Context) ([]rotate.Listed, error) {
	out, err := t.target.List(ctx)
	turn := t.record.Turn
	if err == nil || turn == nil || !fault.Is(err, fault.Unavailable) {
		return out, err
	}
	if n := len(turn.Attempts); n == 0 || time.Now().Before(turn.Attempts[n-1].Late) {
		return out, err
	}
	c, _, aerr := t.root.clients.current(ctx)
	if aerr != nil {
		return nil, err
	}
	in, aerr := t.root.clients.accountOf(ctx, c)
	if aerr != nil {
		return nil, err
	}
	if id, away := strandedKey(t.record, in); away == nil || id != "" {
		return nil, err
	}
	d := rootDataOf(t.record)
	t.root.m.Log.Error("a key may be left that nobody knows, since config/root was written with one of another "+
		"account; look at the user's keys", "user", d.User, "account", d.Account, "made", turn.Started)
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

// Join implements [rotate.Joiner]. The commit that makes a key the current one writes it to
// config/root.
func (t *rootTarget) Join(ctx context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	cfg, err := t.root.configs.root(ctx)
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

// setCurrentKey makes the key pair that was written to config/root the current one. A key that a
// rotation in flight has created is deleted, unless it was published already.
func setCurrentKey(e *rotate.Edit, c *rootConfig) (undone bool) {
	rec, t := e.Rec, e.Rec.Turn
	rec.Current = nil
	if c.KeyID != "" {
		rec.Current = &rotate.Ref{ID: c.KeyID, At: e.Now, Adopted: true}
		e.Sec.Keys[c.KeyID] = rotate.Credential{ID: c.KeyID, Secret: map[string]secret.Value{secretField: c.Secret}}
	}
	e.Control().ResetFailures()
	switch {
	case t == nil:
	case t.Replaced():
		t.New = rec.Current
	default:
		t.Old = rec.Current
		if t.Back == nil {
			e.Control().RollBackUnpublished("config/root was written with another key", false)
			return true
		}
	}
	return false
}

// strandedKey returns an error if a rotation has left a key in an account that config/root does
// not reach any more, and the id of that key if it is known.
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
		return "", fault.New(op, fault.Unavailable, "it is not known whether the rotation at %s has created a key "+
			"for user %s in account %s, and config/root reaches account %s; write "+
			"config/root with a key of account %s",
			at, d.User, d.Account, in, d.Account)
	}
	return id, fault.New(op, fault.Upstream, "the rotation at %s has left the key %s of user %s in account %s, and "+
		"config/root reaches account %s; write config/root with a key of account %s, or delete that key there and "+
		"write rotate-root with replace_key=%s", at, id, d.User, d.Account, in, d.Account, id)
}

// userOf returns the name of the IAM user.
func userOf(who client.Identity) (string, error) {
	_, name, ok := strings.Cut(who.ARN, ":user/")
	if !ok {
		return "", invalid("the access_key of config/root belongs to %s, which is not an IAM user, so it cannot be "+
			"rotated; give the access key of an IAM user", who.ARN)
	}
	return name[strings.LastIndex(name, "/")+1:], nil
}
