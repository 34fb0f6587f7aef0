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

// rotation is how static roles rotate.
func (b statics) rotation() rotate.Kind {
	of := func(r *rotate.Record) (s staticData) {
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
			if s := (staticRole{Edit: &rotate.Edit{Rec: r}, staticData: of(r)}); r.Current != nil || len(s.Users) > 0 {
				d["username"] = s.currentUser()
			}
			return d
		},
		Timing: func(r *rotate.Record) rotate.Timing { return rotate.Timing{When: of(r).When} },
		Open: func(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (rotate.Target, error) {
			t := &staticTarget{b: b, r: r, s: s}
			if err := decodeStatic(r, s, &t.staticData); err != nil {
				return nil, err
			}
			t.red, t.quotes = red, len(t.Statements) > 0
			var err error
			t.c, err = t.b.serving(ctx, t)
			return t, err
		},
		Adopt: adoptStatic,
	}
}

// A staticTarget is the users of a static role in their database.
type staticTarget struct {
	staticData
	b     statics
	r     *rotate.Record
	s     *rotate.Secrets
	c     *connection
	notes []string // of the database, about what was set
	recorder
}

// serving is usable for who is about to send passwords. One that changes its user's own password tells it to nobody that
// it was not given for.
func (b statics) serving(ctx context.Context, t *staticTarget) (*connection, error) {
	c, err := b.usable(ctx, t.r.Name, &t.staticData)
	if err == nil && t.SelfManaged && !belongsTo(t.s.Keys[t.r.Current.Key()], c) {
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
func (t *staticTarget) VerifyDead(context.Context, rotate.Credential) error { return errNoProof }

// Outdated implements [rotate.Outdater].
func (t *staticTarget) Outdated(c rotate.Credential) bool { return !belongsTo(c, t.c) }

// Generate implements [rotate.Setter]: with two users, it is for the one that is not given out.
func (t *staticTarget) Generate(ctx context.Context) (rotate.Credential, error) {
	user := t.Users[0]
	if c := t.r.Current; len(t.Users) > 1 && c != nil && c.Account == user {
		user = t.Users[1]
	}
	word, err := t.b.newCredential(ctx, &t.staticData, t.c, user)
	if err != nil {
		return rotate.Credential{}, err
	}
	expires, err := t.login(word).expires()
	if err != nil {
		return rotate.Credential{}, err
	}
	return rotate.Credential{
		ID: credentialID(user, t.r), Account: user, Secret: map[string]secret.Value{secretField: word}, Expires: expires, Public: map[string]string{serverField: t.c.serverID()},
	}, nil
}

// Verify implements [rotate.Target] by a login.
func (t *staticTarget) Verify(ctx context.Context, c rotate.Credential) error {
	works, err := tried(ctx, t, c.Account, t.login(c.Secret[secretField]))
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

// tried tries what a user logs in with.
func tried(ctx context.Context, t *staticTarget, user string, l login) (works bool, err error) {
	began := time.Now()
	works, err = t.b.login(ctx, t.c, user, l)
	told := err
	if err == nil && !works {
		told = t.refusal(user)
	}
	said(&t.recorder, stepLogin, t.c, began, told)
	return works, err
}

func (t *staticTarget) refusal(user string) error {
	if t.kind() != typePassword {
		return fault.New("database.rotate", fault.Upstream, "the database refuses the new certificate of %s at login; check that it trusts ca_cert, and that rotation_statements make it the user's", user)
	}
	return fault.New("database.rotate", fault.Upstream, "the database refuses the password of %s at login; check rotation_statements", user)
}

// Set implements [rotate.Setter], as the administrator or as the user. A certificate of which the database is told nothing changes
// nothing there, so that one that is refused surely has not.
func (t *staticTarget) Set(ctx context.Context, from, to rotate.Credential) error {
	t.notes = nil
	ctx = OnWarning(ctx, func(text string) { t.notes = append(t.notes, text) })
	word, user := to.Secret[secretField], to.Account
	began, step := time.Now(), stepSet
	if t.kind() != typePassword {
		step = stepKey
	}
	err := t.b.setPassword(ctx, &t.staticData, t.c, user, from.Secret[secretField], word)
	said(&t.recorder, step, t.c, began, err)
	if err != nil {
		return rotationFailure(err)
	}
	if t.kind() != typeCertificate || len(t.Statements) > 0 {
		return nil
	}
	works, err := tried(ctx, t, user, t.login(word))
	if err == nil && !works {
		return &rotate.Failure{Outcome: rotate.Permanent, Err: t.refusal(user)}
	}
	return nil
}

// Join implements [rotate.Joiner]: the role keeps what the rotation had to tell.
func (t *staticTarget) Join(_ context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	notes := t.notes
	for id, c := range s.Keys {
		if c.Account == r.Current.Account && id != r.Current.ID && !bindsCertificate(t.Statements) && c.Expires.After(time.Now()) {
			notes = append(notes, "the certificate before is taken by the database until "+c.Expires.UTC().Format(time.RFC3339)+", its end, unless the database is told otherwise")
		}
	}
	t.Note = strings.Join(notes, "; ")
	var err error
	r.Data, err = encodeStatic(&t.staticData)
	return nil, err
}
