package database

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys of static roles, below the mount:
//
//	static/<name>            a static role, its users' passwords and all
//	owned/<connection>/<user>  the static role that changes the user's password
//
// Invariants:
//   - A password is durable before the database hears of it, and the one before it until
//     the new one is known to work.
//   - A turn whose outcome is not known goes on until it is: with the same password.
//   - One role alone changes a user's password.
const (
	staticPrefix = "static/"
	ownedPrefix  = "owned/"
)

// minPeriod keeps a typing error from rotating all the time.
const minPeriod = 5 * time.Second

// staticKind is the due work of a static role: beginning a turn, or going on with one.
const staticKind = "static"

// A static role is a user that was there before, whose password changes. With a
// second user, the two take turns: a change is always of the one that nobody was
// given last, so that it cuts no one off.
type static struct {
	DB         string        `json:"db"`              // a connection's name
	Place      string        `json:"place,omitempty"` // where it led when the passwords were set
	Users      []string      `json:"users"`
	Current    int           `json:"current"` // who is given out
	Statements []string      `json:"statements,omitempty"`
	Form       statementForm `json:"form,omitempty"`
	credential
	SelfManaged bool      `json:"self,omitempty"` // users change their own passwords
	Skip        bool      `json:"skip,omitempty"` // was not turned when it was written first
	When        cron.When `json:"when"`

	Last   time.Time `json:"last,omitzero"`
	Next   time.Time `json:"next,omitzero"` // zero: by request alone
	Due    time.Time `json:"due,omitzero"`  // where the due item is
	Failed int       `json:"failed,omitempty"`
	Why    string    `json:"why,omitempty"`  // the last try failed
	Note   string    `json:"note,omitempty"` // of the last turn
	// Unproven says why a login with what is given out could not be tried.
	Unproven string `json:"unproven,omitempty"`
	Turn     *turn  `json:"turn,omitempty"` // under way

	// What Users log in with, whatever credential says that is.
	Passwords []secret.Value `json:"-"` // empty: not known
	Fresh     secret.Value   `json:"-"` // what the turn sets

	stored storage.Version
}

// A turn is one change of a password, from before the database hears of it.
type turn struct {
	User    int       `json:"user"`
	By      string    `json:"by"` // "schedule", "request" or "import"
	At      time.Time `json:"at"`
	Sent    bool      `json:"sent,omitempty"` // the database may have made it
	Refused int       `json:"refused,omitempty"`
}

// storedStatic is what the barrier encrypts.
type storedStatic struct {
	*static
	Passwords [][]byte `json:"pw"`
	Fresh     []byte   `json:"fresh,omitempty"`
	CAKey     []byte   `json:"ca_key,omitempty"`
}

// at reports whether the connection leads to where the role's passwords were set. What was written before that was noted
// is taken to be there.
func (s *static) at(c *connection) bool { return s.Place == "" || s.Place == c.place() }

func (s *static) put(name string) (storage.Op, error) {
	st := storedStatic{static: s, Fresh: s.Fresh.Reveal(), CAKey: s.CAKey.Reveal()}
	for _, p := range s.Passwords {
		st.Passwords = append(st.Passwords, p.Reveal())
	}
	b, err := json.Marshal(st)
	return storage.Set(staticPrefix+name, b).If(s.stored), fault.Wrap("database.static", fault.Internal, err)
}

