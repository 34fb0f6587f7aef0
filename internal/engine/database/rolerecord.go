package database

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A role says how users are created, renewed and revoked.
type role struct {
	ID         string        `json:"id"` // a new one if the role is deleted and written again
	DB         string        `json:"db"` // a connection's name
	Creation   []string      `json:"creation,omitempty"`
	Revocation []string      `json:"revocation,omitempty"`
	Renewal    []string      `json:"renewal,omitempty"`
	Rollback   []string      `json:"rollback,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
	MaxTTL     time.Duration `json:"max_ttl,omitempty"`
	Terminate  bool          `json:"terminate,omitempty"`
	Reuse      string        `json:"reuse,omitempty"` // "token": a token that reads again gets the same user
	Form       statementForm `json:"form,omitempty"`
	credentialConfig

	stored storage.Version
}

// storedRole is the stored form of a role. The barrier encrypts it.
type storedRole struct {
	role
	CAKey []byte `json:"ca_key,omitempty"`
}

func (ro *role) storeOp(name string) (storage.Op, error) {
	op, err := roleRows.Set(name, storedRole{role: *ro, CAKey: ro.CAKey.Reveal()})
	return op.If(ro.stored), err
}

// creationStatements are the role's or, without any, those of its kind of database.
func (ro *role) creationStatements(p *Provider) []string {
	if len(ro.Creation) > 0 {
		return ro.Creation
	}
	return p.DefaultCreation
}

// inspectStatements returns what the kind of database finds in the role's statements.
func (ro *role) inspectStatements(p *Provider) (creation Found, others []Found, err error) {
	if creation, err = p.inspect("creation_statements", ro.creationStatements(p)); err != nil {
		return creation, nil, err
	}
	for _, f := range []struct {
		name string
		list []string
	}{
		{name: "revocation_statements", list: ro.Revocation},
		{name: "renew_statements", list: ro.Renewal},
		{name: "rollback_statements", list: ro.Rollback},
	} {
		found, err := p.inspect(f.name, f.list)
		if err != nil {
			return creation, nil, err
		}
		others = append(others, found)
	}
	return creation, others, nil
}

// checkIssuing refuses statements that create no user who can log in with the issued credentials.
func (ro *role) checkIssuing(p *Provider, creation Found, others []Found) error {
	if err := creation.checkPlaceholders(); err != nil {
		return err
	}
	if err := ro.checkLogin(p, creation, others...); err != nil {
		return err
	}
	return ro.checkCreation(p, creation)
}

// roles reads the stored roles of a mount, and keeps notes on them.
type roles struct{ m *engine.Mount }

// get returns a role; nil if there is none.
func (s *roles) get(ctx context.Context, name string) (*role, error) {
	row, version, err := roleRows.Get(ctx, s.m.Store, name)
	if err != nil || row == nil {
		return nil, err
	}
	row.stored, row.role.CAKey = version, secret.New(row.CAKey)
	return &row.role, nil
}

// ofLease returns the role by which a lease was issued; nil if it was deleted, even if there is
// another one of the same name.
func (s *roles) ofLease(ctx context.Context, l *issuedUser) (*role, error) {
	ro, err := s.get(ctx, l.Role)
	if err != nil || ro == nil || ro.ID != l.RoleID {
		return nil, err
	}
	return ro, nil
}

// A note says what the last revocation of a user of a role needed beyond the role's statements. It
// applies only to these statements of this role.
type note struct {
	Role       string    `json:"role"` // id
	Revocation []string  `json:"revocation"`
	Text       string    `json:"text"`
	At         time.Time `json:"at"`
}

// note returns the note that applies to a role; nil if there is none.
func (s *roles) note(ctx context.Context, name string, ro *role) (*note, error) {
	n, _, err := noteRows.Get(ctx, s.m.Store, name)
	if n != nil && (n.Role != ro.ID || !slices.Equal(n.Revocation, ro.Revocation)) {
		return nil, nil
	}
	return n, err
}

// setNote stores a note, and reports whether it differs from the stored one.
func (s *roles) setNote(ctx context.Context, name string, ro *role, text string) (changed bool, err error) {
	n, err := s.note(ctx, name, ro)
	if err != nil || n != nil && n.Text == text {
		return false, err
	}
	op, err := noteRows.Set(name, note{Role: ro.ID, Revocation: ro.Revocation, Text: text, At: time.Now().UTC()})
	if err == nil {
		_, err = s.m.Store.Commit(ctx, op, storage.Expect(roleRows.Key(name), ro.stored))
	}
	if fault.Is(err, fault.Conflict) {
		return true, nil // the role was written meanwhile, so that the note may not apply to it any more
	}
	return true, err
}
