package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// rootData is what the record keeps for this engine, of the connection that it is named by.
type rootData struct {
	Connection string    `json:"connection"` // its name
	Username   string    `json:"username"`
	When       cron.When `json:"when"`
}

// roots are the routes and the rotation of administrators' passwords.
type roots struct{ *backend }

// rootKind is the kind of the records and the due items of administrators' passwords.
const rootKind = "root"

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

// passwordDigest is of a password, for comparing. The id keeps equal passwords of two connections apart.
func (c *connection) passwordDigest(password secret.Value) []byte {
	h := hmac.New(sha256.New, []byte(c.ID))
	h.Write(password.Reveal())
	return h.Sum(nil)
}

// wasReplaced reports whether a password was rotated away.
func (c *connection) wasReplaced(password secret.Value) bool {
	d := c.passwordDigest(password)
	for _, r := range c.Root.Replaced {
		if hmac.Equal(r, d) {
			return true
		}
	}
	return false
}

// rotationData is what the record of a connection keeps for this engine.
func (c *connection) rotationData() (json.RawMessage, error) {
	d, err := json.Marshal(rootData{c.Name, c.Username, c.Root.When})
	return d, fault.Wrap("database.root", fault.Internal, err)
}

func (c *connection) rotationCredential(id string, password secret.Value) rotate.Credential {
	return rotate.Credential{ID: id, Account: c.Username, Secret: map[string]secret.Value{secretField: password}, Public: map[string]string{serverField: c.serverID()}}
}

// syncCurrent has the record say which password the connection has: writes of the connection change that.
func (c *connection) syncCurrent(r *rotate.Record, s *rotate.Secrets) {
	if now, known := s.Keys[r.Current.Key()]; known && now.Account == c.Username && now.Secret[secretField].Equal(c.Password) && belongsTo(now, c) {
		return
	}
	delete(s.Keys, r.Current.Key())
	given := c.rotationCredential(fmt.Sprintf("%s#%d.given", c.Username, r.Turns), c.Password)
	r.Current = &rotate.Ref{ID: given.ID, Account: given.Account, Adopted: true}
	s.Keys[given.ID] = given
}

// rotationNumber is the number of the rotation in flight; 0: none.
func rotationNumber(r *rotate.Record) uint32 {
	if r.Turn == nil {
		return 0
	}
	return r.Turn.N
}

// mostReplaced bounds how many are remembered.
const mostReplaced = 32

// checkRotatable says why the administrator's password cannot be rotated.
func (b roots) checkRotatable(c *connection) error {
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
	return new(credentialConfig).checkRotation(p, rootStatements, c.RootSQL)
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
	return rotationNumber(e.Rec), nil
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
			b.pools.settle(rootPrefix+c.ID, rotationNumber(e.Rec))
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

// still asserts that there is no record, if there was none: another server may begin a rotation meanwhile.
func (b roots) still(e *rotate.Edit) (ops []storage.Op) {
	if e.New() {
		ops = append(ops, storage.Expect(rootPrefix+e.Rec.Name, 0))
	}
	return ops
}

// asRoot connects as the administrator by a password, and does something there.
func (b roots) asRoot(ctx context.Context, c *connection, password secret.Value, do func(conn Conn) error, known ...secret.Value) error {
	const op = "database.rotateRoot"
	red := c.redactor(append(known, password)...)
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	conn, err := p.Connect(ctx, c.configAs(b.m, c.Username, password))
	if err != nil {
		return MarkUnchanged(upstreamError(op, err, red))
	}
	defer b.pools.shut(&pool{conn: conn})
	if err := do(conn); err != nil {
		return upstreamError(op, err, red)
	}
	return nil
}
