package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// staticIn is a write of a static role. Nil fields were not sent.
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

// staticRoutes are the routes below static-roles/, and rotate-role/.
type staticRoutes struct {
	m     *engine.Mount
	roles *staticRoles
	users *staticUsers
}

func (s *staticRoutes) write(ctx context.Context, r *route.Request, in staticIn) (route.None, error) {
	if err := checkObjectName("static role", in.Name); err != nil {
		return route.None{}, err
	}
	return route.None{}, s.roles.change(ctx, in.Name, nil, func(role *staticRole) error {
		if role.New() {
			return s.create(ctx, r, role, &in)
		}
		return s.update(ctx, r, role, &in)
	})
}

// create stores a new role and changes its password at once, unless skip_import_rotation is set. A
// role whose first rotation surely failed is not stored.
func (s *staticRoutes) create(ctx context.Context, r *route.Request, role *staticRole, in *staticIn) error {
	c, err := s.merge(ctx, r, &role.staticData, in)
	if err != nil {
		return err
	}
	if err := s.users.checkOwners(ctx, c, role.Users); err != nil {
		return err
	}
	if err := s.acceptPassword(ctx, r, role, c, in); err != nil {
		return err
	}
	role.Rec.Next = role.When.Next(time.Time{}, role.Now)
	for _, u := range role.Users {
		role.Ops = append(role.Ops, storage.Set(ownedKey(role.DB, u), []byte(in.Name)).If(0))
	}
	if role.Skip {
		return role.save(ctx, "created", role.Planned())
	}
	if err := role.encode(); err != nil {
		return err
	}
	err = role.rotate(ctx, "import")
	_, fromTarget := errors.AsType[*rotate.Failure](err) // any other error is of our own store
	switch {
	case err == nil:
		role.warnLastRotation(r)
		return nil
	case role.New() || !fromTarget:
		return err
	case role.Rec.Turn != nil:
		r.Warn("the result of the first password change is not known; Keyturn keeps trying: %s", fault.Message(err))
		return nil
	}
	if rerr := removeStatic(ctx, role); rerr != nil {
		return rerr
	}
	return err
}

// acceptPassword makes a written password the current one after a login with it. A password that
// this server cannot test is accepted with a warning.
func (s *staticRoutes) acceptPassword(ctx context.Context, r *route.Request, role *staticRole, c *connection,
	in *staticIn) error {
	password, field := in.SelfManaged, "self_managed_password"
	if password == nil {
		password, field = in.Password, "password"
	}
	if password == nil || password.Empty() {
		return nil
	}
	user := role.Users[0]
	works, err := s.users.login(ctx, c, user, login{kind: typePassword, secret: *password})
	untested := ""
	switch {
	case fault.Is(err, fault.Unsupported):
		untested = fault.Message(err)
		r.Warn("field %q: it was taken without a try: %s", field, untested)
	case err != nil:
		return err
	case !works:
		if s.users.absent(ctx, c, user) {
			return invalid(
				"field \"username\": there is no user %q in the database; create it first, or correct the name", user)
		}
		return invalid("field %q: the database refuses it for %q; give the password that the user has now", field,
			user)
	}
	written := rotate.Credential{
		ID: fmt.Sprintf("%s#%d.given", user, role.Rec.Turns), Account: user,
		Secret: map[string]secret.Value{secretField: *password}, Public: map[string]string{serverField: c.serverID()},
	}
	if err := role.Control().SetCurrent(ctx, written, "its password was given by "+field); err != nil {
		return err
	}
	if untested != "" {
		role.Rec.Unproven = []string{untested}
	}
	return nil
}

// update changes an existing role. The time of its next rotation changes at once.
func (s *staticRoutes) update(ctx context.Context, r *route.Request, role *staticRole, in *staticIn) error {
	old := role.staticData
	c, err := s.merge(ctx, r, &role.staticData, in)
	if err != nil {
		return err
	}
	if !slices.Equal(old.Users, role.Users) || old.DB != role.DB {
		return invalid("fields \"db_name\", \"username\" and \"alternate_username\" of a static role cannot change; "+
			"it is of %q at %q; delete it and write another one", old.Users, old.DB)
	}
	if old.SelfManaged != role.SelfManaged {
		return invalid("field \"self_managed_password\": it cannot be given to an existing role; delete the role " +
			"and write it again")
	}
	due := role.Rec.Due
	if old.When != role.When {
		role.Rec.Next, role.Rec.Retry = role.beforeExpiry(role.When.Next(role.Rec.LastRotated, role.Now)), time.Time{}
		if role.Rec.Turn == nil {
			due = role.Planned()
		}
	}
	accepted, err := s.acceptNewPassword(ctx, r, role, c, in)
	if err != nil {
		return err
	}
	if accepted {
		due = role.Planned()
	}
	return role.save(ctx, "configured", due)
}

