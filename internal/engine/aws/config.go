package aws

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// rootIn is a write of config/root. Nil fields were not sent.
type rootIn struct {
	KeyID  *string       `json:"access_key" doc:"The access key that creates users and sessions. If this and secret_key are empty, the server uses the credentials that AWS's own tools find on this machine. If both are left out, the stored key is kept."`
	Secret *secret.Value `json:"secret_key" doc:"The secret key that belongs to access_key. It is never read back."`

	apiSettingsIn

	Checks **int           `json:"propagation_checks" default:"5" doc:"How many calls in a row a new access key must be accepted by AWS before it is used, within a minute; 0: none, and no wait."`
	Pause  **time.Duration `json:"propagation_settle" default:"5s" doc:"The wait after these calls."`

	scheduleIn
	unsupportedIn
}

// unsupportedIn are fields of the reference that are not implemented yet.
type unsupportedIn struct {
	RoleARN  wire.Raw `json:"role_arn" doc:"Not implemented yet; refused."`
	Audience wire.Raw `json:"identity_token_audience" doc:"Not implemented yet; refused."`
	TokenTTL wire.Raw `json:"identity_token_ttl" doc:"Not implemented yet; refused."`
}

func (l *unsupportedIn) refuse() error {
	for _, f := range []struct {
		name string
		v    wire.Raw
	}{
		{name: "role_arn", v: l.RoleARN}, {name: "identity_token_audience", v: l.Audience},
		{name: "identity_token_ttl", v: l.TokenTTL},
	} {
		switch strings.TrimSpace(string(f.v.Reveal())) {
		case "", "null", `""`, "0", `"0"`, `"0s"`:
		default:
			return invalid("field %q: it is not implemented yet; leave it out, and give access_key and secret_key",
				f.name)
		}
	}
	return nil
}

// configRoutes are the routes below config/.
type configRoutes struct {
	m       *engine.Mount
	configs *configs
	clients *clients
	records *rotate.Manager
	root    *rootRotation
}

func (s *configRoutes) writeRoot(ctx context.Context, r *route.Request, in rootIn) (route.None, error) {
	if err := in.refuse(); err != nil {
		return route.None{}, err
	}
	return route.None{}, s.records.Change(ctx, rootKind, rootKind, nil, func(e *rotate.Edit) error {
		c, err := s.merge(ctx, r, &in)
		if err != nil {
			return err
		}
		d, was := rootDataOf(e.Rec), s.root.kind().Timing(e.Rec)
		if err := in.scheduleIn.apply(&d.When); err != nil {
			return err
		}
		if c.KeyID == "" && !d.When.Never() {
			return invalid("field \"rotation_period\" or \"rotation_schedule\": there is no access_key in " +
				"config/root to rotate; give access_key and secret_key, or set disable_automated_rotation=true")
		}
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		undone := (in.KeyID != nil || in.Secret != nil) && setCurrentKey(e, c)
		if err := d.store(e.Rec); err != nil {
			return err
		}
		due := e.Control().Retime(was)
		if undone {
			due = e.Now
		}
		op, err := c.storeOp()
		if err != nil {
			return err
		}
		e.Ops = append(e.Ops, op)
		return e.Commit(ctx, "configured", due)
	})
}

