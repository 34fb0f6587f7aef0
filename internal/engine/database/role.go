package database

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// roleIn is a write of a role. Nil fields were not sent.
type roleIn struct {
	Name       string         `path:"name" doc:"The role's name."`
	DB         *string        `json:"db_name" doc:"The connection that the role uses."`
	Creation   *statements    `json:"creation_statements" doc:"Statements that create a user, with {{name}}, {{expiration}}, and {{password}}, {{public_key}} or {{subject}}, depending on credential_type."`
	Revocation *statements    `json:"revocation_statements" default:"the database's own" doc:"Statements that remove a user, with {{name}}."`
	Renewal    *statements    `json:"renew_statements" default:"the database's own" doc:"Statements that extend the life of a user, with {{name}} and {{expiration}}."`
	Rollback   *statements    `json:"rollback_statements" doc:"Statements that remove a user whose creation failed halfway."`
	TTL        *time.Duration `json:"default_ttl" default:"the mount's" doc:"How long users live if the client asks for no other TTL."`
	MaxTTL     *time.Duration `json:"max_ttl" default:"the mount's" doc:"How long users live at most."`
	Terminate  *bool          `json:"terminate_sessions" default:"the connection's" doc:"Whether revocation ends the sessions of a user."`
	Reuse      *string        `json:"reuse" default:"a user for each read" doc:"token: if a token reads again before its lease expires, it gets the same user again."`
	credentialIn
}

// roleRoutes are the routes below roles/.
type roleRoutes struct {
	m      *engine.Mount
	roles  *roles
	conns  *connections
	writes *writeLocks
}

func (s *roleRoutes) write(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	if err := checkObjectName("role", in.Name); err != nil {
		return route.None{}, err
	}
	decoding := r.Reply().Warnings
	return route.None{}, s.writes.do(ctx, roleRows.Key(in.Name), func() error {
		ro, err := s.roles.get(ctx, in.Name)
		if err != nil {
			return err
		}
		if ro == nil {
			ro = &role{ID: newID()}
		}
		r.Reply().Warnings = slices.Clip(decoding) // without those of an attempt that another server's write made void
		if err := in.apply(ro); err != nil {
			return err
		}
		if err := s.check(ctx, r, in.Name, ro); err != nil {
			return err
		}
		op, err := ro.storeOp(in.Name)
		if err == nil {
			_, err = s.m.Store.Commit(ctx, op)
		}
		return err
	})
}

func (in *roleIn) apply(ro *role) error {
	set(&ro.DB, in.DB)
	for _, f := range []struct {
		name  string
		list  *[]string
		given *statements
	}{
		{name: "creation_statements", list: &ro.Creation, given: in.Creation},
		{name: "revocation_statements", list: &ro.Revocation, given: in.Revocation},
		{name: "renew_statements", list: &ro.Renewal, given: in.Renewal},
		{name: "rollback_statements", list: &ro.Rollback, given: in.Rollback},
	} {
		if err := ro.Form.set(f.name, f.list, f.given); err != nil {
			return err
		}
	}
	set(&ro.TTL, in.TTL)
	set(&ro.MaxTTL, in.MaxTTL)
	set(&ro.Terminate, in.Terminate)
	set(&ro.Reuse, in.Reuse)
	if ro.Reuse != "" && ro.Reuse != reuseToken {
		return invalid("field \"reuse\": %q is unknown; it is \"\" for a new user for each read, or \"token\" to "+
			"give the same token its user again", ro.Reuse)
	}
	return in.credentialIn.apply(&ro.credentialConfig)
}