// static finds a static role; nil for none.
func (b statics) static(ctx context.Context, name string) (*static, error) {
	e, err := b.m.Store.Get(ctx, staticPrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	st := storedStatic{static: &static{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &st); err != nil {
		return nil, fault.Wrap("database.static", fault.Internal, err)
	}
	s := st.static
	s.Fresh, s.CAKey = secret.New(st.Fresh), secret.New(st.CAKey)
	for _, p := range st.Passwords {
		s.Passwords = append(s.Passwords, secret.New(p))
	}
	return s, nil
}

// save commits a static role with its due item at a time, and more.
func (b statics) save(ctx context.Context, name string, s *static, at time.Time, more commit) error {
	from := s.Due
	s.Due = tick(from, at)
	op, err := s.put(name)
	if err != nil {
		return err
	}
	s.stored, err = b.m.Store.CommitWith(ctx, append(more.ops, op), append(more.abs, b.m.Host.Schedule(staticKind, name, from, s.Due)...))
	return err
}

// A commit is what joins another.
type commit struct{ ops, abs []storage.Op }

// tick makes a time one that the due index can hold: whole milliseconds, never early, and
// another one than before, since a row that did not change is taken for done.
func tick(from, at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	at = at.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond)
	if at.Equal(from) {
		at = at.Add(time.Millisecond)
	}
	return at
}

// staticIn is a static role as it is written. What is nil was not given.
type staticIn struct {
	Name        string         `path:"name" doc:"The static role's name."`
	DB          *string        `json:"db_name" doc:"The connection that the role uses. It cannot be changed."`
	Username    *string        `json:"username" doc:"The user whose password is changed. It must be there already, and cannot be changed."`
	Alternate   *string        `json:"alternate_username" default:"none" doc:"A second user with the same rights: the two take turns, so that a change cuts no reader off."`
	Statements  *statements    `json:"rotation_statements" default:"the database's own" doc:"What changes a password, with {{name}} and {{password}}, or tells the database of a key, with {{public_key}} or {{subject}} as credential_type has it."`
	Period      *time.Duration `json:"rotation_period" doc:"How often the password changes, 5s or more. Excludes rotation_schedule."`
	Schedule    *string        `json:"rotation_schedule" doc:"When the password changes: cron, five fields, UTC. Excludes rotation_period."`
	Window      *time.Duration `json:"rotation_window" default:"none" doc:"How long after the schedule's time a change may begin, 1h or more."`
	Off         *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the password changes by rotate-role alone."`
	Skip        *bool          `json:"skip_import_rotation" default:"false" doc:"Whether the password stays as it is until the first change."`
	Password    *secret.Value  `json:"password" doc:"The password of now, which is given out until the first change. For skip_import_rotation."`
	SelfManaged *secret.Value  `json:"self_managed_password" doc:"The password of now, for a connection that is self_managed: the user changes its own."`
	credentialIn
}

// statics are the routes of static roles.
type statics struct{ *backend }

func (b statics) writeStatic(ctx context.Context, r *route.Request, in staticIn) (route.None, error) {
	if err := checkObjectName("static role", in.Name); err != nil {
		return route.None{}, err
	}
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if s != nil {
		return route.None{}, b.alter(ctx, r, s, &in)
	}
	return route.None{}, b.adopt(ctx, r, &in)
}

// adopt takes a user under rotation: its password changes at once, unless the writer says
// that it must not. A role whose first turn surely failed is not stored.
func (b statics) adopt(ctx context.Context, r *route.Request, in *staticIn) error {
	now := time.Now().UTC()
	s := new(static)
	c, err := b.apply(ctx, r, s, in)
	if err != nil {
		return err
	}
	if err := b.untaken(ctx, c, s.Users); err != nil {
		return err
	}
	s.Place = c.place()
	s.Passwords = make([]secret.Value, len(s.Users))
	if err := b.known(ctx, r, s, c, in); err != nil {
		return err
	}
	at := s.When.Next(time.Time{}, now)
	s.Next = at
	var more commit
	for _, u := range s.Users {
		more.ops = append(more.ops, storage.Set(ownedKey(s.DB, u), []byte(in.Name)).If(0))
	}
	if !s.Skip {
		if err := b.begin(ctx, s, c, "import", now); err != nil {
			return err
		}
		s.Turn.Sent = true
		at = now.Add(resumeAfter)
	}
	if err := b.save(ctx, in.Name, s, at, more); err != nil {
		return err
	}
	if s.Skip {
		return nil
	}
	err = b.finish(ctx, in.Name, s, true)
	switch {
	case err == nil:
		s.warn(r)
		return nil
	case s.Turn != nil && s.Turn.Sent:
		r.Warn("whether the first change of the password took place is not known; it goes on until it is: %s", fault.Message(err))
		return nil
	}
	if rerr := b.remove(ctx, in.Name, s); rerr != nil {
		return rerr
	}
	return err
}

// known takes passwords that the writer gives, after a try. One that cannot be tried from here is taken as it is: the writer knows.
func (b statics) known(ctx context.Context, r *route.Request, s *static, c *connection, in *staticIn) error {
	given, field := in.SelfManaged, "self_managed_password"
	if given == nil {
		given, field = in.Password, "password"
	}
	if given == nil || given.Empty() {
		return nil
	}
	works, err := b.login(ctx, c, s.Users[0], login{byPassword, *given})
	unproven := ""
	switch {
	case fault.Is(err, fault.Unsupported):
		unproven = fault.Message(err)
		r.Warn("field %q: it was taken without a try: %s", field, unproven)
	case err != nil:
		return err
	case !works:
		if b.absent(ctx, c, s.Users[0]) {
			return invalid("field \"username\": there is no user %q in the database; make it first, or correct the name", s.Users[0])
		}
		return invalid("field %q: the database refuses it for %q; give the password that the user has now", field, s.Users[0])
	}
	s.Passwords[0], s.Unproven = *given, unproven
	return nil
}

// absent reports whether there surely is no such user.
func (b *backend) absent(ctx context.Context, c *connection, user string) bool {
	if c.Self || !ValidName(user) {
		return false
	}
	there := true
	err := b.using(ctx, "database.static", c, nil, func(conn Conn) (err error) {
		there, err = conn.Exists(ctx, user)
		return err
	})
	return err == nil && !there
}

// alter is a write of a role that is there. The times of its next turn follow at once.
func (b statics) alter(ctx context.Context, r *route.Request, s *static, in *staticIn) error {
	was := *s
	c, err := b.apply(ctx, r, s, in)
	if err != nil {
		return err
	}
	if !slices.Equal(was.Users, s.Users) || was.DB != s.DB {
		return invalid("fields \"db_name\", \"username\" and \"alternate_username\" of a static role cannot change; it is of %q at %q; delete it and write another one", was.Users, was.DB)
	}
	if was.SelfManaged != s.SelfManaged {
		return invalid("field \"self_managed_password\": it cannot be given to a role that is there; delete it and write it again")
	}
	at := s.Due
	if was.When != s.When {
		now := time.Now().UTC()
		s.Next = s.before(s.When.Next(s.Last, now), now)
		if s.Turn == nil {
			at = s.Next
		}
	}
	taken, err := b.correct(ctx, r, s, c, in)
	if err != nil {
		return err
	}
	if taken {
		at = s.Next
	}
	return b.save(ctx, in.Name, s, at, commit{})
}

// correct takes the password that a user which changes its own has now: it was set by hand, or the connection leads
// elsewhere. What works is right, whatever was under way. What does not is a file that was applied again.
func (b statics) correct(ctx context.Context, r *route.Request, s *static, c *connection, in *staticIn) (taken bool, err error) {
	moved := s.SelfManaged && !s.at(c)
	switch {
	case in.SelfManaged == nil || in.SelfManaged.Empty(), !moved && in.SelfManaged.Equal(s.Passwords[0]):
		return false, nil
	}
	if err := b.known(ctx, r, s, c, in); err != nil {
		if moved {
			return false, err
		}
		r.Warn("the self_managed_password that was given has no effect: %s", fault.Message(err))
		return false, nil
	}
	s.Place, s.Turn, s.Fresh, s.Failed, s.Why = c.place(), nil, secret.Value{}, 0, ""
	return true, nil
}

// apply writes what was given into a role, and checks the whole.
func (b statics) apply(ctx context.Context, r *route.Request, s *static, in *staticIn) (*connection, error) {
	set(&s.DB, in.DB)
	users := []string{"", ""}
	copy(users, s.Users)
	set(&users[0], in.Username)
	set(&users[1], in.Alternate)
	s.Users = slices.DeleteFunc(users, func(u string) bool { return u == "" })
	if err := s.Form.take("rotation_statements", &s.Statements, in.Statements); err != nil {
		return nil, err
	}
	s.When.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	in.onlyNew(r, s)
	if in.SelfManaged != nil && !in.SelfManaged.Empty() {
		s.SelfManaged = true
	}
	if err := s.applyCredential(in); err != nil {
		return nil, err
	}
	if err := s.check(in); err != nil {
		return nil, err
	}
	c, err := b.usable(ctx, in.Name, s)
	if err != nil {
		return nil, err
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return nil, err
	}
	if s.When.Off {
		r.Warn("disable_automated_rotation is set: the password changes by rotate-role/%s alone", in.Name)
	}
	return c, s.checkStatements(r, p)
}

const staticStatements = "rotation_statements"

// checkStatements finds what is wrong with a static role's statements.
func (s *static) checkStatements(r *route.Request, p *Provider) error {
	found, err := p.inspect(staticStatements, s.Statements)
	if err == nil {
		err = s.fits(p, found)
	}
	if err == nil {
		err = found.check()
	}
	s.advises(r, p, found, s.Statements)
	return err
}

// onlyNew takes what has an effect on a role that is new alone, and says where it has none.
func (in *staticIn) onlyNew(r *route.Request, s *static) {
	if s.stored == 0 {
		set(&s.Skip, in.Skip)
		return
	}
	if in.Skip != nil && *in.Skip && !s.Skip {
		r.Warn("skip_import_rotation has no effect on a role that is there: its password has changed already")
	}
	if in.Password != nil && !in.Password.Empty() {
		r.Warn("password has no effect on a role that is there; it goes on with the one that it has set")
	}
}

// check finds what cannot be right in itself.
func (s *static) check(in *staticIn) error {
	switch {
	case s.DB == "":
		return invalid("field \"db_name\" is required: the name of the connection that the role is for")
	case len(s.Users) == 0 || in.Username != nil && *in.Username == "":
		return invalid("field \"username\" is required: the user whose password is to change; it must be there already")
	case len(s.Users) == 2 && s.Users[0] == s.Users[1]:
		return invalid("field \"alternate_username\": it must be another user than username, with the same rights")
	case s.SelfManaged && len(s.Users) == 2:
		return invalid("field \"alternate_username\": users that change their own passwords cannot take turns; leave self_managed_password out")
	case !s.When.Off && s.When.Never():
		return invalid("one of the fields \"rotation_period\" and \"rotation_schedule\" is required; for rotation by request alone, set disable_automated_rotation=true")
	}
	for i, u := range s.Users {
		if err := CheckGivenName("database.static", u); err != nil {
			return invalid("field %q: %s", []string{"username", "alternate_username"}[i], fault.Message(err))
		}
	}
	return s.When.Check(minPeriod)
}

// usable finds the connection of a role, if it may serve it.
func (b statics) usable(ctx context.Context, name string, s *static) (*connection, error) {
	c, err := b.byName(ctx, s.DB)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, invalid("field \"db_name\": there is no connection %q; write config/%s first", s.DB, s.DB)
	case c.Self != s.SelfManaged && c.Self:
		return nil, invalid("field \"self_managed_password\" is required: connection %q has no administrator, so the user changes its own password; give the one that it has now", c.Name)
	case c.Self != s.SelfManaged:
		return nil, invalid("field \"self_managed_password\": connection %q has an administrator, who sets passwords; leave it out, or write config/%s with self_managed=true and no username", c.Name, c.Name)
	case !c.allows(name):
		return nil, fault.New("database.static", fault.Upstream, "%q is not an allowed role of connection %q; add it to allowed_roles", name, c.Name)
	case slices.Contains(s.Users, c.Username) && c.Username != "":
		return nil, invalid("field \"username\": %q is the administrator of the connection; change its password by rotate-root/%s", c.Username, c.Name)
	}
	for _, u := range s.Users {
		e, err := b.m.Store.Get(ctx, ownedKey(s.DB, u))
		if err != nil {
			return nil, err
		}
		if e.Version != 0 && string(e.Value) != name {
			return nil, alreadyOwned(u, string(e.Value))
		}
	}
	return c, nil
}

