package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys of the rotation of administrators' passwords, below the mount; [rotate] keeps them:
//
//	root/<id>, rts/<id>, rth/<id>/, rtj/<id>/  that of a connection, its secrets, its history and its journal
//
// The password in force is in the connection's row, which is written in the commit by which a new one becomes current. While it is
// not known which of two is the right one, nothing else uses the connection: that finds out first.
const (
	rootPrefix        = "root/"
	rootSecretPrefix  = "rts/"
	rootHistoryPrefix = "rth/"
	rootJournalPrefix = "rtj/"
)

// rootKind is the kind of the records and the due items of administrators' passwords.
const rootKind = "root"

// root is what a connection keeps of the rotation of its administrator's password.
type root struct {
	When cron.When `json:"when,omitzero"`
	// Replaced are digests of the passwords that were written and rotated away, newest last: a
	// configuration that is written again from a file must not bring one back. Those that were made here nobody can write.
	Replaced [][]byte `json:"replaced,omitempty"`
	Made     bool     `json:"made,omitempty"` // the password of now was made here
	oldRoot
}

// oldRoot is the state of a rotation as an earlier version has kept it: it counts until there is a record.
type oldRoot struct {
	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"`
	Due    time.Time `json:"due,omitzero"` // where the due item is
	Turn   bool      `json:"turn,omitempty"`
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`
}

// rootData is what the record keeps for this engine, of the connection that it is named by.
type rootData struct {
	Connection string    `json:"connection"` // its name
	Username   string    `json:"username"`
	When       cron.When `json:"when"`
}

// roots are the routes and the rotation of administrators' passwords.
type roots struct{ *backend }

// mostReplaced bounds how many are remembered.
const mostReplaced = 32

// digest is of a password, for comparing. The id keeps equal passwords of two connections apart.
func (c *connection) digest(password secret.Value) []byte {
	h := hmac.New(sha256.New, []byte(c.ID))
	h.Write(password.Reveal())
	return h.Sum(nil)
}

// replaced reports whether a password was rotated away.
func (c *connection) replaced(password secret.Value) bool {
	d := c.digest(password)
	for _, r := range c.Root.Replaced {
		if hmac.Equal(r, d) {
			return true
		}
	}
	return false
}

// canTurn says why the administrator's password cannot be rotated.
func (b roots) canTurn(c *connection) error {
	const op = "database.rotateRoot"
	p, err := b.provider(c.Plugin)
	switch url := c.URL.RevealString(); {
	case err != nil:
		return err
	case c.Username == "" || c.Password.Empty():
		return fault.New(op, fault.Invalid, "connection %q has no username and password of its own to rotate; write both into config/%s", c.Name, c.Name)
	case p.Display(c.URL) != url:
		return fault.New(op, fault.Invalid, "the password of connection %q is written into connection_url, where it cannot be rotated; write {{username}} and {{password}} there, and the two as fields of their own", c.Name)
	case strings.Contains(url, "://") && !strings.Contains(url, "{{password}}"):
		return fault.New(op, fault.Invalid, "connection_url of %q does not use {{password}}, so that rotating it would have no effect", c.Name)
	}
	return new(credential).changes(p, rootStatements, c.RootSQL)
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
			id := strings.TrimPrefix(e.Key, connPrefix)
			c, err := b.byID(ctx, id)
			if err != nil || c == nil || c.Name == "" || c.Root.When.Never() && c.Root.oldRoot == (oldRoot{}) {
				continue // damaged, which its own routes say, or nothing to show
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

// data is what the record of a connection keeps for this engine.
func (c *connection) data() (json.RawMessage, error) {
	d, err := json.Marshal(rootData{c.Name, c.Username, c.Root.When})
	return d, fault.Wrap("database.root", fault.Internal, err)
}

// missing makes the record of a connection that has none, of what an earlier version has kept in the connection's row.
func (b roots) missing(ctx context.Context, id string) (*rotate.Record, *rotate.Secrets, error) {
	c, err := b.byID(ctx, id)
	if err != nil || c == nil {
		return nil, nil, err
	}
	old := c.Root.oldRoot
	r := &rotate.Record{Name: id, Tag: rotate.NewTag(id), LastRotated: old.Last, Next: old.Next, Due: old.Due, Failures: old.Failed, LastError: old.Why}
	s := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	if r.Data, err = c.data(); err != nil {
		return nil, nil, err
	}
	c.current(r, s)
	if !c.Gone.IsZero() { // nobody could be told of another one: what is under way ends, and none begins
		r.Gone, r.Next = true, time.Time{}
	}
	switch {
	case old.Turn && !c.Fresh.Empty():
		fresh := c.credential(c.Username+"#1", c.Fresh)
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

func (c *connection) credential(id string, password secret.Value) rotate.Credential {
	return rotate.Credential{ID: id, Account: c.Username, Secret: map[string]secret.Value{wordKey: password}, Public: map[string]string{placeKey: c.place()}}
}

// current has the record say which password the connection has: writes of the connection change that.
func (c *connection) current(r *rotate.Record, s *rotate.Secrets) {
	if now, known := s.Keys[r.Current.Key()]; known && now.Account == c.Username && now.Secret[wordKey].Equal(c.Password) && at(now, c) {
		return
	}
	delete(s.Keys, r.Current.Key())
	given := c.credential(fmt.Sprintf("%s#%d.given", c.Username, r.Turns), c.Password)
	r.Current = &rotate.Ref{ID: given.ID, Account: given.Account, Adopted: true}
	s.Keys[given.ID] = given
}

// still asserts that there is no record, if there was none: another server may begin a rotation meanwhile.
func (b roots) still(e *rotate.Edit) (ops []storage.Op) {
	if e.New() {
		ops = append(ops, storage.Expect(rootPrefix+e.Rec.Name, 0))
	}
	return ops
}

func (b roots) open(ctx context.Context, r *rotate.Record, s *rotate.Secrets, _ *secret.Redactor) (rotate.Target, error) {
	c, err := b.byID(ctx, r.Name)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fault.New("database.rotateRoot", fault.NotFound, "the connection was deleted; its password is not changed any more")
	}
	c.current(r, s)
	return &rootTarget{b: b, r: r, c: c}, b.canTurn(c)
}

// A rootTarget is the administrator of a connection.
type rootTarget struct {
	b roots
	r *rotate.Record
	c *connection
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
func (t *rootTarget) VerifyDead(context.Context, rotate.Credential) error { return errNotAsked }

// Outdated implements [rotate.Outdater].
func (t *rootTarget) Outdated(c rotate.Credential) bool { return !at(c, t.c) }

// Generate implements [rotate.Setter].
func (t *rootTarget) Generate(ctx context.Context) (rotate.Credential, error) {
	fresh, err := t.b.m.Host.Password(ctx, t.c.Policy)
	return t.c.credential(generation(t.c.Username, t.r), fresh), err
}

// Verify implements [rotate.Target]. A connection that does not work is taken for a refusal only where the database was asked and
// says that it is one.
func (t *rootTarget) Verify(ctx context.Context, c rotate.Credential) error {
	const op = "database.rotateRoot"
	word := c.Secret[wordKey]
	refused := false
	err := t.b.asRoot(ctx, t.c, word, func(conn Conn) error {
		err := conn.Verify(ctx)
		if err != nil {
			works, lerr := conn.Login(ctx, t.c.Username, word)
			refused = lerr == nil && !works
		}
		return err
	})
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
	err := t.b.asRoot(ctx, t.c, from.Secret[wordKey], func(conn Conn) error {
		if err := conn.Verify(ctx); err != nil {
			return MarkUnchanged(outside("database.rotateRoot", err, t.c.redactor())) // only a login was tried
		}
		return conn.SetPassword(ctx, t.c.Username, to.Secret[wordKey], t.c.RootSQL)
	}, to.Secret[wordKey])
	if err != nil {
		return failure(err)
	}
	return nil
}

// Join implements [rotate.Joiner]: the connection has the new password from the same commit on.
func (t *rootTarget) Join(ctx context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	c, err := t.b.byID(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if c == nil || c.Username != t.c.Username || c.place() != t.c.place() || !c.Password.Equal(t.c.Password) {
		return nil, fault.New("database.rotateRoot", fault.Conflict, "the connection %q was written during its rotation; the rotation is retried", t.c.Name)
	}
	if !c.Root.Made {
		c.Root.Replaced = append(c.Root.Replaced, c.digest(c.Password))
		c.Root.Replaced = c.Root.Replaced[max(len(c.Root.Replaced)-mostReplaced, 0):]
	}
	c.Password, c.Root.Made = s.Keys[r.Current.ID].Secret[wordKey], true
	c.Root.oldRoot, c.Fresh = oldRoot{}, secret.Value{}
	c.Revision++
	op, err := c.put()
	return []storage.Op{op}, err
}

// asRoot connects as the administrator by a password, and does something there.
func (b roots) asRoot(ctx context.Context, c *connection, password secret.Value, do func(conn Conn) error, known ...secret.Value) error {
	const op = "database.rotateRoot"
	red := c.redactor(append(known, password)...)
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	conn, err := p.Connect(ctx, c.as(b.m, c.Username, password))
	if err != nil {
		return MarkUnchanged(outside(op, err, red))
	}
	defer b.pools.shut(&pool{conn: conn})
	if err := do(conn); err != nil {
		return outside(op, err, red)
	}
	return nil
}

// rotateRoot changes the administrator's password, on request.
func (b roots) rotateRoot(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	return route.None{}, b.exclusively(ctx, namePrefix+in.Name, func() error {
		c, err := b.byName(ctx, in.Name)
		if err == nil && c == nil {
			err = fault.New("database.rotateRoot", fault.Invalid, "there is no connection %q; list config/", in.Name)
		}
		if err == nil {
			err = b.canTurn(c)
		}
		if err == nil {
			err = b.drive(ctx, c)
		}
		if err != nil {
			return err
		}
		return b.warnOfShared(ctx, r, c)
	})
}

// drive goes on with the rotation of a connection's password, or makes one.
func (b roots) drive(ctx context.Context, c *connection) error {
	defer b.pools.retire(c.ID)
	return b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) (err error) {
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		if e.Rec.Data, err = c.data(); err != nil {
			return err
		}
		return driven(ctx, e, "request", func() error { return nil })
	})
}

// rotating reports whether a rotation of the password is under way, so that nobody may know which one is right.
func (b roots) rotating(ctx context.Context, c *connection) (bool, error) {
	turn, err := b.turn(ctx, c)
	return turn != 0, err
}

// turn is the number of the rotation that is under way; 0: none.
func (b roots) turn(ctx context.Context, c *connection) (uint32, error) {
	row, err := b.m.Store.Get(ctx, rootPrefix+c.ID)
	if err != nil || row.Version == 0 && !c.Root.Turn { // that is of before there were records
		return 0, err
	}
	e, err := b.rotations.View(ctx, rootKind, c.ID)
	if err != nil || e == nil {
		return 0, err
	}
	return inFlight(e.Rec), nil
}

// inFlight is the number of the rotation in flight; 0: none.
func inFlight(r *rotate.Record) uint32 {
	if r.Turn == nil {
		return 0
	}
	return r.Turn.N
}

// rooted returns the connection once it is known which of its passwords is the right one.
func (b roots) rooted(ctx context.Context, c *connection) (*connection, error) {
	turn, err := b.turn(ctx, c)
	if err != nil || turn == 0 || b.pools.settled(rootPrefix+c.ID, turn) {
		return c, err
	}
	err = b.rotations.Change(ctx, rootKind, c.ID, nil, func(e *rotate.Edit) error {
		err := e.Control().FindOut(ctx)
		if err == nil {
			b.pools.settle(rootPrefix+c.ID, inFlight(e.Rec))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	now, err := b.byID(ctx, c.ID)
	if err != nil || now == nil {
		return c, err
	}
	return now, nil
}
