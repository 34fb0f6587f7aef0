package database

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// role says how users are made and ended.
type role struct {
	Name       string        `json:"-"`
	DB         string        `json:"db"`
	Creation   []string      `json:"creation,omitempty"`
	Revocation []string      `json:"revocation,omitempty"`
	Renewal    []string      `json:"renewal,omitempty"`
	Rollback   []string      `json:"rollback,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
	MaxTTL     time.Duration `json:"max_ttl,omitempty"`
	Terminate  bool          `json:"terminate,omitempty"`
	// Note is what the last revocation had to do beyond the role's statements.
	Note string `json:"note,omitempty"`
}

// roles serves the roles of a mount.
type roles struct{ *backend }

func (b *backend) loadRole(ctx context.Context, name string) (*role, storage.Version, error) {
	e, err := b.m.Store.Get(ctx, rolePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, 0, err
	}
	ro := &role{Name: name}
	if err := json.Unmarshal(e.Value, ro); err != nil {
		return nil, 0, fault.Wrap("database.loadRole", fault.Internal, err)
	}
	return ro, e.Version, nil
}

func (b *backend) saveRole(ctx context.Context, ro *role, was storage.Version) error {
	enc, err := json.Marshal(ro)
	if err != nil {
		return fault.Wrap("database.saveRole", fault.Internal, err)
	}
	_, err = b.m.Store.Commit(ctx, storage.Set(rolePrefix+ro.Name, enc).If(was))
	if fault.Is(err, fault.Conflict) {
		return fault.New("database.saveRole", fault.Unavailable, "the role %q was written by another request at the same time; try again", ro.Name)
	}
	return err
}

// statements are SQL texts: a list, or one text that holds commas of its own.
type statements []string

// UnmarshalJSON takes a list, or one text as it is: SQL has commas.
func (s *statements) UnmarshalJSON(b []byte) error {
	var many []string
	if json.Unmarshal(b, &many) == nil {
		*s = many
		return nil
	}
	var one string
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*s = nil
	if one != "" {
		*s = statements{one}
	}
	return nil
}

type sqlField struct{ statements }

type roleIn struct {
	Name       string         `path:"name"`
	DB         *string        `json:"db_name"`
	Creation   *sqlField      `json:"creation_statements"`
	Revocation *sqlField      `json:"revocation_statements"`
	Renewal    *sqlField      `json:"renew_statements"`
	Rollback   *sqlField      `json:"rollback_statements"`
	TTL        *time.Duration `json:"default_ttl"`
	MaxTTL     *time.Duration `json:"max_ttl"`
	Kind       *string        `json:"credential_type"`
	KindConfig map[string]any `json:"credential_config"`
	Terminate  *bool          `json:"terminate_sessions"`
}

func setSQL(to *[]string, from *sqlField) {
	if from != nil {
		*to = from.statements
	}
}

func (b roles) writeRole(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	ro, was, err := b.loadRole(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		ro = &role{Name: in.Name}
	}
	set(&ro.DB, in.DB)
	setSQL(&ro.Creation, in.Creation)
	setSQL(&ro.Revocation, in.Revocation)
	setSQL(&ro.Renewal, in.Renewal)
	setSQL(&ro.Rollback, in.Rollback)
	set(&ro.TTL, in.TTL)
	set(&ro.MaxTTL, in.MaxTTL)
	set(&ro.Terminate, in.Terminate)
	if in.Revocation != nil {
		ro.Note = ""
	}
	if err := b.checkRole(ctx, r, ro, &in); err != nil {
		return route.None{}, err
	}
	return route.None{}, b.saveRole(ctx, ro, was)
}

func (b roles) checkRole(ctx context.Context, r *route.Request, ro *role, in *roleIn) error {
	switch {
	case ro.DB == "":
		return fault.New("database.role", fault.Invalid, "field \"db_name\": say which connection the role is for")
	case len(ro.Creation) == 0:
		return fault.New("database.role", fault.Invalid, "field \"creation_statements\": say how a user is made")
	case in.Kind != nil && *in.Kind != "" && *in.Kind != "password":
		return fault.New("database.role", fault.Unsupported, "field \"credential_type\": only \"password\" is built, not %q", *in.Kind)
	case ro.MaxTTL > 0 && ro.TTL > ro.MaxTTL:
		return fault.New("database.role", fault.Invalid, "field \"default_ttl\" (%s) must not be above max_ttl (%s)", ro.TTL, ro.MaxTTL)
	}
	c, err := b.byName(ctx, ro.DB)
	if err != nil {
		return err
	}
	if c == nil {
		r.Warn("there is no connection %q yet; the role can be used once there is", ro.DB)
		return nil
	}
	p, err := b.provider(c.Plugin)
	if err != nil || p.CheckStatements == nil {
		return err
	}
	for field, sql := range map[string][]string{
		"creation_statements": ro.Creation, "revocation_statements": ro.Revocation,
		"renew_statements": ro.Renewal, "rollback_statements": ro.Rollback,
	} {
		if err := p.CheckStatements(field, sql); err != nil {
			return err
		}
	}
	return nil
}

type roleOut struct {
	Creation   []string      `json:"creation_statements"`
	Kind       string        `json:"credential_type"`
	DB         string        `json:"db_name"`
	TTL        time.Duration `json:"default_ttl"`
	MaxTTL     time.Duration `json:"max_ttl"`
	Renewal    []string      `json:"renew_statements"`
	Revocation []string      `json:"revocation_statements"`
	Rollback   []string      `json:"rollback_statements"`
	Terminate  bool          `json:"terminate_sessions,omitempty"`
}

func (b roles) readRole(ctx context.Context, r *route.Request, in nameIn) (*roleOut, error) {
	ro, _, err := b.loadRole(ctx, in.Name)
	if err != nil || ro == nil {
		return nil, err
	}
	if ro.Note != "" {
		r.Warn("the last revocation had to do more than revocation_statements say: %s", ro.Note)
	}
	return &roleOut{
		Creation: list(ro.Creation), Kind: "password", DB: ro.DB, TTL: ro.TTL, MaxTTL: ro.MaxTTL,
		Renewal: list(ro.Renewal), Revocation: list(ro.Revocation), Rollback: list(ro.Rollback), Terminate: ro.Terminate,
	}, nil
}

func (b roles) roleExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, rolePrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b roles) listRoles(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	return b.names(ctx, rolePrefix)
}

func (b roles) deleteRole(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	_, err := b.m.Store.Commit(ctx, storage.Remove(rolePrefix+in.Name))
	return route.None{}, err
}
