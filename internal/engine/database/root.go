package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// rootKind is the due work of an administrator's password.
const rootKind = "root"

// root is the rotation of the administrator's password of a connection. The new password
// is durable before the database hears of it. Until one of the two is known to be the
// right one, nothing else uses the connection: that finds out first.
type root struct {
	When   cron.When `json:"when,omitzero"`
	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"`
	Due    time.Time `json:"due,omitzero"` // where the due item is
	Turn   bool      `json:"turn,omitempty"`
	Sent   bool      `json:"sent,omitempty"`   // the database may have changed it
	Usable bool      `json:"usable,omitempty"` // the old one worked after the last try, which has ended
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`
	// Replaced are digests of the passwords that were written and rotated away, newest last: a
	// configuration that is written again from a file must not bring one back. Those that were made here nobody can write.
	Replaced [][]byte `json:"replaced,omitempty"`
	Made     bool     `json:"made,omitempty"` // the password of now was made here
}

// roots are the routes and the work of administrators' passwords.
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

// saveRoot commits a connection with its due item at a time, and more.
func (b roots) saveRoot(ctx context.Context, c *connection, at time.Time, more commit) error {
	from := c.Root.Due
	c.Root.Due = tick(from, at)
	op, err := c.put()
	if err != nil {
		return err
	}
	c.stored, err = b.m.Store.CommitWith(ctx, append(more.ops, op), append(more.abs, b.m.Host.Schedule(rootKind, c.ID, from, c.Root.Due)...))
	return err
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

// rotateRoot changes the administrator's password, on request.
func (b roots) rotateRoot(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	return route.None{}, b.exclusively(ctx, namePrefix+in.Name, func() error {
		c, err := b.byName(ctx, in.Name)
		if err == nil && c == nil {
			err = fault.New("database.rotateRoot", fault.Invalid, "there is no connection %q; list config/", in.Name)
		}
		if err != nil {
			return err
		}
		if err := b.turnRoot(ctx, c); err != nil {
			return err
		}
		return b.warnOfShared(ctx, r, c)
	})
}

// turnRoot rotates now, or goes on with what was begun. The connection's lock is held.
func (b roots) turnRoot(ctx context.Context, c *connection) error {
	if c.Root.Turn {
		return b.finishRoot(ctx, c)
	}
	if err := b.canTurn(c); err != nil {
		return err
	}
	fresh, err := b.m.Host.Password(ctx, c.Policy)
	if err != nil {
		return err
	}
	c.Fresh, c.Root.Turn, c.Root.Sent = fresh, true, false
	if err := b.saveRoot(ctx, c, time.Now().Add(resumeAfter), commit{}); err != nil {
		return err
	}
	return b.finishRoot(ctx, c)
}

// finishRoot makes one try of what was begun, and commits what came of it.
func (b roots) finishRoot(ctx context.Context, c *connection) error {
	calls, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnWithin)
	defer cancel()
	if c.Root.Usable {
		c.Root.Usable = false
		if err := b.saveRoot(calls, c, time.Now().Add(resumeAfter), commit{}); err != nil {
			return err
		}
	}
	if err := b.setRoot(calls, c); err != nil {
		return b.failedRoot(calls, c, err)
	}
	now := time.Now().UTC()
	if !c.Root.Made {
		c.Root.Replaced = append(c.Root.Replaced, c.digest(c.Password))
		c.Root.Replaced = c.Root.Replaced[max(len(c.Root.Replaced)-mostReplaced, 0):]
	}
	c.Password, c.Fresh, c.Root.Made = c.Fresh, secret.Value{}, true
	c.Root.Turn, c.Root.Sent, c.Root.Failed, c.Root.Why = false, false, 0, ""
	c.Root.Last, c.Root.Next = now, c.Root.When.Next(now, now)
	c.Revision++
	event := b.m.Host.Event("database/root", engine.Details(map[string]string{"connection": c.Name, "username": c.Username, "path": b.m.Settings().Path + "config/" + c.Name})...)
	if err := b.saveRoot(context.WithoutCancel(ctx), c, c.Root.Next, commit{abs: []storage.Op{event}}); err != nil {
		return err
	}
	b.pools.retire(c.ID)
	return nil
}

// setRoot brings the database to take the new password, whatever it takes now.
func (b roots) setRoot(ctx context.Context, c *connection) error {
	if c.Root.Sent && b.asRoot(ctx, c, c.Fresh, nil) == nil {
		return nil // an earlier try has done it
	}
	err := b.asRoot(ctx, c, c.Password, func(conn Conn) error {
		return conn.SetPassword(ctx, c.Username, c.Fresh, c.RootSQL)
	})
	if err != nil {
		return err
	}
	if err := b.asRoot(ctx, c, c.Fresh, nil); err != nil {
		c.Root.Usable = b.asRoot(ctx, c, c.Password, nil) == nil
		return fault.New("database.rotateRoot", fault.Upstream, "the new password of %s was set and does not work: %s; check root_rotation_statements", c.Username, fault.Message(err))
	}
	return nil
}

// asRoot logs in as the administrator by a password, and does something there.
func (b roots) asRoot(ctx context.Context, c *connection, password secret.Value, do func(conn Conn) error) error {
	const op = "database.rotateRoot"
	known := c.redactor(c.Fresh)
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	conn, err := p.Connect(ctx, c.as(b.m, c.Username, password))
	if err != nil {
		return outside(op, err, known)
	}
	defer b.pools.shut(&pool{conn: conn})
	if err := conn.Verify(ctx); err != nil {
		f := outside(op, err, known)
		// Only a login was tried: the password is what it was.
		return MarkUnchanged(f)
	}
	if do == nil {
		return nil
	}
	if err := do(conn); err != nil {
		return outside(op, err, known)
	}
	return nil
}

// failedRoot notes that a try has failed, and when the next one is made. One that surely
// changed nothing ends there: the old password is the right one. It returns why.
func (b roots) failedRoot(ctx context.Context, c *connection, why error) error {
	now := time.Now().UTC()
	c.Root.Failed++
	c.Root.Why = fault.Message(why)
	c.Root.Sent = c.Root.Sent || !Unchanged(why)
	at := cron.Retry(c.Root.Failed, now)
	if !c.Root.Sent {
		c.Root.Turn, c.Fresh = false, secret.Value{}
		if c.Root.Next.IsZero() {
			at = time.Time{} // it was asked for, and whoever asked is told
		} else {
			var over bool
			if at, over = c.Root.When.Again(c.Root.Next, c.Root.Last, c.Root.Failed, now); over {
				c.Root.Next, c.Root.Failed = at, 0
			}
		}
	}
	b.m.Log.Warn("rotating an administrator's password failed", "connection", c.Name, "failures", c.Root.Failed, "outcome_known", !c.Root.Sent, "next_try", at, "error", why)
	event := b.m.Host.Event("database/root-failed", engine.Details(map[string]string{"connection": c.Name, "failures": strconv.Itoa(c.Root.Failed), "path": b.m.Settings().Path + "config/" + c.Name})...)
	if err := b.saveRoot(context.WithoutCancel(ctx), c, at, commit{abs: []storage.Op{event}}); err != nil {
		b.m.Log.Error("keeping why an administrator's password was not rotated", "connection", c.Name, "error", err)
	}
	return why
}

// rooted returns the connection once it is known which of its passwords is the right one.
func (b roots) rooted(ctx context.Context, c *connection) (*connection, error) {
	if !c.Root.Turn || c.Root.waits() {
		return c, nil
	}
	release, err := b.locks.Take(ctx, namePrefix+c.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	now, err := b.byID(ctx, c.ID)
	switch {
	case err != nil:
		return nil, err
	case now == nil:
		return c, nil
	case now.Root.Turn && !now.Root.waits():
		if err := b.finishRoot(ctx, now); !now.Root.waits() {
			return now, err
		}
	}
	return now, nil
}

// waits reports whether the connection can be used by the old password until the next try.
func (r *root) waits() bool { return r.Turn && r.Usable && time.Now().Before(r.Due) }

// workRoot is what the due item of an administrator's password brings.
func (b roots) workRoot(ctx context.Context, id string) error {
	c, err := b.byID(ctx, id)
	if err != nil || c == nil {
		return err
	}
	release, err := b.locks.Take(ctx, namePrefix+c.Name)
	if err != nil {
		return err
	}
	defer release()
	c, err = b.byID(ctx, id)
	now := time.Now().UTC()
	switch {
	case err != nil || c == nil:
		return err
	case c.Root.Due.IsZero() || c.Root.Due.After(now):
		return nil // moved meanwhile
	case !c.Root.Turn && (c.Root.Next.IsZero() || !c.Gone.IsZero()):
		return b.saveRoot(ctx, c, time.Time{}, commit{})
	case !c.Root.Turn && c.Root.Failed == 0 && c.Root.Next.After(now):
		return b.saveRoot(ctx, c, c.Root.Next, commit{})
	case !c.Root.Turn && c.Root.When.Missed(c.Root.Next, now):
		b.m.Log.Warn("the window of an administrator's rotation was missed", "connection", c.Name, "was", c.Root.Next)
		if c.Root.Failed == 0 { // else it says what failed
			c.Root.Why = missedWindow(c.Root.Next)
		}
		c.Root.Next, c.Root.Failed = c.Root.When.Next(c.Root.Last, now), 0
		event := b.m.Host.Event("database/root-failed", engine.Details(map[string]string{"connection": c.Name, "failures": "0", "path": b.m.Settings().Path + "config/" + c.Name})...)
		return b.saveRoot(ctx, c, c.Root.Next, commit{abs: []storage.Op{event}})
	}
	due := c.Root.Due
	err = b.m.Host.Audited(ctx, engine.Automatic{
		Operation: "rotate", Path: b.m.Settings().Path + "config/" + c.Name, Detail: map[string]string{"connection": c.Name, "username": c.Username},
	}, func(ctx context.Context) error {
		err := b.turnRoot(ctx, c)
		if err != nil && c.Root.Due.Equal(due) { // refused before anything was begun
			return b.failedRoot(ctx, c, MarkUnchanged(outside("database.rotateRoot", err, c.redactor())))
		}
		return err
	})
	if err != nil && !c.Root.Due.Equal(due) {
		return nil // noted, and tried again at its time
	}
	return err
}
