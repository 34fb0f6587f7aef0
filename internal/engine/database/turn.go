package database

import (
	"context"
	"errors"
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

// A turn of a static role:
//
//	begun      the new password is durable, next to the old one
//	sent       the database may have been told: this is durable before it is
//	proven     a login with the new password succeeded
//	over       the new password is the one that is given out
//
// Whatever dies in between, the next try sets the same password again. One that the database
// surely does not have is made anew at each try, by the policy of then: it may be against
// the database's rules. So is one that is refused again and again after a try of unknown outcome.
const (
	turnWithin  = 20 * time.Second // all calls of one try
	resumeAfter = 30 * time.Second // a try that died is taken up
	refusals    = 3                // of one password, before it is made anew
)

// begin makes a new password, and notes in s that it is to be set.
func (b statics) begin(ctx context.Context, s *static, c *connection, by string, now time.Time) error {
	user := s.Current
	if len(s.Users) > 1 && !s.Passwords[s.Current].Empty() {
		user = 1 - s.Current
	}
	fresh, err := b.newCredential(ctx, s, c, s.Users[user])
	if err != nil {
		return err
	}
	s.Fresh, s.Turn = fresh, &turn{User: user, By: by, At: now}
	return nil
}

// rotate turns a static role now, or goes on with a turn that was begun. Its lock is held.
func (b statics) rotate(ctx context.Context, name string, s *static, by string) error {
	now := time.Now().UTC()
	c, err := b.serving(ctx, name, s)
	switch {
	case err != nil:
	case s.Turn == nil, !s.Turn.Sent:
		err = b.begin(ctx, s, c, by, now)
	case !s.at(c): // it may be the password where the connection led then
		s.Turn.Sent = false
		s.Fresh, err = b.newCredential(ctx, s, c, s.Users[s.Turn.User])
	}
	if err != nil {
		return b.failed(ctx, name, s, err)
	}
	unsent, ended := !s.Turn.Sent, s.as(s.Fresh).ended(now)
	if ended { // of no use any more, and nobody was given it
		if err := b.remake(ctx, s); err != nil {
			return b.failed(ctx, name, s, err)
		}
	}
	if unsent || ended { // from here on, whoever finds the record must ask the database
		s.Turn.Sent = true
		if err := b.save(ctx, name, s, now.Add(resumeAfter), commit{}); err != nil {
			return err
		}
	}
	return b.finish(ctx, name, s, unsent)
}

// finish makes one try of the turn that was begun, and commits what came of it. unsent
// means that the database surely did not hear of it before.
func (b statics) finish(ctx context.Context, name string, s *static, unsent bool) error {
	s.Turn.Sent = !unsent
	// A client that goes away must not leave a password that nobody knows to be set or not.
	calls, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnWithin)
	defer cancel()
	c, err := b.serving(calls, name, s)
	if err == nil && s.Turn.Sent && !s.at(c) {
		err = fault.New("database.rotate", fault.Unavailable, "the connection %q was written in the middle of a rotation; it is tried again", c.Name)
	}
	if err != nil {
		return b.failed(ctx, name, s, err)
	}
	var notes []string
	unproven, err := b.turnUser(OnWarning(calls, func(text string) { notes = append(notes, text) }), s, c)
	if err != nil {
		return b.failed(ctx, name, s, err)
	}
	t, now := s.Turn, time.Now().UTC()
	if end := s.lingers(s.as(s.Passwords[t.User])); end.After(now) {
		notes = append(notes, "the certificate before is taken by the database until "+end.UTC().Format(time.RFC3339)+", its end, unless the database is told otherwise")
	}
	s.Passwords[t.User], s.Fresh = s.Fresh, secret.Value{}
	s.Current, s.Turn, s.Failed, s.Why, s.Note, s.Unproven = t.User, nil, 0, "", strings.Join(notes, "; "), unproven
	s.Place = c.place()
	s.Last, s.Next = now, s.When.Next(now, now)
	event := b.m.Host.Event("database/static-role", engine.Details(map[string]string{
		"role": name, "username": s.Users[s.Current], "by": t.By, "path": b.m.Settings().Path + "static-roles/" + name,
	})...)
	return b.save(context.WithoutCancel(ctx), name, s, s.Next, commit{abs: []storage.Op{event}})
}

// serving is usable for who is about to send passwords. One that changes its user's own password tells it to nobody that
// it was not given for.
func (b statics) serving(ctx context.Context, name string, s *static) (*connection, error) {
	c, err := b.usable(ctx, name, s)
	if err == nil && s.SelfManaged && !s.at(c) {
		err = invalid("field \"self_managed_password\": connection %q leads elsewhere since the password of %q was given, and it is not sent there unasked; write static-roles/%s with self_managed_password again", c.Name, s.Users[0], name)
	}
	return c, err
}