// check refuses contradictions, and warns of what may be wrong. The connection may be written
// later.
func (s *roleRoutes) check(ctx context.Context, r *route.Request, name string, ro *role) error {
	switch {
	case ro.DB == "":
		return invalid("field \"db_name\" is required: the name of the connection that the role is for")
	case ro.MaxTTL > 0 && ro.TTL > ro.MaxTTL:
		return invalid("field \"default_ttl\": %s must not be above max_ttl, %s", ro.TTL, ro.MaxTTL)
	}
	if err := checkTemplate(r, "common_name_template", ro.Config["common_name_template"],
		longestCommonName-1); err != nil {
		return err
	}
	if ro.kind() == typeCertificate && ro.MaxTTL == 0 {
		r.Warn("without max_ttl, certificates are valid as long as the mount lets leases live, %s; no database asks "+
			"whether their lease has ended, only whether their user is there", r.Mount.MaxTTL)
	}
	if err := s.warnOfNote(ctx, r, name, ro); err != nil {
		return err
	}
	c, err := s.conns.byName(ctx, ro.DB)
	if err != nil {
		return err
	}
	const none = "creation_statements are empty; no user can be made until they are given"
	if c == nil {
		if len(ro.Creation) == 0 {
			r.Warn(none)
		}
		r.Warn("there is no connection %q yet; statements were not checked", ro.DB)
		return nil
	}
	p, err := s.conns.provider(c)
	if err != nil {
		return err
	}
	creation, others, err := ro.inspectStatements(p)
	if err != nil {
		return err
	}
	switch {
	case len(ro.creationStatements(p)) == 0:
		r.Warn(none)
	case creation.Queries && len(creation.Placeholders) == 0:
		// The reference stores mere queries without a warning. A read of credentials is refused
		// with the reason.
	default:
		err = ro.checkIssuing(p, creation, others)
	}
	for _, found := range others {
		if err == nil {
			err = found.checkPlaceholders()
		}
	}
	return err
}

// roleOut is a role in an answer.
type roleOut struct {
	Creation   []string          `json:"creation_statements"`
	Config     map[string]string `json:"credential_config"`
	Kind       string            `json:"credential_type"`
	DB         string            `json:"db_name"`
	TTL        time.Duration     `json:"default_ttl"`
	MaxTTL     time.Duration     `json:"max_ttl"`
	Renewal    []string          `json:"renew_statements"`
	Revocation []string          `json:"revocation_statements"`
	Rollback   []string          `json:"rollback_statements"`
	Terminate  bool              `json:"terminate_sessions,omitempty"`
	Reuse      string            `json:"reuse,omitempty"`
}

func (s *roleRoutes) read(ctx context.Context, r *route.Request, in nameIn) (*roleOut, error) {
	ro, err := s.roles.get(ctx, in.Name)
	if err != nil || ro == nil {
		return nil, err
	}
	if err := s.warnOfNote(ctx, r, in.Name, ro); err != nil {
		return nil, err
	}
	return &roleOut{
		Creation:   ro.Form.out("creation_statements", ro.Creation),
		Revocation: ro.Form.out("revocation_statements", ro.Revocation),
		Renewal:    ro.Form.out("renew_statements", ro.Renewal),
		Rollback:   ro.Form.out("rollback_statements", ro.Rollback),
		Config:     ro.configOut(), Kind: ro.kind(), DB: ro.DB, TTL: ro.TTL, MaxTTL: ro.MaxTTL,
		Terminate: ro.Terminate, Reuse: ro.Reuse,
	}, nil
}

func (s *roleRoutes) exists(ctx context.Context, r *route.Request) (bool, error) {
	return s.m.Store.Has(ctx, roleRows.Key(r.Param("name")))
}

func (s *roleRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := s.m.Store.Names(ctx, string(roleRows))
	return route.Keys{Keys: names}, err
}

func (s *roleRoutes) remove(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	_, err := s.m.Store.Commit(ctx, storage.Remove(roleRows.Key(in.Name)), storage.Remove(noteRows.Key(in.Name)))
	return route.None{}, err
}

func (s *roleRoutes) warnOfNote(ctx context.Context, r *route.Request, name string, ro *role) error {
	n, err := s.roles.note(ctx, name, ro)
	if n != nil {
		r.Warn("revocation_statements do not suffice by themselves; at %s, %s; correct them, or leave them out to "+
			"have users revoked in full", n.At.Format(time.RFC3339), n.Text)
	}
	return err
}