// merge returns config/root as a write changes it, except for the rotation schedule.
func (s *configRoutes) merge(ctx context.Context, r *route.Request, in *rootIn) (*rootConfig, error) {
	c, err := s.configs.root(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil {
		c = &rootConfig{apiSettings: new(apiSettingsIn).settings()}
	}
	was := *c
	if err := in.apply(c); err != nil {
		return nil, err
	}
	if err := c.check(r); err != nil {
		return nil, err
	}
	if moved := was.movedField(&c.apiSettings); moved != "" && !was.Secret.Empty() && c.KeyID != "" &&
		in.Secret == nil {
		return nil, invalid("field %q: this write changes where the stored key is used; give the field as it is, or "+
			"access_key and secret_key again, a new pair if rotate-root has replaced them; a field that is left out "+
			"returns to its default", moved)
	}
	if gone := in.resetFields(&was.apiSettings, &c.apiSettings); len(gone) > 0 {
		r.Warn("left out of the write, and so by default again: %s", strings.Join(gone, ", "))
	}
	if c.KeyID == "" {
		r.Warn("%s", c.ambientWarning())
	}
	if was.Generated && c.KeyID != was.KeyID {
		r.Warn("the access key %s was made by rotate-root and is forgotten by this write: nobody knows its secret "+
			"any more, and it lives on; delete it in AWS", was.KeyID)
	}
	return c, nil
}

func (in *rootIn) apply(c *rootConfig) error {
	if in.Secret != nil && c.wasReplaced(*in.Secret) {
		return invalid("field \"secret_key\": it belongs to a key that rotate-root has replaced; leave access_key "+
			"and secret_key out to keep the stored key, %s", c.KeyID)
	}
	pair := in.KeyID != nil || in.Secret != nil
	set(&c.KeyID, in.KeyID)
	set(&c.Secret, in.Secret)
	switch {
	case pair && c.KeyID == "" && !c.Secret.Empty() && in.Secret != nil:
		return invalid("field \"access_key\" is empty and secret_key is not, as happens with an unset variable; " +
			"give both, or neither to use the credentials of this server's environment")
	case pair && c.KeyID != "" && (c.Secret.Empty() || in.Secret == nil):
		return invalid("field \"secret_key\" is empty and access_key is not, as happens with an unset variable; " +
			"give both, or neither to use the credentials of this server's environment")
	case c.KeyID == "":
		c.Secret = secret.Value{}
	}
	if pair {
		c.Generated = false
	}
	if pair || in.apiSettingsIn.anyGiven() {
		c.apiSettings = in.apiSettingsIn.settings()
	}
	set(&c.Propagation.Checks, in.Checks)
	set(&c.Propagation.Pause, in.Pause)
	return nil
}

// rootOut is config/root in an answer.
type rootOut struct {
	KeyID     string         `json:"access_key"`
	IAM       string         `json:"iam_endpoint"`
	Retries   int            `json:"max_retries"`
	Region    string         `json:"region"`
	STS       string         `json:"sts_endpoint"`
	Name      string         `json:"username_template"`
	STSRegion string         `json:"sts_region,omitempty"`
	Others    []string       `json:"sts_fallback_endpoints,omitempty"`
	Regions   []string       `json:"sts_fallback_regions,omitempty"`
	Checks    *int           `json:"propagation_checks,omitempty"`
	Pause     *time.Duration `json:"propagation_settle,omitempty"`

	scheduleOut
}

func (s *configRoutes) readRoot(ctx context.Context, _ *route.Request, _ route.None) (*rootOut, error) {
	c, err := s.configs.root(ctx)
	if err != nil || c == nil {
		return nil, err
	}
	out := &rootOut{
		KeyID: c.KeyID, IAM: c.IAM, Retries: c.Retries, Region: c.Region, STS: c.STS.URL, Name: c.template(),
		STSRegion: c.STS.Region, Others: c.Others, Regions: c.Regions, Checks: c.Propagation.Checks,
	}
	rec, _, err := s.records.Read(ctx, rootKind, rootKind)
	if err != nil {
		return nil, err
	}
	out.Pause, out.scheduleOut = c.Propagation.Pause, scheduleOf(rec)
	return out, nil
}

type leaseIn struct {
	TTL *time.Duration `json:"lease" doc:"The TTL of users whose role has no default_ttl."`
	Max *time.Duration `json:"lease_max" doc:"How long they can be renewed, counted from their creation."`
}

type leaseOut struct {
	TTL string `json:"lease"`
	Max string `json:"lease_max"`
}

func (s *configRoutes) writeLease(ctx context.Context, _ *route.Request, in leaseIn) (route.None, error) {
	switch {
	case in.TTL == nil || *in.TTL <= 0:
		return route.None{}, invalid("field \"lease\" is required; give a duration such as 1h")
	case in.Max == nil || *in.Max <= 0:
		return route.None{}, invalid("field \"lease_max\" is required; give a duration such as 4h")
	case *in.TTL > *in.Max:
		return route.None{}, invalid("field \"lease\": %s is above lease_max, %s; lower it", *in.TTL, *in.Max)
	}
	return route.None{}, leaseRow.Put(ctx, s.m.Store, "", leaseTTLs{TTL: *in.TTL, Max: *in.Max})
}

func (s *configRoutes) readLease(ctx context.Context, _ *route.Request, _ route.None) (*leaseOut, error) {
	l, err := s.configs.lease(ctx)
	if err != nil || l == nil {
		return nil, err
	}
	return &leaseOut{TTL: l.TTL.String(), Max: l.Max.String()}, nil
}
