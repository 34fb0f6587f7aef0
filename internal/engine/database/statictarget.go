package database

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// kind describes the records of static roles to [rotate].
func (s *staticUsers) kind() rotate.Kind {
	dataOf := func(r *rotate.Record) (d staticData) {
		if err := decodeStatic(r, nil, &d); err != nil {
			s.m.Log.Error("a static role's data cannot be read", "role", r.Name, "error", err)
		}
		return d
	}
	return rotate.Kind{
		Name: staticKind, Noun: "static role", Style: rotate.InPlace,
		Records: staticPrefix, Secrets: staticSecretPrefix, History: staticHistoryPrefix, Journal: staticJournalPrefix,
		Path: func(name string) string { return "static-roles/" + name },
		Details: func(r *rotate.Record) map[string]string {
			d := map[string]string{"role": r.Name, "path": s.m.Settings().Path + "static-roles/" + r.Name}
			if role := (staticRole{Edit: &rotate.Edit{Rec: r}, staticData: dataOf(r)}); r.Current != nil ||
				len(role.Users) > 0 {
				d["username"] = role.currentUser()
			}
			return d
		},
		Timing: func(r *rotate.Record) rotate.Timing { return rotate.Timing{When: dataOf(r).When} },
		Open: func(ctx context.Context, r *rotate.Record, secrets *rotate.Secrets,
			red *secret.Redactor) (rotate.Target, error) {
			t := &staticTarget{users: s, r: r, s: secrets}
			if err := decodeStatic(r, secrets, &t.staticData); err != nil {
				return nil, err
			}
			t.red, t.quotes = red, len(t.Statements) > 0
			var err error
			t.c, err = s.targetConnection(ctx, t)
			return t, err
		},
		Migrate: upgradeStatic,
	}
}

// A staticTarget sets the passwords or keys of a static role's users.
type staticTarget struct {
	staticData
	users *staticUsers
	r     *rotate.Record
	s     *rotate.Secrets
	c     *connection
	notes []string // warnings of the database about the last Set
	recorder
}

// targetConnection returns the connection of a target. A user that changes its own password logs
// in with it, so the password is sent only to the server for which it was given.
func (s *staticUsers) targetConnection(ctx context.Context, t *staticTarget) (*connection, error) {
	c, err := s.connection(ctx, t.r.Name, &t.staticData)
	if err == nil && t.SelfManaged && !belongsTo(t.s.Keys[t.r.Current.Key()], c) {
		err = invalid("field \"self_managed_password\": connection %q now points to another server than when the "+
			"password of %q was given, and that password is not sent there; write static-roles/%s with "+
			"self_managed_password again", c.Name,
			t.Users[0], t.r.Name)
	}
	return c, err
}

// Capabilities implements [rotate.Target].
func (t *staticTarget) Capabilities() rotate.Capabilities {
	can := rotate.Capabilities{Proof: rotate.ProofUse}
	if t.SelfManaged { // without the password in force, nobody could set another one
		can.Retry = rotate.RetryNever
	}
	return can
}

// Settle implements [rotate.Target].
func (t *staticTarget) Settle() rotate.Settle { return rotate.Settle{} }

// Place implements [rotate.Target].
func (t *staticTarget) Place() *rotate.Place { return nil }

// VerifyDead implements [rotate.Target].
func (t *staticTarget) VerifyDead(context.Context, rotate.Credential) error { return errNoProof }

// Outdated implements [rotate.Outdater].
func (t *staticTarget) Outdated(c rotate.Credential) bool { return !belongsTo(c, t.c) }

// Generate implements [rotate.Setter]. With two users, it is for the one that is not published.
func (t *staticTarget) Generate(ctx context.Context) (rotate.Credential, error) {
	user := t.Users[0]
	if c := t.r.Current; len(t.Users) > 1 && c != nil && c.Account == user {
		user = t.Users[1]
	}
	value, err := t.users.newSecret(ctx, &t.staticData, t.c, user)
	if err != nil {
		return rotate.Credential{}, err
	}
	expires, err := t.login(value).expires()
	if err != nil {
		return rotate.Credential{}, err
	}
	return rotate.Credential{
		ID: credentialID(user, t.r), Account: user, Expires: expires,
		Secret: map[string]secret.Value{secretField: value}, Public: map[string]string{serverField: t.c.serverID()},
	}, nil
}

// Verify implements [rotate.Target] by a login.
func (t *staticTarget) Verify(ctx context.Context, c rotate.Credential) error {
	works, err := testLogin(ctx, t, c.Account, t.login(c.Secret[secretField]))
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

// testLogin tests and records a login.
func testLogin(ctx context.Context, t *staticTarget, user string, l login) (works bool, err error) {
	start := time.Now()
	works, err = t.users.login(ctx, t.c, user, l)
	recorded := err
	if err == nil && !works {
		recorded = t.refusal(user)
	}
	record(&t.recorder, stepLogin, t.c, start, recorded)
	return works, err
}

func (t *staticTarget) refusal(user string) error {
	if t.kind() != typePassword {
		return fault.New("database.rotate", fault.Upstream, "the database refuses the new certificate of %s at "+
			"login; check that it trusts ca_cert, and that rotation_statements make it the user's", user)
	}
	return fault.New("database.rotate", fault.Upstream,
		"the database refuses the password of %s at login; check rotation_statements", user)
}

// Set implements [rotate.Setter], as the administrator or as the user. Without statements, a new
// certificate changes nothing at the database, so a refused one surely had no effect.
func (t *staticTarget) Set(ctx context.Context, from, to rotate.Credential) error {
	ctx = OnWarning(ctx, func(text string) { t.notes = append(t.notes, text) })
	value, user := to.Secret[secretField], to.Account
	start, step := time.Now(), stepSet
	if t.kind() != typePassword {
		step = stepKey
	}
	err := t.users.setSecret(ctx, &t.staticData, t.c, user, from.Secret[secretField], value)
	record(&t.recorder, step, t.c, start, err)
	if err != nil {
		return rotationFailure(err)
	}
	if t.kind() != typeCertificate || len(t.Statements) > 0 {
		return nil
	}
	works, err := testLogin(ctx, t, user, t.login(value))
	if err == nil && !works {
		return &rotate.Failure{Outcome: rotate.Permanent, Err: t.refusal(user)}
	}
	return nil
}

// Join implements [rotate.Joiner]. It stores the notes of the rotation with the role.
func (t *staticTarget) Join(_ context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	notes := t.notes
	for id, c := range s.Keys {
		if c.Account == r.Current.Account && id != r.Current.ID && !bindsCertificate(t.Statements) &&
			c.Expires.After(time.Now()) {
			notes = append(notes,
				"the certificate before is taken by the database until "+c.Expires.UTC().Format(time.RFC3339)+
					", its end, unless the database is told otherwise")
		}
	}
	t.Note = strings.Join(notes, "; ")
	var err error
	r.Data, err = encodeStatic(&t.staticData)
	return nil, err
}
