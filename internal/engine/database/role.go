package database

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// roleIn is a role as it is written. What is nil was not given.
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

// roles are the routes below roles/.
type roles struct{ *backend }

func (b roles) writeRole(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	if err := checkObjectName("role", in.Name); err != nil {
		return route.None{}, err
	}
	decoding := r.Reply().Warnings
	err := b.exclusively(ctx, rolePrefix+in.Name, func() error {
		ro, err := b.role(ctx, in.Name)
		if err != nil {
			return err
		}
		if ro == nil {
			ro = &role{ID: newID()}
		}
		r.Reply().Warnings = slices.Clip(decoding)
		if err := in.apply(ro); err != nil {
			return err
		}
		if err := b.checkRole(ctx, r, in.Name, ro); err != nil {
			return err
		}
		op, err := ro.storeOp(in.Name)
		if err == nil {
			_, err = b.m.Store.Commit(ctx, op)
		}
		return err
	})
	return route.None{}, err
}

func (in *roleIn) apply(ro *role) error {
	set(&ro.DB, in.DB)
	for _, f := range []struct {
		name  string
		list  *[]string
		given *statements
	}{
		{"creation_statements", &ro.Creation, in.Creation}, {"revocation_statements", &ro.Revocation, in.Revocation},
		{"renew_statements", &ro.Renewal, in.Renewal}, {"rollback_statements", &ro.Rollback, in.Rollback},
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
		return invalid("field \"reuse\": %q is unknown; it is \"\" for a user of its own for each read, or \"token\" for one that the same token is given again", ro.Reuse)
	}
	return in.credentialIn.apply(&ro.credentialConfig)
}

// checkRole finds what cannot be right, and warns of what may not be. The
// connection need not be there yet.
func (b roles) checkRole(ctx context.Context, r *route.Request, name string, ro *role) error {
	switch {
	case ro.DB == "":
		return invalid("field \"db_name\" is required: the name of the connection that the role is for")
	case ro.MaxTTL > 0 && ro.TTL > ro.MaxTTL:
		return invalid("field \"default_ttl\": %s must not be above max_ttl, %s", ro.TTL, ro.MaxTTL)
	}
	if err := checkTemplate(r, "common_name_template", ro.Config["common_name_template"], longestCommonName-1); err != nil {
		return err
	}
	if ro.kind() == typeCertificate && ro.MaxTTL == 0 {
		r.Warn("without max_ttl, certificates are valid as long as the mount lets leases live, %s; no database asks whether their lease has ended, only whether their user is there", r.Mount.MaxTTL)
	}
	if err := b.warnOfNote(ctx, r, name, ro); err != nil {
		return err
	}
	c, err := b.byName(ctx, ro.DB)
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
	p, err := b.provider(c.Plugin)
	if err != nil {
		return err
	}
	made, others, err := ro.inspectStatements(p)
	if err != nil {
		return err
	}
	switch {
	case len(ro.creationStatements(p)) == 0:
		r.Warn(none)
	case made.Queries && len(made.Placeholders) == 0:
		// The reference stores what only asks the database for something, and warns of nothing. Credentials are refused
		// when they are read, with the reason.
	default:
		err = ro.checkIssuing(p, made, others)
	}
	for _, found := range others {
		if err == nil {
			err = found.checkPlaceholders()
		}
	}
	return err
}

// roleOut is a role as it is shown.
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

func (b roles) readRole(ctx context.Context, r *route.Request, in nameIn) (*roleOut, error) {
	ro, err := b.role(ctx, in.Name)
	if err != nil || ro == nil {
		return nil, err
	}
	if err := b.warnOfNote(ctx, r, in.Name, ro); err != nil {
		return nil, err
	}
	out := &roleOut{
		Creation: ro.Form.out("creation_statements", ro.Creation), Config: ro.configOut(), Kind: ro.kind(), DB: ro.DB, TTL: ro.TTL, MaxTTL: ro.MaxTTL,
		Renewal: ro.Form.out("renew_statements", ro.Renewal), Revocation: ro.Form.out("revocation_statements", ro.Revocation),
		Rollback: ro.Form.out("rollback_statements", ro.Rollback), Terminate: ro.Terminate, Reuse: ro.Reuse,
	}
	return out, nil
}

func (b roles) roleExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, rolePrefix+r.Param("name"))
	return e.Version != 0, err
}

func (b roles) listRoles(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := b.names(ctx, rolePrefix)
	return route.Keys{Keys: names}, err
}

func (b roles) deleteRole(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	_, err := b.m.Store.Commit(ctx, storage.Remove(rolePrefix+in.Name), storage.Remove(notePrefix+in.Name))
	return route.None{}, err
}

// A note is what revoking a user of a role last needed beyond what its statements do. It
// holds for these statements of this role only.
type note struct {
	Role       string    `json:"role"` // id
	Revocation []string  `json:"revocation"`
	Text       string    `json:"text"`
	At         time.Time `json:"at"`
}

// noteOf returns the note that holds for a role, or nil.
func (b *backend) noteOf(ctx context.Context, name string, ro *role) (*note, error) {
	e, err := b.m.Store.Get(ctx, notePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	n := new(note)
	if err := json.Unmarshal(e.Value, n); err != nil {
		return nil, fault.Wrap("database.note", fault.Internal, err)
	}
	if n.Role != ro.ID || !slices.Equal(n.Revocation, ro.Revocation) {
		return nil, nil
	}
	return n, nil
}

func (b roles) warnOfNote(ctx context.Context, r *route.Request, name string, ro *role) error {
	n, err := b.noteOf(ctx, name, ro)
	if n != nil {
		r.Warn("revocation_statements do not suffice by themselves; at %s, %s; correct them, or leave them out to have users revoked in full", n.At.Format(time.RFC3339), n.Text)
	}
	return err
}

// remember keeps a note, once for all users of whom the same is to be said, and reports whether it is news.
func (b *backend) remember(ctx context.Context, name string, ro *role, text string) (news bool, err error) {
	n, err := b.noteOf(ctx, name, ro)
	if err != nil || n != nil && n.Text == text {
		return false, err
	}
	enc, err := json.Marshal(note{Role: ro.ID, Revocation: ro.Revocation, Text: text, At: time.Now().UTC()})
	if err != nil {
		return true, fault.Wrap("database.note", fault.Internal, err)
	}
	_, err = b.m.Store.Commit(ctx, storage.Set(notePrefix+name, enc), storage.Expect(rolePrefix+name, ro.stored))
	if fault.Is(err, fault.Conflict) {
		return true, nil // the role was written meanwhile: the note is not of what it says now
	}
	return true, err
}
