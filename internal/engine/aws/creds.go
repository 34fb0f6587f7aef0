package aws

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// What leases say that they are undone at. Sessions need no undoing, and wait for nothing.
const (
	iamTarget = "iam"
	stsTarget = "sts"
)

// The kinds of leases.
const (
	userKind    = "user"
	sessionKind = "session"
)

// A lent user is what a lease knows of it.
type issuedUser struct {
	User    string `json:"u,omitempty"`
	Account string `json:"a,omitempty"` // its account
	Role    string `json:"r"`
	RoleID  string `json:"i"`
}

// issuePlan is what plan hands to create.
type issuePlan struct {
	issuedUser
	role    *role
	session client.SessionRequest
}

type credsIn struct {
	Name        string         `path:"name" doc:"The role's name."`
	RoleARN     *string        `json:"role_arn" default:"the only one" doc:"Which of the role's role_arns is assumed."`
	SessionName *string        `json:"role_session_name" default:"the role's" doc:"The session's name, as AWS logs it."`
	TTL         *time.Duration `json:"ttl" default:"default_sts_ttl" doc:"How long a session lives. Users live as long as their lease."`
	Code        *string        `json:"mfa_code" doc:"What the MFA device of the role's mfa_serial_number shows."`
}

// credsOut are credentials. The tokens are null for users: they have none.
type credsOut struct {
	KeyID    string        `json:"access_key"`
	Secret   secret.Value  `json:"secret_key"`
	Security *secret.Value `json:"security_token"`
	Session  *secret.Value `json:"session_token"`
	ARN      string        `json:"arn,omitempty"`
	TTL      time.Duration `json:"ttl,omitempty"`
}

// issuing are the routes creds/ and sts/.
type issuing struct{ *backend }

// plan decides on credentials, without any effect.
func (b issuing) plan(ctx context.Context, r *route.Request, in credsIn) (plan route.Plan, p issuePlan, err error) {
	ro, err := b.role(ctx, in.Name)
	if err != nil {
		return plan, p, err
	}
	if ro == nil {
		return plan, p, fault.New("aws.creds", fault.Invalid, "unknown role: %s; list roles/", in.Name)
	}
	c, err := b.config(ctx)
	if err != nil {
		return plan, p, err
	}
	if c == nil {
		return plan, p, invalid("the mount is not configured; write config/root with access_key, secret_key and region")
	}
	p = issuePlan{issuedUser: issuedUser{Role: in.Name, RoleID: ro.ID}, role: ro}
	n := naming{installation: b.m.Host.Installation, role: in.Name, kind: "STS", longest: sessionMax, now: time.Now()}
	if r.Caller != nil {
		n.display = r.Caller.DisplayName
	}
	if ro.Type != iamUser {
		plan, err = p.planSession(r, n, c, &in)
		return plan, p, err
	}
	n.kind, n.longest = "IAM", userMax
	if p.User, err = n.generate(c.Name); err != nil {
		return plan, p, err
	}
	reach, _, err := b.client(ctx)
	if err != nil {
		return plan, p, err
	}
	if p.Account, err = b.account(ctx, reach); err != nil {
		return plan, p, err
	}
	plan, err = b.planUser(ctx, &p)
	return plan, p, err
}

// planUser: the role's TTLs bound the lease, else those of config/lease, else the mount's.
func (b issuing) planUser(ctx context.Context, p *issuePlan) (route.Plan, error) {
	ttl, most, err := b.userTTLs(ctx, p.role)
	return route.Plan{
		Kind: userKind, Undo: p.issuedUser, TTL: ttl, MaxTTL: most, Renewable: true, Target: iamTarget, CreateWithin: createWithin, Late: late, FromGrant: true,
	}, err
}

