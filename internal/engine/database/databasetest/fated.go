package databasetest

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Fate is the outcome of a call.
type Fate uint8

// The fates.
const (
	Well   Fate = iota // the call succeeds
	Before             // the call fails and has no effect
	Lost               // the call has its effect, and the reply is lost
	Hang               // the call has no effect, and no reply comes before the deadline
	Stuck              // the call has its effect, and no reply comes before the deadline
	Refuse             // the server answers, and refuses only this call
	// the reply is lost, and the effect comes later: a password's always, a create's unless it is
	// settled
	Late
	Blind // a login proves nothing from here
	Lie   // the call reports success, but has no effect
)

// A Fated is a connection whose calls have fates.
type Fated struct {
	database.Conn
	Fate func(call string) Fate
	// Late and LateSet are called for a create and a password change whose effect comes later.
	Late    func(u database.User, statements []string)
	LateSet func(name string, password secret.Value, statements []string)
	// Pass, if it is set, makes each call. If it returns an error, that is the answer, whether or
	// not the call was made.
	Pass func(call string, password secret.Value, make func()) error
}

// do decides the fate of a call and makes it.
func (c *Fated) do(ctx context.Context, call string, run func(ctx context.Context) error) error {
	return c.pass(call, secret.Value{}, func() error { return meet(ctx, c.Fate(call), call, run) })
}

func (c *Fated) pass(call string, password secret.Value, run func() error) (err error) {
	if c.Pass == nil {
		return run()
	}
	if passErr := c.Pass(call, password, func() { err = run() }); passErr != nil {
		return fault.Wrap("fated."+call, fault.Upstream, passErr)
	}
	return err
}

// meet makes a call according to its fate.
func meet(ctx context.Context, fate Fate, call string, run func(ctx context.Context) error) error {
	op := "fated." + call
	switch fate {
	case Before:
		return database.MarkUnchanged(fault.New(op, fault.Upstream, "the server cannot be reached"))
	case Refuse:
		return database.MarkRefused(fault.New(op, fault.Upstream, "the server refuses it"))
	case Lie:
		return nil
	case Lost:
		_ = run(context.WithoutCancel(ctx)) // the result is lost
		return fault.New(op, fault.Upstream, "the reply was lost")
	case Stuck:
		_ = run(context.WithoutCancel(ctx))
		fallthrough
	case Hang:
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute): // a caller without a deadline must not hang
		}
		return fault.New(op, fault.Timeout, "no reply came in time")
	}
	return run(ctx)
}

// Verify implements database.Conn.
func (c *Fated) Verify(ctx context.Context) error { return c.do(ctx, "verify", c.Conn.Verify) }

// Create implements database.Conn; its fate may be Late.
func (c *Fated) Create(ctx context.Context, u database.User, statements, rollback []string) error {
	return c.pass("create", secret.Value{}, func() error {
		fate := c.Fate("create")
		if fate == Late {
			c.Late(u, statements)
			return fault.New("fated.create", fault.Upstream, "the reply was lost")
		}
		return meet(ctx, fate, "create",
			func(ctx context.Context) error { return c.Conn.Create(ctx, u, statements, rollback) })
	})
}

// Renew implements database.Conn.
func (c *Fated) Renew(ctx context.Context, name string, expires time.Time, statements []string) error {
	return c.do(ctx, "renew", func(ctx context.Context) error { return c.Conn.Renew(ctx, name, expires, statements) })
}

// Disable implements database.Conn.
func (c *Fated) Disable(ctx context.Context, name string) error {
	return c.do(ctx, "disable", func(ctx context.Context) error { return c.Conn.Disable(ctx, name) })
}

// Drop implements database.Conn.
func (c *Fated) Drop(ctx context.Context, name string, o database.DropOptions) (r database.Report, err error) {
	err = c.do(ctx, "drop", func(ctx context.Context) error {
		r, err = c.Conn.Drop(ctx, name, o)
		return err
	})
	return r, err
}

// SetPassword implements database.Conn; its fate may be Late.
func (c *Fated) SetPassword(ctx context.Context, name string, password secret.Value, statements []string) error {
	return c.pass("set password", password, func() error {
		fate := c.Fate("set password")
		if fate == Late {
			c.LateSet(name, password, statements)
			return fault.New("fated.set password", fault.Upstream, "the reply was lost")
		}
		return meet(ctx, fate, "set password",
			func(ctx context.Context) error { return c.Conn.SetPassword(ctx, name, password, statements) })
	})
}

// Login implements database.Conn; its fate may be Blind.
func (c *Fated) Login(ctx context.Context, name string, password secret.Value) (ok bool, err error) {
	fate := c.Fate("login")
	if fate == Blind {
		return false,
			database.MarkUnchanged(fault.New("fated.login", fault.Unsupported, "%s cannot log in from here", name))
	}
	err = c.pass("login", secret.Value{}, func() error {
		return meet(ctx, fate, "login", func(ctx context.Context) (err error) {
			ok, err = c.Conn.Login(ctx, name, password)
			return err
		})
	})
	return ok && err == nil, err
}

// Exists implements database.Conn.
func (c *Fated) Exists(ctx context.Context, name string) (there bool, err error) {
	err = c.do(ctx, "exists", func(ctx context.Context) error {
		there, err = c.Conn.Exists(ctx, name)
		return err
	})
	return there, err
}

// SettleAttempt implements database.Conn.
func (c *Fated) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	err = c.do(ctx, "settle", func(ctx context.Context) error {
		settled, err = c.Conn.SettleAttempt(ctx, a)
		return err
	})
	return settled && err == nil, err
}

// SetKey implements database.KeyConn.
func (c *Fated) SetKey(ctx context.Context, name string, key database.Key, statements []string) error {
	return c.do(ctx, "set key",
		func(ctx context.Context) error { return c.Conn.(database.KeyConn).SetKey(ctx, name, key, statements) })
}

// LoginCertificate implements database.KeyConn.
func (c *Fated) LoginCertificate(ctx context.Context, name string, certificate tls.Certificate) (ok bool, err error) {
	err = c.do(ctx, "login", func(ctx context.Context) error {
		ok, err = c.Conn.(database.KeyConn).LoginCertificate(ctx, name, certificate)
		return err
	})
	return ok && err == nil, err
}
