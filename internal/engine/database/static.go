package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// staticIn is a static role as it is written. What is nil was not given.
type staticIn struct {
	Name        string         `path:"name" doc:"The static role's name."`
	DB          *string        `json:"db_name" doc:"The connection that the role uses. It cannot be changed."`
	Username    *string        `json:"username" doc:"The user whose password is changed. It must exist, and cannot be changed."`
	Alternate   *string        `json:"alternate_username" default:"none" doc:"A second user with the same rights. Rotations alternate between the two, so the credentials that readers have stay valid."`
	Statements  *statements    `json:"rotation_statements" default:"the database's own" doc:"Statements that change a password, with {{name}} and {{password}}, or that register a key with the database, with {{public_key}} or {{subject}}, depending on credential_type."`
	Period      *time.Duration `json:"rotation_period" doc:"How often the password changes, 5s or more. Excludes rotation_schedule."`
	Schedule    *string        `json:"rotation_schedule" doc:"When the password changes: cron, five fields, UTC. Excludes rotation_period."`
	Window      *time.Duration `json:"rotation_window" default:"none" doc:"How long after the schedule's time a change may begin, 1h or more."`
	Off         *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether the password changes only by rotate-role."`
	Skip        *bool          `json:"skip_import_rotation" default:"false" doc:"Whether the password stays as it is until the first change."`
	Password    *secret.Value  `json:"password" doc:"The current password, which is returned until the first change. For skip_import_rotation."`
	SelfManaged *secret.Value  `json:"self_managed_password" doc:"The current password, for a connection with self_managed, where the user changes its own password."`
	credentialIn
}

func (b statics) writeStatic(ctx context.Context, r *route.Request, in staticIn) (route.None, error) {
	if err := checkObjectName("static role", in.Name); err != nil {
		return route.None{}, err
	}
	return route.None{}, b.change(ctx, in.Name, nil, func(s *staticRole) error {
		if s.New() {
			return b.create(ctx, r, s, &in)
		}
		return b.update(ctx, r, s, &in)
	})
}

// create takes a user under rotation: its password changes at once, unless the writer says
// that it must not. A role whose first rotation surely failed is not stored.
func (b statics) create(ctx context.Context, r *route.Request, s *staticRole, in *staticIn) error {
	c, err := b.apply(ctx, r, &s.staticData, in)
	if err != nil {
		return err
	}
	if err := b.checkOwners(ctx, c, s.Users); err != nil {
		return err
	}
	if err := b.acceptPassword(ctx, r, s, c, in); err != nil {
		return err
	}
	s.Rec.Next = s.When.Next(time.Time{}, s.Now)
	for _, u := range s.Users {
		s.Ops = append(s.Ops, storage.Set(ownedKey(s.DB, u), []byte(in.Name)).If(0))
	}
	if s.Skip {
		return s.save(ctx, "created", s.Planned())
	}
	if err := s.encode(); err != nil {
		return err
	}
	err = b.rotate(ctx, s, "import")
	_, told := errors.AsType[*rotate.Failure](err) // else our own store has failed
	switch {
	case err == nil:
		s.warnLastRotation(r)
		return nil
	case s.New() || !told:
		return err
	case s.Rec.Turn != nil:
		r.Warn("whether the first change of the password took place is not known; it goes on until it is: %s", fault.Message(err))
		return nil
	}
	if rerr := b.remove(ctx, s); rerr != nil {
		return rerr
	}
	return err
}

// rotate goes on with the rotation in flight, or makes one.
func (b statics) rotate(ctx context.Context, s *staticRole, by string) error {
	return rotateNow(ctx, s.Edit, by, func() error { return decodeStatic(s.Rec, s.Sec, &s.staticData) })
}

// rotateNow goes on with a record's rotation in flight. If there is none, or it only set the old secret again, it makes one.
func rotateNow(ctx context.Context, e *rotate.Edit, by string, after func() error) error {
	never := func(*rotate.Record) bool { return false }
	if was := e.Rec.LastRotated; e.Rec.Turn != nil {
		if err := e.Control().Drive(ctx, never); err != nil || !e.Rec.LastRotated.Equal(was) {
			return errors.Join(err, after())
		}
	}
	if _, err := e.Control().RotateNow(ctx, rotate.Ask{By: by}); err != nil {
		return err
	}
	if err := e.Control().Drive(ctx, never); err != nil {
		return err
	}
	return after()
}

