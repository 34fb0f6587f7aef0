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

// A rootTarget sets the password of a connection's administrator.
type rootTarget struct {
	roots *rootRotation
	r     *rotate.Record
	c     *connection
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
	fresh, err := t.roots.m.Host.Password(ctx, t.c.Policy)
	return t.c.rotationCredential(credentialID(t.c.Username, t.r), fresh), err
}

// Verify implements [rotate.Target]. It rejects the password only if the database refuses a login
// with it; a connection that fails otherwise proves nothing.
func (t *rootTarget) Verify(ctx context.Context, c rotate.Credential) error {
	const op = "database.rotateRoot"
	password := c.Secret[secretField]
	refused, start := false, time.Now()
	err := t.roots.withPassword(ctx, t.c, password, func(conn Conn) error {
		err := conn.Verify(ctx)
		if err != nil {
			works, loginErr := conn.Login(ctx, t.c.Username, password)
			refused = loginErr == nil && !works
		}
		return err
	})
	record(&t.recorder, stepLogin, t.c, start, err)
	switch {
	case err == nil:
		return nil
	case refused:
		return &rotate.Failure{Outcome: rotate.Rejected, Err: fault.New(op, fault.Upstream,
			"the database refuses the password of %s at login: %s; check root_rotation_statements", t.c.Username,
			fault.Message(err))}
	}
	return &rotate.Failure{Outcome: rotate.Transient, Err: err}
}

// Set implements [rotate.Setter]. The administrator changes its own password, logged in by the
// previous one.
func (t *rootTarget) Set(ctx context.Context, from, to rotate.Credential) error {
	step, start := stepLogin, time.Now()
	err := t.roots.withPassword(ctx, t.c, from.Secret[secretField], func(conn Conn) error {
		if err := conn.Verify(ctx); err != nil {
			return MarkUnchanged(upstreamError("database.rotateRoot", err, t.c.redactor())) // only a login was tried
		}
		record(&t.recorder, step, t.c, start, nil)
		step, start = stepSet, time.Now()
		return conn.SetPassword(ctx, t.c.Username, to.Secret[secretField], t.c.RootSQL)
	}, to.Secret[secretField])
	record(&t.recorder, step, t.c, start, err)
	if err != nil {
		return rotationFailure(err)
	}
	return nil
}

// Join implements [rotate.Joiner]: the same commit writes the new password to the connection.
func (t *rootTarget) Join(ctx context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	c, err := t.roots.conns.byID(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if c == nil || c.Username != t.c.Username || c.serverID() != t.c.serverID() || !c.Password.Equal(t.c.Password) {
		return nil, fault.New("database.rotateRoot", fault.Conflict,
			"the connection %q was written during its rotation; the rotation is retried", t.c.Name)
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

func (s *rootRotation) openTarget(ctx context.Context, r *rotate.Record, secrets *rotate.Secrets,
	red *secret.Redactor) (rotate.Target, error) {
	c, err := s.conns.byID(ctx, r.Name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fault.New("database.rotateRoot", fault.NotFound,
			"the connection was deleted; its password is not changed any more")
	}
	c.syncCurrent(r, secrets)
	return &rootTarget{roots: s, r: r, c: c, recorder: recorder{red: red, quotes: len(c.RootSQL) > 0}},
		s.checkRotatable(c)
}

// kind describes the records of administrators' passwords to [rotate].
func (s *rootRotation) kind() rotate.Kind {
	dataOf := func(r *rotate.Record) (d rootData) {
		if err := json.Unmarshal(r.Data, &d); len(r.Data) > 0 && err != nil {
			s.m.Log.Error("the stored data of a rotation cannot be read", "connection", r.Name, "error", err)
		}
		return d
	}
	return rotate.Kind{
		Name: rootKind, Noun: "administrator's password of connection", Style: rotate.InPlace,
		Records: rootPrefix, Secrets: rootSecretPrefix, History: rootHistoryPrefix, Journal: rootJournalPrefix,
		RequestName: func(r *rotate.Record) string { return dataOf(r).Connection },
		Path:        func(name string) string { return "config/" + name },
		Details: func(r *rotate.Record) map[string]string {
			d := dataOf(r)
			return map[string]string{"connection": d.Connection, "username": d.Username,
				"path": s.m.Settings().Path + "config/" + d.Connection}
		},
		Timing:  func(r *rotate.Record) rotate.Timing { return rotate.Timing{When: dataOf(r).When} },
		Open:    s.openTarget,
		Missing: s.newRecord,
		Earlier: s.withoutRecord,
	}
}

// withoutRecord yields the ids of connections whose rows say that their administrator's password
// rotates, was rotated, or is being rotated. They may have no record yet.
func (s *rootRotation) withoutRecord(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range s.m.Store.Scan(ctx, string(connRows), storage.PrefixEnd(string(connRows))) {
			if err != nil {
				yield("", err)
				return
			}
			// It decodes the scanned row, because another read may fail, and must not hide a
			// rotation in flight.
			c, err := connRows.Decode(e)
			if err != nil || c.Name == "" || c.Root.When.Never() && c.Root.legacyRoot == (legacyRoot{}) {
				continue // the row is damaged, which its own routes report, or there is nothing to show
			}
			if !yield(strings.TrimPrefix(e.Key, string(connRows)), nil) {
				return
			}
		}
	}
}

// newRecord makes the record of a connection that has none. An earlier version stored the
// rotation in the connection's row.
func (s *rootRotation) newRecord(ctx context.Context, id string) (*rotate.Record, *rotate.Secrets, error) {
	c, err := s.conns.byID(ctx, id)
	if err != nil || c == nil {
		return nil, nil, err
	}
	old := c.Root.legacyRoot
	r := &rotate.Record{
		Name: id, Tag: rotate.NewTag(id), LastRotated: old.Last, Next: old.Next, Due: old.Due, Failures: old.Failed,
		LastError: old.Why,
	}
	secrets := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	if r.Data, err = c.rotationData(); err != nil {
		return nil, nil, err
	}
	c.syncCurrent(r, secrets)
	// the rotation in flight ends, and none starts, because nobody could read a new password
	if !c.DeletedAt.IsZero() {
		r.Gone, r.Next = true, time.Time{}
	}
	switch {
	case old.Turn && !c.PendingPassword.Empty():
		pending := c.rotationCredential(c.Username+"#1", c.PendingPassword)
		secrets.Keys[pending.ID] = pending
		r.Turns, r.Failures = 1, 0
		r.Turn = &rotate.Turn{
			N: 1, ID: r.Tag + "/1", Start: rotate.Start{Reason: "schedule"}, Started: old.Due, State: rotate.Setting,
			Attempts: []rotate.Attempt{{N: 1, At: old.Due}},
			New:      &rotate.Ref{ID: pending.ID, Account: pending.Account}, Old: r.Current, Tries: old.Failed,
		}
	case old.Failed > 0 && !r.Next.IsZero():
		r.Retry = old.Due
	}
	return r, secrets, nil
}
