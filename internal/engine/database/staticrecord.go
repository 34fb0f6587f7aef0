package database

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// staticData is what the record of a static role stores for this engine. A static role rotates
// the password of an existing user. With a second user, rotations alternate: each changes the
// password of the user that is not published, so that no reader loses access.
type staticData struct {
	DB         string        `json:"db"` // a connection's name
	Users      []string      `json:"users"`
	Statements []string      `json:"statements,omitempty"`
	Form       statementForm `json:"form,omitempty"`
	credentialConfig
	SelfManaged bool      `json:"self,omitempty"` // users change their own passwords
	Skip        bool      `json:"skip,omitempty"` // skip_import_rotation
	When        cron.When `json:"when"`
	Note        string    `json:"note,omitempty"` // of the last rotation

	stored bool
}

// A staticRole is an open record with its data.
type staticRole struct {
	*rotate.Edit
	staticData
}

// staticKind is the kind of the records and the due items of static roles.
const staticKind = "static"

// minPeriod keeps a typing error from rotating all the time.
const minPeriod = 5 * time.Second

// decodeStatic reads the data of a record. s may be nil if the authority's key is not needed.
func decodeStatic(r *rotate.Record, s *rotate.Secrets, into *staticData) error {
	if len(r.Data) == 0 {
		return nil
	}
	err := fault.Wrap("database.static", fault.Internal, json.Unmarshal(r.Data, into))
	if into.stored = true; s != nil {
		into.CAKey = s.Admin[caKeyField]
	}
	return err
}

func encodeStatic(s *staticData) (json.RawMessage, error) {
	b, err := json.Marshal(s)
	return b, fault.Wrap("database.static", fault.Internal, err)
}

// staticRoles reads and changes the stored static roles of a mount.
type staticRoles struct{ records *rotate.Manager }

// change calls f with a role while it holds the role's lock. If there is no such role it returns
// missing or, if that is nil, calls f with a new role.
func (s *staticRoles) change(ctx context.Context, name string, missing error, f func(s *staticRole) error) error {
	return s.records.Change(ctx, staticKind, name, missing, func(e *rotate.Edit) error {
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		role := &staticRole{Edit: e}
		if err := decodeStatic(e.Rec, e.Sec, &role.staticData); err != nil {
			return err
		}
		return f(role)
	})
}

// view reads a role without its lock; nil if there is none.
func (s *staticRoles) view(ctx context.Context, name string) (*staticRole, error) {
	r, secrets, err := s.records.Read(ctx, staticKind, name)
	if err != nil || r == nil {
		return nil, err
	}
	role := &staticRole{Edit: &rotate.Edit{Rec: r, Sec: secrets, Now: time.Now().UTC()}}
	return role, decodeStatic(r, secrets, &role.staticData)
}

// encode writes the data into the record.
func (s *staticRole) encode() (err error) {
	if s.Rec.Data, err = encodeStatic(&s.staticData); !s.CAKey.Empty() {
		s.Sec.Admin[caKeyField] = s.CAKey
	}
	return err
}

// save commits a role with its due item at a time.
func (s *staticRole) save(ctx context.Context, what string, at time.Time) error {
	if err := s.encode(); err != nil {
		return err
	}
	return s.Commit(ctx, what, at)
}

// rotate continues the rotation in flight, or starts one.
func (s *staticRole) rotate(ctx context.Context, by string) error {
	return rotateNow(ctx, s.Edit, by, func() error { return decodeStatic(s.Rec, s.Sec, &s.staticData) })
}

// rotateNow continues a record's rotation in flight. If there is none, or it only set the old
// secret again, rotateNow starts one.
func rotateNow(ctx context.Context, e *rotate.Edit, by string, after func() error) error {
	untilEnd := func(*rotate.Record) bool { return false }
	if last := e.Rec.LastRotated; e.Rec.Turn != nil {
		if err := e.Control().Drive(ctx, untilEnd); err != nil || !e.Rec.LastRotated.Equal(last) {
			return errors.Join(err, after())
		}
	}
	if _, err := e.Control().RotateNow(ctx, rotate.RotateRequest{By: by}); err != nil {
		return err
	}
	if err := e.Control().Drive(ctx, untilEnd); err != nil {
		return err
	}
	return after()
}

// currentSecret is what the published user logs in with; empty: unknown.
func (s *staticRole) currentSecret() secret.Value {
	return s.Sec.Keys[s.Rec.Current.Key()].Secret[secretField]
}

// currentUser is the published user.
func (s *staticRole) currentUser() string {
	if s.Rec.Current != nil {
		return s.Rec.Current.Account
	}
	return s.Users[0]
}

// unresolved reports whether it is unknown which password of the published user is in force.
func (s *staticRole) unresolved() bool { return s.Rec.Unsettled(s.currentUser()) }

// belongsTo reports whether a credential was made for the server of a connection. A credential of
// an earlier version, which did not store the server, counts as one that was.
func belongsTo(cr rotate.Credential, c *connection) bool {
	id := cr.Public[serverField]
	return id == "" || id == c.serverID()
}

// currentBelongsTo reports whether the published password was set at the server of a connection.
func (s *staticRole) currentBelongsTo(c *connection) bool {
	return belongsTo(s.Sec.Keys[s.Rec.Current.Key()], c)
}

func ownedKey(db, user string) string { return ownedPrefix + db + "/" + user }

// Keys of static roles, below the mount. [rotate] writes those of the first line:
//
//	static/<name>, sts/<name>, sth/<name>/, stj/<name>/  record, secrets, history and journal
//	owned/<connection>/<user>                            the static role of the user
//
// Only one role changes a user's password.
const (
	staticPrefix        = "static/"
	staticSecretPrefix  = "sts/"
	staticHistoryPrefix = "sth/"
	staticJournalPrefix = "stj/"
	ownedPrefix         = "owned/"
)

// Fields of stored secrets.
const (
	secretField = "word"           // of a credential: what the user logs in with
	serverField = "place"          // of a credential: the serverID of the connection for which it was made
	caKeyField  = "ca_private_key" // of a role
)