// acceptNewPassword accepts the current password of a user that changes its own: a person has set
// it, or the connection uses another server. A password that works is the current one, whatever
// rotation is in flight. One that does not work comes from a file that was applied again.
func (s *staticRoutes) acceptNewPassword(ctx context.Context, r *route.Request, role *staticRole, c *connection,
	in *staticIn) (accepted bool, err error) {
	moved := role.SelfManaged && !role.currentBelongsTo(c)
	if in.SelfManaged == nil || in.SelfManaged.Empty() || !moved && in.SelfManaged.Equal(role.currentSecret()) {
		return false, nil
	}
	if err := s.acceptPassword(ctx, r, role, c, in); err != nil {
		if moved {
			return false, err
		}
		r.Warn("the self_managed_password that was given has no effect: %s", fault.Message(err))
		return false, nil
	}
	return true, nil
}

// merge applies a write to a role, checks the result, and returns its connection.
func (s *staticRoutes) merge(ctx context.Context, r *route.Request, d *staticData, in *staticIn) (*connection, error) {
	set(&d.DB, in.DB)
	users := []string{"", ""}
	copy(users, d.Users)
	set(&users[0], in.Username)
	set(&users[1], in.Alternate)
	d.Users = slices.DeleteFunc(users, func(u string) bool { return u == "" })
	if err := d.Form.set(staticStatements, &d.Statements, in.Statements); err != nil {
		return nil, err
	}
	d.When.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
	in.applyImportOptions(r, d)
	if in.SelfManaged != nil && !in.SelfManaged.Empty() {
		d.SelfManaged = true
	}
	if err := d.applyCredential(in); err != nil {
		return nil, err
	}
	if err := d.check(in); err != nil {
		return nil, err
	}
	c, err := s.users.connection(ctx, in.Name, d)
	if err != nil {
		return nil, err
	}
	p, err := s.users.conns.provider(c)
	if err != nil {
		return nil, err
	}
	if d.When.Off {
		r.Warn("disable_automated_rotation is set: the password changes by rotate-role/%s alone", in.Name)
	}
	return c, d.checkStatements(r, p)
}

// checkStatements checks a static role's statements.
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

// applyImportOptions applies fields that have an effect only on a new role, and warns if the role
// exists.
func (in *staticIn) applyImportOptions(r *route.Request, s *staticData) {
	if !s.stored {
		set(&s.Skip, in.Skip)
		return
	}
	if in.Skip != nil && *in.Skip && !s.Skip {
		r.Warn("skip_import_rotation has no effect on a role that is there: its password has changed already")
	}
	if in.Password != nil && !in.Password.Empty() {
		r.Warn("password has no effect on an existing role, which keeps the password that Keyturn has set")
	}
}

// check checks what needs no connection.
func (s *staticData) check(in *staticIn) error {
	switch {
	case s.DB == "":
		return invalid("field \"db_name\" is required: the name of the connection that the role is for")
	case len(s.Users) == 0 || in.Username != nil && *in.Username == "":
		return invalid(
			"field \"username\" is required: the user whose password is to change; it must be there already")
	case len(s.Users) == 2 && s.Users[0] == s.Users[1]:
		return invalid("field \"alternate_username\": it must be a different user from " +
			"username, with the same rights")
	case s.SelfManaged && len(s.Users) == 2:
		return invalid("field \"alternate_username\": users that change their own passwords cannot alternate; leave " +
			"self_managed_password out")
	case !s.When.Off && s.When.Never():
		return invalid("one of the fields \"rotation_period\" and \"rotation_schedule\" is required; for rotation " +
			"on request only, set disable_automated_rotation=true")
	}
	for i, u := range s.Users {
		if err := CheckGivenName("database.static", u); err != nil {
			return invalid("field %q: %s", []string{"username", "alternate_username"}[i], fault.Message(err))
		}
	}
	return s.When.Check(minPeriod)
}

// staticOut is a static role in an answer.
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

