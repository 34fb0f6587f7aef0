package aws

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// staticUsers acts on the users of static roles in AWS.
type staticUsers struct {
	m       *engine.Mount
	configs *configs
	clients *clients
}

// kind describes the records of static roles to [rotate].
func (s *staticUsers) kind() rotate.Kind {
	return rotate.Kind{
		Name: staticKind, Noun: "static role", Style: rotate.TwoKey, Eager: true,
		Records: staticPrefix, Secrets: "ss/", History: "sh/", Journal: "sj/",
		Path: func(name string) string { return "static-roles/" + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"role": r.Name, "username": staticDataOf(r).User,
				"path": s.m.Settings().Path + "static-roles/" + r.Name}
		},
		RollBack: func(name string) string { return "write rotate-role/" + name + " with roll_back=true" },
		Timing:   staticTiming,
		Open:     s.openTarget,
		Migrate:  upgradeStatic,
		Forget: func(r *rotate.Record) []storage.Op {
			d := staticDataOf(r)
			return []storage.Op{storage.Remove(d.ownerKey())}
		},
	}
}

func (s *staticUsers) openTarget(_ context.Context, r *rotate.Record, sec *rotate.Secrets,
	red *secret.Redactor) (rotate.Target, error) {
	d := staticDataOf(r)
	return &staticTarget{record: r, secrets: sec, target: target{
		configs: s.configs, propagation: d.Propagation, red: red,
		connect: func(ctx context.Context) (*client.Client, string, func(), error) {
			c, done, err := s.client(ctx, &d)
			return c, d.User, done, err
		},
		keyLimitError: func(user string, keys []client.Key) error {
			k := keys[0]
			if k.ID == r.Current.Key() {
				k = keys[len(keys)-1]
			}
			return fault.New("aws.rotate", fault.Invalid, "user %s has another access key, %s, that this role did "+
				"not create, and AWS allows two; delete it in AWS, "+
				"or write rotate-role with replace_key=%s", user, k.ID,
				k.ID)
		},
	}}, nil
}

// A staticTarget is the keys of a static role's user. A replaced key is inactive for a while
// before it is deleted.
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

// Retire implements [rotate.Creator]. An inactive key is deleted only after AWS refuses it
// everywhere, because its deletion cannot be undone.
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

// client returns a client for the account of the role's user, until done is called.
func (s *staticUsers) client(ctx context.Context, d *staticData) (c *client.Client, done func(), err error) {
	c, _, err = s.clients.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	if d.AssumedRole.ARN == "" {
		return c, func() {}, s.clients.checkAccount(ctx, c, "user "+d.User, d.Account)
	}
	r := client.SessionRequest{
		RoleARN: d.AssumedRole.ARN, Name: d.AssumedRole.Session, ExternalID: d.AssumedRole.ExternalID,
		TTL: shortestSession,
	}
	if r.Name == "" {
		r.Name = "keyturn"
	}
	session, err := c.AssumeRole(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	assumed, err := c.As(ctx, session.ID, session.Secret, session.Token)
	if err != nil {
		return nil, nil, err
	}
	return assumed, assumed.Close, nil
}
