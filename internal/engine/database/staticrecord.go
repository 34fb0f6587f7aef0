package database

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A static role is a user that was there before, whose password changes. With a
// second user, the two take turns: a change is always of the one that nobody was
// given last, so that it cuts no one off. This is what its record keeps for this engine.
type staticData struct {
	DB         string        `json:"db"` // a connection's name
	Users      []string      `json:"users"`
	Statements []string      `json:"statements,omitempty"`
	Form       statementForm `json:"form,omitempty"`
	credentialConfig
	SelfManaged bool      `json:"self,omitempty"` // users change their own passwords
	Skip        bool      `json:"skip,omitempty"` // was not rotated when it was written first
	When        cron.When `json:"when"`
	Note        string    `json:"note,omitempty"` // of the last rotation

	stored bool
}

// A staticRole is one record in hand, with its data.
type staticRole struct {
	*rotate.Edit
	staticData
}

// staticKind is the kind of the records and the due items of static roles.
const staticKind = "static"

// minPeriod keeps a typing error from rotating all the time.
const minPeriod = 5 * time.Second

// decodeStatic reads the data of a record; s is nil where nobody needs the authority's key.
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

// statics are the routes of static roles.
type statics struct{ *backend }

// open decodes a record in hand.
func (b statics) open(ctx context.Context, e *rotate.Edit) (*staticRole, error) {
	if err := e.Unlock(ctx); err != nil {
		return nil, err
	}
	s := &staticRole{Edit: e}
	return s, decodeStatic(e.Rec, e.Sec, &s.staticData)
}

// change runs f on a role with its lock held. Without missing, one that is not there is new.
func (b statics) change(ctx context.Context, name string, missing error, f func(s *staticRole) error) error {
	return b.rotations.Change(ctx, staticKind, name, missing, func(e *rotate.Edit) error {
		s, err := b.open(ctx, e)
		if err != nil {
			return err
		}
		return f(s)
	})
}

// view reads a role without its lock; nil if there is none.
func (b statics) view(ctx context.Context, name string) (*staticRole, error) {
	r, secrets, err := b.rotations.Read(ctx, staticKind, name)
	if err != nil || r == nil {
		return nil, err
	}
	s := &staticRole{Edit: &rotate.Edit{Rec: r, Sec: secrets, Now: time.Now().UTC()}}
	return s, decodeStatic(r, secrets, &s.staticData)
}

// keep puts the data into the record.
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

// currentSecret is what the user that is given out logs in with; empty: not known.
func (s *staticRole) currentSecret() secret.Value {
	return s.Sec.Keys[s.Rec.Current.Key()].Secret[secretField]
}

// currentUser is who is given out.
func (s *staticRole) currentUser() string {
	if s.Rec.Current != nil {
		return s.Rec.Current.Account
	}
	return s.Users[0]
}

// unresolved reports whether it is not known which password the user that is given out has.
func (s *staticRole) unresolved() bool { return s.Rec.Unsettled(s.currentUser()) }

// belongsTo reports whether the connection leads to where a credential was made. Of one that was made before that was noted, it is taken to.
func belongsTo(cr rotate.Credential, c *connection) bool {
	place := cr.Public[serverField]
	return place == "" || place == c.serverID()
}

// belongsTo reports whether the connection leads to where the password that is given out was set.
func (s *staticRole) setAt(c *connection) bool { return belongsTo(s.Sec.Keys[s.Rec.Current.Key()], c) }

func ownedKey(db, user string) string { return ownedPrefix + db + "/" + user }

// Keys of static roles, below the mount; [rotate] keeps those of the first line:
//
//	static/<name>, sts/<name>, sth/<name>/, stj/<name>/  a static role, its secrets, its history and its journal
//	owned/<connection>/<user>                            the static role that changes the user's password
//
// One role alone changes a user's password.
const (
	staticPrefix        = "static/"
	staticSecretPrefix  = "sts/"
	staticHistoryPrefix = "sth/"
	staticJournalPrefix = "stj/"
	ownedPrefix         = "owned/"
)

// wordKey is the name by which a credential keeps what the user logs in with, caKey that of a role's authority's key, placeKey that of
// where the connection led when the credential was made.
const (
	secretField = "word"
	caKeyField  = "ca_private_key"
	serverField = "place"
)