func (s *staticRoutes) read(ctx context.Context, r *route.Request, in nameIn) (*staticOut, error) {
	role, err := s.roles.view(ctx, in.Name)
	if err != nil || role == nil {
		return nil, err
	}
	out := &staticOut{
		Config: role.configOut(), Kind: role.kind(), DB: role.DB,
		Statements: role.Form.out(staticStatements, role.Statements),
		Username:   role.Users[0], Skip: role.Skip, Self: role.SelfManaged, Off: role.When.Off,
		Last: role.Rec.LastRotated, NextAt: role.Rec.Next, Failures: role.failedAttempts(),
		LastError: role.Rec.LastError,
		timing:    timingOf(role.When),
	}
	if len(role.Users) > 1 {
		out.Alternate = role.Users[1]
	}
	if n := role.failedAttempts(); n > 0 {
		next := "with the next rotation"
		if !role.Rec.Due.IsZero() {
			next = "at " + role.Rec.Due.Format(time.RFC3339)
		}
		r.Warn("the last %d attempts to change the password have failed, and the next one is %s: %s", n, next,
			role.Rec.LastError)
	}
	role.warnLastRotation(r)
	return out, nil
}

// failedAttempts counts attempts in a row: failed rotations, and attempts of the rotation in
// flight.
func (s *staticRole) failedAttempts() int {
	n := s.Rec.Failures
	if s.Rec.Turn != nil {
		n += s.Rec.Turn.Tries
	}
	return n
}

// warnLastRotation warns of what was unusual about the last rotation, and of a login that could
// not be tested.
func (s *staticRole) warnLastRotation(r *route.Request) {
	if s.Note != "" {
		r.Warn("the last rotation: %s", s.Note)
	}
	if len(s.Rec.Unproven) > 0 {
		r.Warn("a login as %q with the published credentials could not be tested: %s", s.currentUser(),
			strings.Join(s.Rec.Unproven, "; "))
	}
}

func (s *staticRoutes) exists(ctx context.Context, r *route.Request) (bool, error) {
	return s.m.Store.Has(ctx, staticPrefix+r.Param("name"))
}

func (s *staticRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := s.m.Store.Names(ctx, staticPrefix)
	return route.Keys{Keys: names}, err
}

// errNoRole tells remove that there is nothing to remove.
var errNoRole = errors.New("there is no such static role")

// remove deletes a role. Its users keep their passwords.
func (s *staticRoutes) remove(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	err := s.roles.change(ctx, in.Name, errNoRole, func(role *staticRole) error {
		if t := role.Rec.Turn; t != nil && t.New != nil && role.Rec.Unsettled(t.New.Account) {
			r.Warn("a change of the password of %q was under way, and whether it took place is not known; set the "+
				"password by hand", t.New.Account)
		}
		return removeStatic(ctx, role)
	})
	if errors.Is(err, errNoRole) {
		err = nil
	}
	return route.None{}, err
}

func removeStatic(ctx context.Context, role *staticRole) error {
	for _, u := range role.Users {
		role.Ops = append(role.Ops, storage.Remove(ownedKey(role.DB, u)))
	}
	return role.Delete(ctx)
}

// rotate rotates a role on request.
func (s *staticRoutes) rotate(ctx context.Context, r *route.Request, in nameIn) (route.None, error) {
	missing := fault.New("database.rotate", fault.Invalid, "unknown role: %s; list static-roles/", in.Name)
	return route.None{}, s.roles.change(ctx, in.Name, missing, func(role *staticRole) error {
		if err := role.rotate(ctx, "request"); err != nil {
			return err
		}
		role.warnLastRotation(r)
		return nil
	})
}

// applyCredential applies credential_type and credential_config.
func (s *staticData) applyCredential(in *staticIn) error {
	was := s.kind()
	if err := in.credentialIn.apply(&s.credentialConfig); err != nil {
		return err
	}
	switch kind := s.kind(); {
	case kind != was && s.stored:
		return invalid(
			"field \"credential_type\" of a static role cannot change; it is %s; delete the role and write it again",
			was)
	case kind == typePassword:
		return nil
	case s.SelfManaged:
		return invalid("field \"self_managed_password\": users that change their own passwords cannot have "+
			"credential_type %s; leave one of the two out", kind)
	case in.Password != nil && !in.Password.Empty():
		return invalid("field \"password\": it is not for credential_type %s; leave it out", kind)
	case kind == typeCertificate && s.Config["common_name_template"] != "":
		return invalid("field \"credential_config\": common_name_template is for roles that create users; the " +
			"common name of a static role's certificate is its username; leave it out")
	case kind == typeCertificate && s.When.Off:
		return invalid("field \"disable_automated_rotation\": a certificate expires and must be replaced before " +
			"that; give rotation_period or rotation_schedule, and leave it out")
	case kind == typeCertificate:
		return s.checkCommonNames()
	}
	return nil
}

// beforeExpiry brings the next rotation forward if the current certificate would expire before it.
func (s *staticRole) beforeExpiry(next time.Time) time.Time {
	if c := s.Rec.Current; c != nil && !c.Expires.IsZero() && c.Expires.Before(next.Add(certificateMargin)) {
		return s.Now
	}
	return next
}
