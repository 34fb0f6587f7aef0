package database

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// rotation is how static roles rotate.
func (b statics) rotation() rotate.Kind {
	of := func(r *rotate.Record) (s static) {
		if err := decodeStatic(r, nil, &s); err != nil {
			b.m.Log.Error("a static role's data cannot be read", "role", r.Name, "error", err)
		}
		return s
	}
	return rotate.Kind{
		Name: staticKind, Noun: "static role", Style: rotate.InPlace,
		Records: staticPrefix, Secrets: staticSecretPrefix, History: staticHistoryPrefix, Journal: staticJournalPrefix,
		Path: func(name string) string { return "static-roles/" + name },
		Details: func(r *rotate.Record) map[string]string {
			d := map[string]string{"role": r.Name, "path": b.m.Settings().Path + "static-roles/" + r.Name}
			if s := (staticRole{Edit: &rotate.Edit{Rec: r}, static: of(r)}); r.Current != nil || len(s.Users) > 0 {
				d["username"] = s.user()
			}
			return d
		},
		Timing: func(r *rotate.Record) rotate.Timing { return rotate.Timing{When: of(r).When} },
		Open: func(ctx context.Context, r *rotate.Record, s *rotate.Secrets, _ *secret.Redactor) (rotate.Target, error) {
			t := &staticTarget{b: b, r: r, s: s}
			if err := decodeStatic(r, s, &t.static); err != nil {
				return nil, err
			}
			var err error
			t.c, err = t.b.serving(ctx, t)
			return t, err
		},
		Adopt: adoptStatic,
	}
}

// A staticTarget is the users of a static role in their database.
type staticTarget struct {
	static
	b     statics
	r     *rotate.Record
	s     *rotate.Secrets
	c     *connection
	notes []string // of the database, about what was set
}

// serving is usable for who is about to send passwords. One that changes its user's own password tells it to nobody that
// it was not given for.
func (b statics) serving(ctx context.Context, t *staticTarget) (*connection, error) {
	c, err := b.usable(ctx, t.r.Name, &t.static)
	if err == nil && t.SelfManaged && !at(t.s.Keys[t.r.Current.Key()], c) {
		err = invalid("field \"self_managed_password\": connection %q leads elsewhere since the password of %q was given, and it is not sent there unasked; write static-roles/%s with self_managed_password again", c.Name, t.Users[0], t.r.Name)
	}
	return c, err
}

// Capabilities implements [rotate.Target].
func (t *staticTarget) Capabilities() rotate.Capabilities {
	can := rotate.Capabilities{Proof: rotate.ProofUse}
	if t.SelfManaged { // nobody else could set another password, if one were forgotten that is in force
		can.Retry = rotate.RetryNever
	}
	return can
}

// Settle implements [rotate.Target].
func (t *staticTarget) Settle() rotate.Settle { return rotate.Settle{} }

// Place implements [rotate.Target].
func (t *staticTarget) Place() *rotate.Place { return nil }

// VerifyDead implements [rotate.Target].
func (t *staticTarget) VerifyDead(context.Context, rotate.Credential) error { return errNotAsked }

var errNotAsked = &rotate.Failure{Outcome: rotate.Permanent, Err: fault.New("database.rotate", fault.Internal, "a password that was replaced is dead")}

// Outdated implements [rotate.Outdater].
func (t *staticTarget) Outdated(c rotate.Credential) bool { return !at(c, t.c) }

// Generate implements [rotate.Setter]: with two users, it is for the one that is not given out.
func (t *staticTarget) Generate(ctx context.Context) (rotate.Credential, error) {
	user := t.Users[0]
	if c := t.r.Current; len(t.Users) > 1 && c != nil && c.Account == user {
		user = t.Users[1]
	}
	word, err := t.b.newCredential(ctx, &t.static, t.c, user)
	if err != nil {
		return rotate.Credential{}, err
	}
	expires, err := t.as(word).expires()
	if err != nil {
		return rotate.Credential{}, err
	}
	return rotate.Credential{
		ID: generation(user, t.r), Account: user, Secret: map[string]secret.Value{wordKey: word}, Expires: expires, Public: map[string]string{placeKey: t.c.place()},
	}, nil
}