// planSession checks what the reader asks for.
func (p *issuePlan) planSession(r *route.Request, n naming, c *rootConfig, in *credsIn) (plan route.Plan, err error) {
	ro := p.role
	s := client.SessionRequest{Policy: ro.Document, PolicyARNs: ro.PolicyARNs, Tags: ro.SessionTags, ExternalID: ro.ExternalID}
	switch ro.Type {
	case assumedRole:
		if s.RoleARN, err = ro.roleARN(in.RoleARN); err != nil {
			return plan, err
		}
		s.Name = ro.SessionName
		if in.SessionName != nil && *in.SessionName != "" {
			s.Name = *in.SessionName
		}
	case federationToken:
		n.longest = federMax
	case sessionToken:
		s.Serial = ro.MFASerial
		set(&s.Code, in.Code)
		if s.Serial != "" && s.Code == "" {
			return plan, invalid("field \"mfa_code\" is required: the role has mfa_serial_number, and AWS wants that device's code; send it")
		}
	}
	switch {
	case s.Name == "":
		if s.Name, err = n.generate(c.Name); err != nil {
			s.Name, err = n.defaultName(), nil // a template for users may make names that sessions cannot have
		}
	case !nameForm.MatchString(s.Name):
		return plan, invalid("field \"role_session_name\": %q is refused; give 2 to 64 of A-Z a-z 0-9 _ + = , . @ -", clip(s.Name))
	}
	ttl, err := ro.sessionTTL(r, in.TTL)
	p.session = s
	return route.Plan{Kind: sessionKind, Undo: p.issuedUser, TTL: ttl, MaxTTL: ttl, Target: stsTarget, CreateWithin: createWithin, Late: time.Millisecond}, err
}

// roleARN is the role to assume.
func (ro *role) roleARN(given *string) (string, error) {
	switch {
	case given != nil && *given != "" && !slices.Contains(ro.RoleARNs, *given):
		return "", invalid("field \"role_arn\": %q is not one of the role's role_arns; give one of these", clip(*given))
	case given != nil && *given != "":
		return *given, nil
	case len(ro.RoleARNs) == 0:
		return "", invalid("the role has no role_arns, so that there is nothing to assume; write them to the role")
	case len(ro.RoleARNs) > 1:
		return "", invalid("field \"role_arn\" is required: the role has several role_arns, of which one is to be assumed: %s", strings.Join(ro.RoleARNs, ", "))
	}
	return ro.RoleARNs[0], nil
}

func (ro *role) sessionTTL(r *route.Request, given *time.Duration) (time.Duration, error) {
	ttl := ro.DefaultSTS
	if ttl == 0 {
		ttl = defaultSession
		if ro.MaxSTS > 0 {
			ttl = min(ttl, ro.MaxSTS)
		}
	}
	if given != nil && *given > 0 {
		ttl = *given
	}
	if ro.MaxSTS > 0 && ttl > ro.MaxSTS {
		r.Warn("the TTL of %s is capped to %s, the role's max_sts_ttl", ttl, ro.MaxSTS)
		ttl = ro.MaxSTS
	}
	longest := longestOther
	if ro.Type == assumedRole {
		longest = longestAssumed
	}
	if ttl < shortestSession || ttl > longest {
		return 0, invalid("field \"ttl\": %s is out of AWS's bounds; give %s to %s", ttl, shortestSession, longest)
	}
	return ttl, nil
}