func ownedKey(db, user string) string { return ownedPrefix + db + "/" + user }

// staticOut is a static role as it is shown.
type staticOut struct {
	Config     map[string]string `json:"credential_config"`
	Kind       string            `json:"credential_type"`
	DB         string            `json:"db_name"`
	Statements []string          `json:"rotation_statements"`
	Username   string            `json:"username"`
	Alternate  string            `json:"alternate_username,omitempty"`
	Skip       bool              `json:"skip_import_rotation,omitempty"`
	Self       bool              `json:"self_managed,omitempty"`
	Off        bool              `json:"disable_automated_rotation,omitempty"`

	Last     time.Time `json:"last_vault_rotation,omitempty"`
	NextAt   time.Time `json:"next_rotation,omitempty"`
	Failures int       `json:"failures,omitempty"`
	LastFail string    `json:"last_error,omitempty"`

	timing
}

// timing is how roles and their credentials show when they are rotated.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func show(w cron.When) timing { return timing{w.Period, w.Schedule, w.Window} }

func (b statics) readStatic(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	s, err := b.static(ctx, in.Name)
	if err != nil || s == nil {
		return nil, err
	}
	out := &staticOut{
		Config: s.shown(), Kind: s.kind(), DB: s.DB, Statements: s.Form.shown("rotation_statements", s.Statements), Username: s.Users[0],
		Skip: s.Skip, Self: s.SelfManaged, Off: s.When.Off, Last: s.Last, NextAt: s.Next, Failures: s.Failed, LastFail: s.Why,
		timing: show(s.When),
	}
	if len(s.Users) > 1 {
		out.Alternate = s.Users[1]
	}
	if s.Failed > 0 {
		r.Warn("the last %d tries to change the password have failed, and it is tried again at %s: %s", s.Failed, s.Due.Format(time.RFC3339), s.Why)
	}
	s.warn(r)
	return out, nil
}