// acceptPassword takes passwords that the writer gives, after a try. One that cannot be tried from here is taken as it is: the writer knows.
func (b statics) acceptPassword(ctx context.Context, r *route.Request, s *staticRole, c *connection, in *staticIn) error {
	given, field := in.SelfManaged, "self_managed_password"
	if given == nil {
		given, field = in.Password, "password"
	}
	if given == nil || given.Empty() {
		return nil
	}
	works, err := b.login(ctx, c, s.Users[0], login{typePassword, *given})
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
	made := rotate.Credential{
		ID: fmt.Sprintf("%s#%d.given", s.Users[0], s.Rec.Turns), Account: s.Users[0],
		Secret: map[string]secret.Value{secretField: *given}, Public: map[string]string{serverField: c.serverID()},
	}
	if err := s.Control().Take(ctx, made, "its password was given by "+field); err != nil {
		return err
	}
	if unproven != "" {
		s.Rec.Unproven = []string{unproven}
	}
	return nil
}

// absent reports whether there surely is no such user.
func (b statics) absent(ctx context.Context, c *connection, user string) bool {
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

// update is a write of a role that is there. The times of its next rotation follow at once.
func (b statics) update(ctx context.Context, r *route.Request, s *staticRole, in *staticIn) error {
	was := s.staticData
	c, err := b.apply(ctx, r, &s.staticData, in)
	if err != nil {
		return err
	}
	if !slices.Equal(was.Users, s.Users) || was.DB != s.DB {
		return invalid("fields \"db_name\", \"username\" and \"alternate_username\" of a static role cannot change; it is of %q at %q; delete it and write another one", was.Users, was.DB)
	}
	if was.SelfManaged != s.SelfManaged {
		return invalid("field \"self_managed_password\": it cannot be given to a role that is there; delete it and write it again")
	}
	due := s.Rec.Due
	if was.When != s.When {
		s.Rec.Next, s.Rec.Retry = s.beforeExpiry(s.When.Next(s.Rec.LastRotated, s.Now)), time.Time{}
		if s.Rec.Turn == nil {
			due = s.Planned()
		}
	}
	taken, err := b.acceptNewPassword(ctx, r, s, c, in)
	if err != nil {
		return err
	}
	if taken {
		due = s.Planned()
	}
	return s.save(ctx, "configured", due)
}

// acceptNewPassword takes the password that a user which changes its own has now: it was set by hand, or the connection leads
// elsewhere. What works is right, whatever was under way. What does not is a file that was applied again.
func (b statics) acceptNewPassword(ctx context.Context, r *route.Request, s *staticRole, c *connection, in *staticIn) (taken bool, err error) {
	moved := s.SelfManaged && !s.setAt(c)
	switch {
	case in.SelfManaged == nil || in.SelfManaged.Empty(), !moved && in.SelfManaged.Equal(s.currentSecret()):
		return false, nil
	}
	if err := b.acceptPassword(ctx, r, s, c, in); err != nil {
		if moved {
			return false, err
		}
		r.Warn("the self_managed_password that was given has no effect: %s", fault.Message(err))
		return false, nil
	}
	return true, nil
}

// apply writes what was given into a role, and checks the whole.
func (b statics) apply(ctx context.Context, r *route.Request, s *staticData, in *staticIn) (*connection, error) {
	set(&s.DB, in.DB)
	users := []string{"", ""}
	copy(users, s.Users)
	set(&users[0], in.Username)
	set(&users[1], in.Alternate)
	s.Users = slices.DeleteFunc(users, func(u string) bool { return u == "" })
	if err := s.Form.set("rotation_statements", &s.Statements, in.Statements); err != nil {
		return nil, err
	}
	s.When.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	in.applyImportOptions(r, s)
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
func (s *staticData) checkStatements(r *route.Request, p *Provider) error {
	found, err := p.inspect(staticStatements, s.Statements)
	if err == nil {
		err = s.checkLogin(p, found)
	}
	if err == nil {
		err = found.checkPlaceholders()
	}
	s.warnRotation(r, p, found, s.Statements)
	return err
}

// applyImportOptions takes what has an effect on a role that is new alone, and says where it has none.
func (in *staticIn) applyImportOptions(r *route.Request, s *staticData) {
	if !s.stored {
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
func (s *staticData) check(in *staticIn) error {
	switch {
	case s.DB == "":
		return invalid("field \"db_name\" is required: the name of the connection that the role is for")
	case len(s.Users) == 0 || in.Username != nil && *in.Username == "":
		return invalid("field \"username\" is required: the user whose password is to change; it must be there already")
	case len(s.Users) == 2 && s.Users[0] == s.Users[1]:
		return invalid("field \"alternate_username\": it must be another user than username, with the same rights")
	case s.SelfManaged && len(s.Users) == 2:
		return invalid("field \"alternate_username\": users that change their own passwords cannot alternate; leave self_managed_password out")
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
func (b statics) usable(ctx context.Context, name string, s *staticData) (*connection, error) {
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

	Last      time.Time `json:"last_vault_rotation,omitempty"`
	NextAt    time.Time `json:"next_rotation,omitempty"`
	Failures  int       `json:"failures,omitempty"`
	LastError string    `json:"last_error,omitempty"`

	timing
}

func (b statics) readStatic(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	s, err := b.view(ctx, in.Name)
	if err != nil || s == nil {
		return nil, err
	}
	out := &staticOut{
		Config: s.configOut(), Kind: s.kind(), DB: s.DB, Statements: s.Form.out("rotation_statements", s.Statements), Username: s.Users[0],
		Skip: s.Skip, Self: s.SelfManaged, Off: s.When.Off, Last: s.Rec.LastRotated, NextAt: s.Rec.Next, Failures: s.failedAttempts(), LastError: s.Rec.LastError,
		timing: timingOf(s.When),
	}
	if len(s.Users) > 1 {
		out.Alternate = s.Users[1]
	}
	if n := s.failedAttempts(); n > 0 {
		again := "with the next rotation"
		if !s.Rec.Due.IsZero() {
			again = "at " + s.Rec.Due.Format(time.RFC3339)
		}
		r.Warn("the last %d attempts to change the password have failed, and the next one is %s: %s", n, again, s.Rec.LastError)
	}
	s.warnLastRotation(r)
	return out, nil
}

// failedAttempts are tries in a row: rotations that have failed, and those of one whose outcome is not known.
func (s *staticRole) failedAttempts() int {
	n := s.Rec.Failures
	if s.Rec.Turn != nil {
		n += s.Rec.Turn.Tries
	}
	return n
}

// warnLastRotation tells what was unusual about the last rotation, and that what it set could not be tried.
func (s *staticRole) warnLastRotation(r *route.Request) {
	if s.Note != "" {
		r.Warn("the last rotation: %s", s.Note)
	}
	if len(s.Rec.Unproven) > 0 {
		r.Warn("a login as %q with the published credentials could not be tested: %s", s.currentUser(), strings.Join(s.Rec.Unproven, "; "))
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

// errNoRole says of a deletion that it has nothing to do.
var errNoRole = errors.New("there is no such static role")

// deleteStatic forgets a role. Its users keep the passwords that they have.
func (b statics) deleteStatic(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	err := b.change(ctx, in.Name, errNoRole, func(s *staticRole) error {
		if t := s.Rec.Turn; t != nil && t.New != nil && s.Rec.Unsettled(t.New.Account) {
			r.Warn("a change of the password of %q was under way, and whether it took place is not known; set the password by hand", t.New.Account)
		}
		return b.remove(ctx, s)
	})
	if errors.Is(err, errNoRole) {
		err = nil
	}
	return route.None{}, err
}

func (b statics) remove(ctx context.Context, s *staticRole) error {
	for _, u := range s.Users {
		s.Ops = append(s.Ops, storage.Remove(ownedKey(s.DB, u)))
	}
	return s.Delete(ctx)
}

// rotateStatic is a rotation on request.
func (b statics) rotateStatic(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	missing := fault.New("database.rotate", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	return route.None{}, b.change(ctx, in.Name, missing, func(s *staticRole) error {
		if err := b.rotate(ctx, s, "request"); err != nil {
			return err
		}
		s.warnLastRotation(r)
		return nil
	})
}

// applyCredential is the part of a write that is about what the user logs in with.
func (s *staticData) applyCredential(in *staticIn) error {
	was := s.kind()
	if err := in.credentialIn.apply(&s.credentialConfig); err != nil {
		return err
	}
	switch kind := s.kind(); {
	case kind != was && s.stored:
		return invalid("field \"credential_type\" of a static role cannot change; it is %s; delete the role and write it again", was)
	case kind == typePassword:
		return nil
	case s.SelfManaged:
		return invalid("field \"self_managed_password\": users that change their own passwords cannot have credential_type %s; leave one of the two out", kind)
	case in.Password != nil && !in.Password.Empty():
		return invalid("field \"password\": it is not for credential_type %s; leave it out", kind)
	case kind == typeCertificate && s.Config["common_name_template"] != "":
		return invalid("field \"credential_config\": common_name_template is for roles that make users; the common name of a static role's certificate is its username; leave it out")
	case kind == typeCertificate && s.When.Off:
		return invalid("field \"disable_automated_rotation\": a certificate has an end and must be replaced before; give rotation_period or rotation_schedule, and leave it out")
	case kind == typeCertificate:
		return s.checkCommonNames()
	}
	return nil
}

// beforeExpiry brings a rotation forward that would come when the certificate of now has ended.
func (s *staticRole) beforeExpiry(next time.Time) time.Time {
	if c := s.Rec.Current; c != nil && !c.Expires.IsZero() && c.Expires.Before(next.Add(certificateMargin)) {
		return s.Now
	}
	return next
}
