package database

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A role says how users are made, renewed and revoked.
type role struct {
	ID         string        `json:"id"` // another for each life of the name
	DB         string        `json:"db"` // a connection's name
	Creation   []string      `json:"creation,omitempty"`
	Revocation []string      `json:"revocation,omitempty"`
	Renewal    []string      `json:"renewal,omitempty"`
	Rollback   []string      `json:"rollback,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
	MaxTTL     time.Duration `json:"max_ttl,omitempty"`
	Terminate  bool          `json:"terminate,omitempty"`
	Reuse      string        `json:"reuse,omitempty"` // "token": a token is given its user again
	Form       statementForm `json:"form,omitempty"`
	credentialConfig

	stored storage.Version
}

// storedRole is what the barrier encrypts.
type storedRole struct {
	*role
	CAKey []byte `json:"ca_key,omitempty"`
}

func (ro *role) storeOp(name string) (storage.Op, error) {
	enc, err := json.Marshal(storedRole{ro, ro.CAKey.Reveal()})
	return storage.Set(rolePrefix+name, enc).If(ro.stored), fault.Wrap("database.role", fault.Internal, err)
}

// role finds a role; nil for none.
func (b *backend) role(ctx context.Context, name string) (*role, error) {
	e, err := b.m.Store.Get(ctx, rolePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	st := storedRole{role: &role{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &st); err != nil {
		return nil, fault.Wrap("database.role", fault.Internal, err)
	}
	st.role.CAKey = secret.New(st.CAKey)
	return st.role, nil
}

// creationStatements are the statements that make users, the role's or those of its kind of database.
func (ro *role) creationStatements(p *Provider) []string {
	if len(ro.Creation) > 0 {
		return ro.Creation
	}
	return p.DefaultCreation
}

// inspectStatements is what a kind of database finds in the role's statements: in those that make users, and in others.
func (ro *role) inspectStatements(p *Provider) (made Found, others []Found, err error) {
	if made, err = p.inspect("creation_statements", ro.creationStatements(p)); err != nil {
		return made, nil, err
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"revocation_statements", ro.Revocation}, {"renew_statements", ro.Renewal}, {"rollback_statements", ro.Rollback}} {
		found, err := p.inspect(f.name, f.list)
		if err != nil {
			return made, nil, err
		}
		others = append(others, found)
	}
	return made, others, nil
}

// checkIssuing refuses a role by which no user could be made who logs in with what is given out.
func (ro *role) checkIssuing(p *Provider, made Found, others []Found) error {
	if err := made.checkPlaceholders(); err != nil {
		return err
	}
	if err := ro.checkLogin(p, made, others...); err != nil {
		return err
	}
	return ro.checkCreation(p, made)
}