// warn tells what was unusual about the last rotation, and that what it set could not be tried.
func (s *static) warn(r *route.Request) {
	if s.Note != "" {
		r.Warn("the last rotation: %s", s.Note)
	}
	if s.Unproven != "" {
		r.Warn("a login as %q with what is given out could not be tried: %s", s.Users[s.Current], s.Unproven)
	}
}

func (b statics) staticExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, staticPrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b statics) listStatics(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := b.names(ctx, staticPrefix)
	return route.Keys{Keys: names}, err
}

// deleteStatic forgets a role. Its users keep the passwords that they have.
func (b statics) deleteStatic(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	release, err := b.locks.Take(ctx, staticPrefix+in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	s, err := b.static(ctx, in.Name)
	if err != nil || s == nil {
		return route.None{}, err
	}
	if s.Turn != nil && s.Turn.Sent {
		r.Warn("a change of the password of %q was under way, and whether it took place is not known; set the password by hand", s.Users[s.Turn.User])
	}
	return route.None{}, b.remove(ctx, in.Name, s)
}

func (b statics) remove(ctx context.Context, name string, s *static) error {
	ops := []storage.Op{storage.Remove(staticPrefix + name).If(s.stored)}
	for _, u := range s.Users {
		ops = append(ops, storage.Remove(ownedKey(s.DB, u)))
	}
	_, err := b.m.Store.CommitWith(ctx, ops, b.m.Host.Schedule(staticKind, name, s.Due, time.Time{}))
	return err
}
