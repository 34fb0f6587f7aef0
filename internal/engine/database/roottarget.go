package database

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A rootTarget is the administrator of a connection.
type rootTarget struct {
	b roots
	r *rotate.Record
	c *connection
	recorder
}

// Capabilities implements [rotate.Target].
func (t *rootTarget) Capabilities() rotate.Capabilities {
	return rotate.Capabilities{Proof: rotate.ProofUse, Retry: rotate.RetryNever}
}

// Settle implements [rotate.Target].
func (t *rootTarget) Settle() rotate.Settle { return rotate.Settle{} }

// Place implements [rotate.Target].
func (t *rootTarget) Place() *rotate.Place { return nil }

// VerifyDead implements [rotate.Target].
func (t *rootTarget) VerifyDead(context.Context, rotate.Credential) error { return errNoProof }

// Outdated implements [rotate.Outdater].
func (t *rootTarget) Outdated(c rotate.Credential) bool { return !belongsTo(c, t.c) }

// Generate implements [rotate.Setter].
func (t *rootTarget) Generate(ctx context.Context) (rotate.Credential, error) {
	fresh, err := t.b.m.Host.Password(ctx, t.c.Policy)
	return t.c.rotationCredential(credentialID(t.c.Username, t.r), fresh), err
}

// Verify implements [rotate.Target]. A connection that does not work is taken for a refusal only where the database was asked and
// says that it is one.
func (t *rootTarget) Verify(ctx context.Context, c rotate.Credential) error {
	const op = "database.rotateRoot"
	word := c.Secret[secretField]
	refused, began := false, time.Now()
	err := t.b.asRoot(ctx, t.c, word, func(conn Conn) error {
		err := conn.Verify(ctx)
		if err != nil {
			works, lerr := conn.Login(ctx, t.c.Username, word)
			refused = lerr == nil && !works
		}
		return err
	})
	said(&t.recorder, stepLogin, t.c, began, err)
	switch {
	case err == nil:
		return nil
	case refused:
		return &rotate.Failure{Outcome: rotate.Rejected, Err: fault.New(op, fault.Upstream, "the database refuses the password of %s at login: %s; check root_rotation_statements", t.c.Username, fault.Message(err))}
	}
	return &rotate.Failure{Outcome: rotate.Transient, Err: err}
}

// Set implements [rotate.Setter], as the administrator by the password of before.
func (t *rootTarget) Set(ctx context.Context, from, to rotate.Credential) error {
	step, began := stepLogin, time.Now()
	err := t.b.asRoot(ctx, t.c, from.Secret[secretField], func(conn Conn) error {
		if err := conn.Verify(ctx); err != nil {
			return MarkUnchanged(upstreamError("database.rotateRoot", err, t.c.redactor())) // only a login was tried
		}
		said(&t.recorder, step, t.c, began, nil)
		step, began = stepSet, time.Now()
		return conn.SetPassword(ctx, t.c.Username, to.Secret[secretField], t.c.RootSQL)
	}, to.Secret[secretField])
	said(&t.recorder, step, t.c, began, err)
	if err != nil {
		return rotationFailure(err)
	}
	return nil
}