// generation is the ID of the next secret of a user: svc#3, or svc#3.2 for the second of a rotation.
func generation(user string, r *rotate.Record) string {
	n := 1
	if t := r.Turn; t != nil && len(t.Attempts) > 0 {
		n = int(t.Attempts[len(t.Attempts)-1].N) + 1
	}
	if n == 1 {
		return fmt.Sprintf("%s#%d", user, r.Number())
	}
	return fmt.Sprintf("%s#%d.%d", user, r.Number(), n)
}

// Verify implements [rotate.Target] by a login.
func (t *staticTarget) Verify(ctx context.Context, c rotate.Credential) error {
	works, err := t.b.login(ctx, t.c, c.Account, t.as(c.Secret[wordKey]))
	switch {
	case works:
		return nil
	case fault.Is(err, fault.Unsupported):
		return &rotate.Failure{Outcome: rotate.Untested, Err: err}
	case err != nil:
		return &rotate.Failure{Outcome: rotate.Transient, Err: err}
	}
	return &rotate.Failure{Outcome: rotate.Rejected, Err: t.refusal(c.Account)}
}

func (t *staticTarget) refusal(user string) error {
	if t.kind() != byPassword {
		return fault.New("database.rotate", fault.Upstream, "the database refuses the new certificate of %s at login; check that it trusts ca_cert, and that rotation_statements make it the user's", user)
	}
	return fault.New("database.rotate", fault.Upstream, "the database refuses the password of %s at login; check rotation_statements", user)
}

// Set implements [rotate.Setter], as the administrator or as the user. A certificate of which the database is told nothing changes
// nothing there, so that one that is refused surely has not.
func (t *staticTarget) Set(ctx context.Context, from, to rotate.Credential) error {
	t.notes = nil
	ctx = OnWarning(ctx, func(text string) { t.notes = append(t.notes, text) })
	word, user := to.Secret[wordKey], to.Account
	if err := t.b.setPassword(ctx, &t.static, t.c, user, from.Secret[wordKey], word); err != nil {
		return failure(err)
	}
	if t.kind() != byCertificate || len(t.Statements) > 0 {
		return nil
	}
	works, err := t.b.login(ctx, t.c, user, t.as(word))
	if err == nil && !works {
		return &rotate.Failure{Outcome: rotate.Permanent, Err: t.refusal(user)}
	}
	return nil
}

// failure says what is known after a change of a password that failed.
func failure(err error) error {
	f := &rotate.Failure{Outcome: rotate.Unknown, Err: err}
	switch {
	case !Unchanged(err):
	case Refused(err) || fault.Is(err, fault.Invalid):
		f.Outcome = rotate.Permanent
	default:
		f.Outcome = rotate.Transient
	}
	return f
}

// Join implements [rotate.Joiner]: the role keeps what the rotation had to tell.
func (t *staticTarget) Join(_ context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	notes := t.notes
	for id, c := range s.Keys {
		if c.Account == r.Current.Account && id != r.Current.ID && !t.told() && c.Expires.After(time.Now()) {
			notes = append(notes, "the certificate before is taken by the database until "+c.Expires.UTC().Format(time.RFC3339)+", its end, unless the database is told otherwise")
		}
	}
	t.Note = strings.Join(notes, "; ")
	var err error
	r.Data, err = encodeStatic(&t.static)
	return nil, err
}

// setPassword changes a user's password, as the administrator or as the user, or what it has in its place.
func (b statics) setPassword(ctx context.Context, s *static, c *connection, user string, from, to secret.Value) error {
	const op = "database.rotate"
	if err := s.changes(c.kind, staticStatements, s.Statements); err != nil {
		return err
	}
	set := func(conn Conn) error {
		if s.kind() != byPassword {
			return b.setKey(ctx, s, conn, user, s.as(to))
		}
		return conn.SetPassword(ctx, user, to, s.Statements)
	}
	if !c.Self {
		return b.using(ctx, op, c, []secret.Value{from, to}, set)
	}
	conn, done, err := b.own(ctx, c, user, from)
	if err == nil {
		err = set(conn)
		done()
	}
	if err != nil {
		return outside(op, err, c.redactor(from, to))
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