// turnUser sets the new password and proves that it works. Where no login can be tried from here, unproven says why: the
// database has said that it is set, and whoever can log in needs it.
func (b statics) turnUser(ctx context.Context, s *static, c *connection) (unproven string, err error) {
	user, old := s.Users[s.Turn.User], s.Passwords[s.Turn.User]
	if s.Turn.Sent {
		if done, err := b.login(ctx, c, user, s.as(s.Fresh)); done || err != nil && !fault.Is(err, fault.Unsupported) {
			return "", untold(err) // an earlier try has done it, or nobody can tell now
		}
	}
	if err := b.setPassword(ctx, s, c, user, s.Fresh); err != nil {
		return "", err
	}
	s.Turn.Sent = true
	works, err := b.login(ctx, c, user, s.as(s.Fresh))
	switch {
	case works:
		return "", nil
	case fault.Is(err, fault.Unsupported):
		return fault.Message(err), nil
	case err != nil:
		return "", untold(err)
	case !old.Empty() && !s.SelfManaged && s.at(c):
		if err := b.setPassword(ctx, s, c, user, old); err != nil {
			return "", err
		}
		s.Turn.Sent = false
	}
	if s.kind() != byPassword {
		return "", s.unproven(user)
	}
	return "", fault.New("database.rotate", fault.Upstream, "the database says that it has set the new password of %s, and refuses it at login; check rotation_statements", user)
}

// untold is an error of a login after a password may have been set. That the login had no effect says nothing of the password: it
// must not be made anew, for it may be the one in force.
func untold(err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Op: "database.rotate", Kind: fault.KindOf(err), Msg: fault.Message(err), Err: causeOf(err)}
}

// causeOf is the cause of an error without marks.
func causeOf(err error) error {
	cause := fault.Cause(err)
	if cause == nil || cause.Error() == "" {
		return nil
	}
	return errors.New(cause.Error())
}

// setPassword changes a user's password, as the administrator or as the user, or what it has in its place.
func (b statics) setPassword(ctx context.Context, s *static, c *connection, user string, to secret.Value) error {
	const op = "database.rotate"
	if err := s.changes(c.kind, staticStatements, s.Statements); err != nil {
		return err
	}
	known := append([]secret.Value{to, s.Fresh}, s.Passwords...)
	set := func(conn Conn) error {
		if s.kind() != byPassword {
			return b.setKey(ctx, s, conn, user, s.as(to))
		}
		return conn.SetPassword(ctx, user, to, s.Statements)
	}
	if !c.Self {
		return b.using(ctx, op, c, known, set)
	}
	conn, done, err := b.own(ctx, c, user, s.Passwords[0])
	if err == nil {
		err = set(conn)
		done()
	}
	if err != nil {
		return outside(op, err, c.redactor(known...))
	}
	return nil
}

// as is the configuration for one connection as another user.
func (c *connection) as(m *engine.Mount, user string, password secret.Value) Config {
	s := c.settings(m)
	s.Username, s.Password, s.MaxOpen, s.MaxIdle = user, password, 1, -1
	return s
}

// login tries what a user logs in with; false: the database was asked and refused it.
func (b statics) login(ctx context.Context, c *connection, user string, l login) (ok bool, err error) {
	const op = "database.login"
	conn, done, err := b.asking(ctx, c, user, l.word)
	if err == nil {
		if l.kind == byPassword {
			ok, err = conn.Login(ctx, user, l.word)
		} else {
			ok, err = tryKey(ctx, conn, user, l)
		}
		done()
	}
	if err == nil {
		return ok, nil
	}
	f := outside(op, err, c.redactor(l.word))
	if fault.Is(err, fault.Unsupported) {
		f.Kind = fault.Unsupported
	}
	return false, f
}

// asking is a connection by which a login can be tried. It needs no administrator: who asks does not wait for a
// change of that one's password.
func (b statics) asking(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(), error) {
	if c.Self {
		return b.own(ctx, c, user, password)
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, nil, err
	}
	return b.pools.use(ctx, p, c)
}

// own is a connection of a user's own.
func (b statics) own(ctx context.Context, c *connection, user string, password secret.Value) (Conn, func(), error) {
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, nil, err
	}
	conn, err := p.Connect(ctx, c.as(b.m, user, password))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { b.pools.shut(&pool{conn: conn}) }, nil
}