// create makes the credentials. What undoing needs is durable by now.
func (b issuing) create(ctx context.Context, a route.Attempt, p issuePlan) (*credsOut, error) {
	c, cfg, done, err := b.issuingClient(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if p.role.Type == iamUser {
		if err := b.checkAccount(ctx, c, "user "+p.User, p.Account); err != nil { // config/root was written since
			b.noEffect.Add(a.ID)
			return nil, err
		}
		k, err := b.createUser(ctx, c, a, p)
		if done(); err != nil { // what follows is by the new key alone
			return nil, err
		}
		if err := b.waitPropagated(ctx, c, k, p.role.Propagation.orDefault(cfg.Propagation)); err != nil {
			return nil, upstreamError("aws.creds", err)
		}
		return &credsOut{KeyID: k.ID, Secret: k.Secret}, nil
	}
	if err := p.narrowByGroups(ctx, c); err != nil {
		return nil, err
	}
	p.session.TTL = max(a.TTL.Truncate(time.Second), shortestSession)
	var s client.Session
	switch p.role.Type {
	case assumedRole:
		s, err = c.AssumeRole(ctx, p.session)
	case federationToken:
		s, err = c.FederationToken(ctx, p.session)
	default:
		s, err = c.SessionToken(ctx, p.session)
	}
	if err != nil {
		return nil, upstreamError("aws.creds", err)
	}
	return &credsOut{KeyID: s.ID, Secret: s.Secret, Security: &s.Token, Session: &s.Token, ARN: s.ARN, TTL: a.TTL}, nil
}

// narrowByGroups narrows a session by the policies of the role's groups, together with its own.
func (p *issuePlan) narrowByGroups(ctx context.Context, c *client.Client) error {
	documents := []string{p.session.Policy}
	for _, g := range p.role.Groups {
		arns, own, err := c.GroupPolicies(ctx, g)
		if err != nil {
			return upstreamError("aws.creds", err)
		}
		documents = append(documents, own...)
		for _, arn := range arns {
			if !slices.Contains(p.session.PolicyARNs, arn) {
				p.session.PolicyARNs = append(slices.Clip(p.session.PolicyARNs), arn)
			}
		}
	}
	if len(p.role.Groups) == 0 {
		return nil
	}
	text, err := mergePolicies(documents)
	if err != nil {
		return err
	}
	if p.session.Policy = text; text == "" && len(p.session.PolicyARNs) == 0 {
		return invalid("the groups in the role's iam_groups have no policies, so that the session would not be narrowed; give policy_arns or policy_document")
	}
	return nil
}

// mergePolicies makes one policy document of several: one that has all their statements.
func mergePolicies(documents []string) (string, error) {
	var all []json.RawMessage
	for _, text := range documents {
		if text == "" {
			continue
		}
		var d struct{ Statement json.RawMessage }
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return "", &fault.Error{Op: "aws.creds", Kind: fault.Invalid, Err: err, Msg: "a policy of the role or of one of its iam_groups is no JSON object; correct it"}
		}
		var some []json.RawMessage
		if json.Unmarshal(d.Statement, &some) != nil {
			some = []json.RawMessage{d.Statement} // one alone may stand without a list
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return "", nil
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	return string(text), fault.Wrap("aws.creds", fault.Internal, err)
}

// createUser makes a user with all that its role says, and its key.
func (b issuing) createUser(ctx context.Context, c *client.Client, a route.Attempt, p issuePlan) (k client.Key, err error) {
	const op = "aws.creds"
	ro := p.role
	if err := c.CreateUser(ctx, client.NewUser{Name: p.User, Path: ro.Path, Boundary: ro.Boundary, Tags: ro.Tags}); err != nil {
		if client.Unchanged(err) { // a user of that name, if there is one, is somebody else's
			b.noEffect.Add(a.ID)
		}
		return k, upstreamError(op, err)
	}
	for _, arn := range ro.PolicyARNs {
		if err := c.AttachPolicy(ctx, p.User, arn); err != nil {
			return k, upstreamError(op, err)
		}
	}
	if ro.Document != "" {
		if err := c.PutPolicy(ctx, p.User, "keyturn", ro.Document); err != nil {
			return k, upstreamError(op, err)
		}
	}
	for _, g := range ro.Groups {
		if err := c.JoinGroup(ctx, p.User, g); err != nil {
			return k, upstreamError(op, err)
		}
	}
	if k, err = c.CreateKey(ctx, p.User); err != nil {
		return k, upstreamError(op, err)
	}
	return k, nil
}
