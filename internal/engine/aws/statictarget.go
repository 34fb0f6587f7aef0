package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// kind is what [rotate] is told of static roles.
func (b statics) kind() rotate.Kind {
	return rotate.Kind{
		Name: staticKind, Noun: "static role", Style: rotate.TwoKey, Eager: true,
		Records: staticPrefix, Secrets: "ss/", History: "sh/", Journal: "sj/",
		Path: func(name string) string { return "static-roles/" + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"role": r.Name, "username": staticDataOf(r).User, "path": b.m.Settings().Path + "static-roles/" + r.Name}
		},
		Timing: staticTiming,
		Open:   b.open,
		Adopt:  upgradeStatic,
		Forget: func(r *rotate.Record) []storage.Op {
			s := staticDataOf(r)
			return []storage.Op{storage.Remove(s.ownerKey())}
		},
	}
}

// open readies the keys of a role's user.
func (b statics) open(_ context.Context, r *rotate.Record, sec *rotate.Secrets, red *secret.Redactor) (rotate.Target, error) {
	s := staticDataOf(r)
	return &staticTarget{record: r, secrets: sec, target: target{
		b: b.backend, propagation: s.Propagation, red: red,
		connect: func(ctx context.Context) (*client.Client, string, func(), error) {
			c, done, err := b.userClient(ctx, &s)
			return c, s.User, done, err
		},
		keyLimitError: func(user string, keys []client.Key) error {
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
	return t.call(ctx, true, func(ctx context.Context, c *client.Client, user string) error {
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

// userClient returns a client for the account of the role's user.
func (b statics) userClient(ctx context.Context, s *staticData) (*client.Client, func(), error) {
	c, _, err := b.client(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.AssumedRole.ARN == "" {
		return c, func() {}, b.checkAccount(ctx, c, "user "+s.User, s.Account)
	}
	r := client.SessionRequest{RoleARN: s.AssumedRole.ARN, Name: s.AssumedRole.Session, ExternalID: s.AssumedRole.ExternalID, TTL: shortestSession}
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