// failed notes that a try has failed, and when the next one is made. It returns why.
func (b statics) failed(ctx context.Context, name string, s *static, why error) error {
	now := time.Now().UTC()
	s.Failed++
	s.Why = fault.Message(why)
	at := cron.Retry(s.Failed, now)
	if s.Turn != nil {
		s.Turn.Sent = s.Turn.Sent || !Unchanged(why)
		b.renewFresh(ctx, s, why)
	}
	// A window is for when a password may change. Finding out whether it did does not wait.
	if s.Turn == nil || !s.Turn.Sent {
		var over bool
		if at, over = s.When.Again(s.Next, s.Last, s.Failed, now); over {
			s.Next, s.Failed = at, 0
		}
	}
	b.m.Log.Warn("rotating a static role failed", "role", name, "failures", s.Failed, "next_try", at, "error", why)
	event := b.m.Host.Event("database/static-role-failed", engine.Details(map[string]string{"role": name, "failures": strconv.Itoa(s.Failed), "path": b.m.Settings().Path + "static-roles/" + name})...)
	if err := b.save(context.WithoutCancel(ctx), name, s, at, commit{abs: []storage.Op{event}}); err != nil {
		b.m.Log.Error("keeping why a static role was not rotated", "role", name, "error", err)
	}
	return why
}

// renewFresh makes the new password anew where the database does not want it.
func (b statics) renewFresh(ctx context.Context, s *static, why error) {
	if !Unchanged(why) || !fault.Is(why, fault.Upstream) {
		return
	}
	if s.Turn.Refused++; s.Turn.Refused%refusals != 0 {
		return
	}
	if err := b.remake(ctx, s); err != nil {
		b.m.Log.Warn("making what a static role's user is to log in with anew; the one before is tried again", "db_name", s.DB, "error", err)
	}
}

// remake makes anew what the turn is to set.
func (b statics) remake(ctx context.Context, s *static) error {
	c, err := b.byName(ctx, s.DB)
	if err != nil || c == nil {
		return err
	}
	fresh, err := b.newCredential(ctx, s, c, s.Users[s.Turn.User])
	if err == nil {
		s.Fresh = fresh
	}
	return err
}

// workStatic is what the due item of a static role brings: nothing that failed is lost,
// and each failure sets its own time.
func (b statics) workStatic(ctx context.Context, name string) error {
	release, err := b.locks.Take(ctx, staticPrefix+name)
	if err != nil {
		return err
	}
	defer release()
	s, err := b.static(ctx, name)
	now := time.Now().UTC()
	switch {
	case err != nil || s == nil:
		return err
	case s.Due.IsZero() || s.Due.After(now):
		return nil // moved meanwhile
	case s.Turn == nil && (s.Next.IsZero() || s.Failed == 0 && s.Next.After(now)):
		return b.save(ctx, name, s, s.Next, commit{})
	case s.Turn == nil && s.When.Missed(s.Next, now):
		b.m.Log.Warn("the window of a static role's rotation was missed", "role", name, "was", s.Next)
		if s.Failed == 0 { // else it says what failed
			s.Why = missedWindow(s.Next)
		}
		s.Next, s.Failed = s.When.Next(s.Last, now), 0
		event := b.m.Host.Event("database/static-role-failed", engine.Details(map[string]string{"role": name, "failures": "0", "path": b.m.Settings().Path + "static-roles/" + name})...)
		return b.save(ctx, name, s, s.Next, commit{abs: []storage.Op{event}})
	}
	due := s.Due
	err = b.m.Host.Audited(ctx, engine.Automatic{
		Operation: "rotate", Path: b.m.Settings().Path + "static-roles/" + name, Detail: map[string]string{"role": name, "username": s.Users[s.Current]},
	}, func(ctx context.Context) error { return b.rotate(ctx, name, s, "schedule") })
	if err != nil && !s.Due.Equal(due) {
		return nil // noted, and tried again at its time
	}
	return err
}

// missedWindow says why nothing was rotated at a time.
func missedWindow(at time.Time) string {
	return "the window of " + at.UTC().Format(time.RFC3339) + " was missed: the server did not run, or waited for its clock; the next one counts"
}

// rotateStatic is a turn on request.
func (b statics) rotateStatic(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err == nil && s == nil {
		err = fault.New("database.rotate", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	}
	if err != nil {
		return route.None{}, err
	}
	if err := b.rotate(ctx, in.Name, s, "request"); err != nil {
		return route.None{}, err
	}
	s.warn(r)
	return route.None{}, nil
}