// Join implements [rotate.Joiner]: the connection has the new password from the same commit on.
func (t *rootTarget) Join(ctx context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	c, err := t.b.byID(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if c == nil || c.Username != t.c.Username || c.serverID() != t.c.serverID() || !c.Password.Equal(t.c.Password) {
		return nil, fault.New("database.rotateRoot", fault.Conflict, "the connection %q was written during its rotation; the rotation is retried", t.c.Name)
	}
	if !c.Root.Generated {
		c.Root.Replaced = append(c.Root.Replaced, c.passwordDigest(c.Password))
		c.Root.Replaced = c.Root.Replaced[max(len(c.Root.Replaced)-mostReplaced, 0):]
	}
	c.Password, c.Root.Generated = s.Keys[r.Current.ID].Secret[secretField], true
	c.Root.legacyRoot, c.PendingPassword = legacyRoot{}, secret.Value{}
	c.Revision++
	op, err := c.storeOp()
	return []storage.Op{op}, err
}

func (b roots) open(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (rotate.Target, error) {
	c, err := b.byID(ctx, r.Name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fault.New("database.rotateRoot", fault.NotFound, "the connection was deleted; its password is not changed any more")
	}
	c.syncCurrent(r, s)
	return &rootTarget{b: b, r: r, c: c, recorder: recorder{red: red, quotes: len(c.RootSQL) > 0}}, b.checkRotatable(c)
}

// rotation is how administrators' passwords rotate.
func (b roots) rotation() rotate.Kind {
	of := func(r *rotate.Record) (d rootData) {
		if err := json.Unmarshal(r.Data, &d); len(r.Data) > 0 && err != nil {
			b.m.Log.Error("what is stored of a rotation cannot be read", "connection", r.Name, "error", err)
		}
		return d
	}
	return rotate.Kind{
		Name: rootKind, Noun: "administrator's password of connection", Style: rotate.InPlace,
		Records: rootPrefix, Secrets: rootSecretPrefix, History: rootHistoryPrefix, Journal: rootJournalPrefix,
		Called: func(r *rotate.Record) string { return of(r).Connection },
		Path:   func(name string) string { return "config/" + name },
		Details: func(r *rotate.Record) map[string]string {
			d := of(r)
			return map[string]string{"connection": d.Connection, "username": d.Username, "path": b.m.Settings().Path + "config/" + d.Connection}
		},
		Timing:  func(r *rotate.Record) rotate.Timing { return rotate.Timing{When: of(r).When} },
		Open:    b.open,
		Missing: b.missing,
		Earlier: b.earlier,
	}
}

// earlier are the connections whose administrator's password rotates, or has rotated, or is being
// rotated, by what their rows say.
func (b roots) earlier(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range b.m.Store.Scan(ctx, connPrefix, storage.PrefixEnd(connPrefix)) {
			if err != nil {
				yield("", err)
				return
			}
			// The row in hand is read: a store that fails must not make a connection look as if nothing were under way.
			c, err := decodeConnection(e)
			if err != nil || c.Name == "" || c.Root.When.Never() && c.Root.legacyRoot == (legacyRoot{}) {
				continue // damaged, which its own routes say, or nothing to show
			}
			if !yield(strings.TrimPrefix(e.Key, connPrefix), nil) {
				return
			}
		}
	}
}

// missing makes the record of a connection that has none, of what an earlier version has kept in the connection's row.
func (b roots) missing(ctx context.Context, id string) (*rotate.Record, *rotate.Secrets, error) {
	c, err := b.byID(ctx, id)
	if err != nil || c == nil {
		return nil, nil, err
	}
	old := c.Root.legacyRoot
	r := &rotate.Record{Name: id, Tag: rotate.NewTag(id), LastRotated: old.Last, Next: old.Next, Due: old.Due, Failures: old.Failed, LastError: old.Why}
	s := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	if r.Data, err = c.rotationData(); err != nil {
		return nil, nil, err
	}
	c.syncCurrent(r, s)
	if !c.DeletedAt.IsZero() { // nobody could be told of another one: what is under way ends, and none begins
		r.Gone, r.Next = true, time.Time{}
	}
	switch {
	case old.Turn && !c.PendingPassword.Empty():
		fresh := c.rotationCredential(c.Username+"#1", c.PendingPassword)
		s.Keys[fresh.ID] = fresh
		r.Turns, r.Failures = 1, 0
		r.Turn = &rotate.Turn{
			N: 1, ID: r.Tag + "/1", Start: rotate.Start{Reason: "schedule"}, Started: old.Due, State: rotate.Setting, Attempts: []rotate.Attempt{{N: 1, At: old.Due}},
			New: &rotate.Ref{ID: fresh.ID, Account: fresh.Account}, Old: r.Current, Tries: old.Failed,
		}
	case old.Failed > 0 && !r.Next.IsZero():
		r.Retry = old.Due
	}
	return r, s, nil
}
