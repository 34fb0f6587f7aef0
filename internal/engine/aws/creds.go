package aws

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// Undo targets of leases. Sessions have their own, because their undo does nothing and waits for
// nothing.
const (
	iamTarget = "iam"
	stsTarget = "sts"
)

// The kinds of leases.
const (
	userKind    = "user"
	sessionKind = "session"
)

// An issuedUser is what a lease stores of its user.
type issuedUser struct {
	User    string `json:"u,omitempty"`
	Account string `json:"a,omitempty"`
	Role    string `json:"r"`
	RoleID  string `json:"i"`
}

// An issuePlan is what plan hands to create.
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

// credsOut are issued credentials. Users have no tokens, so theirs are null.
type credsOut struct {
	KeyID    string        `json:"access_key"`
	Secret   secret.Value  `json:"secret_key"`
	Security *secret.Value `json:"security_token"`
	Session  *secret.Value `json:"session_token"`
	ARN      string        `json:"arn,omitempty"`
	TTL      time.Duration `json:"ttl,omitempty"`
}

// issuer issues credentials: the routes creds/ and sts/.
type issuer struct {
	m        *engine.Mount
	configs  *configs
	clients  *clients
	roles    *roles
	noEffect *engine.Attempts // attempts that surely created nothing
}

// plan decides what to issue, without any effect.
func (s *issuer) plan(ctx context.Context, r *route.Request, in credsIn) (plan route.Plan, p issuePlan, err error) {
	ro, err := s.roles.get(ctx, in.Name)
	if err != nil {
		return plan, p, err
	}
	if ro == nil {
		return plan, p, fault.New("aws.creds", fault.Invalid, "unknown role: %s; list roles/", in.Name)
	}
	c, err := s.configs.root(ctx)
	if err != nil {
		return plan, p, err
	}
	if c == nil {
		return plan, p,
			invalid("the mount is not configured; write config/root with access_key, secret_key and region")
	}
	p = issuePlan{issuedUser: issuedUser{Role: in.Name, RoleID: ro.ID}, role: ro}
	n := naming{installation: s.m.Host.Installation, role: in.Name, kind: "STS", longest: sessionMax, now: time.Now()}
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
	aws, _, err := s.clients.current(ctx)
	if err != nil {
		return plan, p, err
	}
	if p.Account, err = s.clients.accountOf(ctx, aws); err != nil {
		return plan, p, err
	}
	plan, err = s.planUser(ctx, &p)
	return plan, p, err
}

// planUser bounds the lease by the role's TTLs, else those of config/lease, else the mount's.
func (s *issuer) planUser(ctx context.Context, p *issuePlan) (route.Plan, error) {
	ttl, longest, err := s.configs.userTTLs(ctx, p.role)
	return route.Plan{
		Kind: userKind, Undo: p.issuedUser, TTL: ttl, MaxTTL: longest, Renewable: true, Target: iamTarget,
		CreateWithin: createWithin, Late: late, FromGrant: true,
	}, err
}

// planSession checks the fields of the request.
func (p *issuePlan) planSession(r *route.Request, n naming, c *rootConfig, in *credsIn) (plan route.Plan, err error) {
	ro := p.role
	s := client.SessionRequest{Policy: ro.Document, PolicyARNs: ro.PolicyARNs, Tags: ro.SessionTags,
		ExternalID: ro.ExternalID}
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
			return plan, invalid("field \"mfa_code\" is required: the role has mfa_serial_number, and AWS wants " +
				"that device's code; send it")
		}
	}
	switch {
	case s.Name == "":
		if s.Name, err = n.generate(c.Name); err != nil {
			s.Name, err = n.defaultName(), nil // a template for users may generate names that sessions cannot have
		}
	case !nameForm.MatchString(s.Name):
		return plan,
			invalid("field \"role_session_name\": %q is refused; give 2 to 64 of A-Z a-z 0-9 _ + = , . @ -",
				clip(s.Name))
	}
	ttl, err := ro.sessionTTL(r, in.TTL)
	p.session = s
	return route.Plan{Kind: sessionKind, Undo: p.issuedUser, TTL: ttl, MaxTTL: ttl, Target: stsTarget,
		CreateWithin: createWithin, Late: time.Millisecond}, err
}

// roleARN is the AWS role to assume.
func (ro *role) roleARN(given *string) (string, error) {
	switch {
	case given != nil && *given != "" && !slices.Contains(ro.RoleARNs, *given):
		return "", invalid("field \"role_arn\": %q is not one of the role's role_arns; give one of these",
			clip(*given))
	case given != nil && *given != "":
		return *given, nil
	case len(ro.RoleARNs) == 0:
		return "", invalid("the role has no role_arns, so there is nothing to assume; write them to the role")
	case len(ro.RoleARNs) > 1:
		return "", invalid(
			"field \"role_arn\" is required: the role has several role_arns; name the one to assume: %s",
			strings.Join(ro.RoleARNs, ", "))
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
		return 0, invalid("field \"ttl\": %s is outside AWS's limits; give %s to %s", ttl, shortestSession, longest)
	}
	return ttl, nil
}

// create creates the credentials. The reservation, which has all that undo needs, is durable by
// now.
func (s *issuer) create(ctx context.Context, a route.Attempt, p issuePlan) (*credsOut, error) {
	c, cfg, done, err := s.clients.forIssuing(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if p.role.Type == iamUser {
		// config/root was written since plan
		if err := s.clients.checkAccount(ctx, c, "user "+p.User, p.Account); err != nil {
			s.noEffect.Add(a.ID)
			return nil, err
		}
		k, err := s.createUser(ctx, c, a, p)
		if done(); err != nil { // the calls that follow use only the new key
			return nil, err
		}
		if err := waitPropagated(ctx, c, k, p.role.Propagation.orDefault(cfg.Propagation)); err != nil {
			return nil, upstreamError("aws.creds", err)
		}
		return &credsOut{KeyID: k.ID, Secret: k.Secret}, nil
	}
	if err := p.narrowByGroups(ctx, c); err != nil {
		return nil, err
	}
	p.session.TTL = max(a.TTL.Truncate(time.Second), shortestSession)
	var session client.Session
	switch p.role.Type {
	case assumedRole:
		session, err = c.AssumeRole(ctx, p.session)
	case federationToken:
		session, err = c.FederationToken(ctx, p.session)
	default:
		session, err = c.SessionToken(ctx, p.session)
	}
	if err != nil {
		return nil, upstreamError("aws.creds", err)
	}
	return &credsOut{
		KeyID: session.ID, Secret: session.Secret, Security: &session.Token, Session: &session.Token, ARN: session.ARN,
		TTL: a.TTL,
	}, nil
}

// narrowByGroups narrows a session by the policies of the role's groups, in addition to its own.
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
		return invalid("the groups in the role's iam_groups have no policies, so the session would not be limited; " +
			"give policy_arns or policy_document")
	}
	return nil
}

// mergePolicies returns one policy document with the statements of all.
func mergePolicies(documents []string) (string, error) {
	var all []json.RawMessage
	for _, text := range documents {
		if text == "" {
			continue
		}
		var d struct{ Statement json.RawMessage }
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return "", &fault.Error{Op: "aws.creds", Kind: fault.Invalid, Err: err,
				Msg: "a policy of the role or of one of its iam_groups is not a JSON object; correct it"}
		}
		var some []json.RawMessage
		if json.Unmarshal(d.Statement, &some) != nil {
			some = []json.RawMessage{d.Statement} // a single statement may stand without a list
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return "", nil
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	return string(text), fault.Wrap("aws.creds", fault.Internal, err)
}

// createUser creates a user as its role says, and its access key.
func (s *issuer) createUser(ctx context.Context, c *client.Client, a route.Attempt, p issuePlan) (k client.Key,
	err error) {
	const op = "aws.creds"
	ro := p.role
	if err := c.CreateUser(ctx,
		client.NewUser{Name: p.User, Path: ro.Path, Boundary: ro.Boundary, Tags: ro.Tags}); err != nil {
		if client.Unchanged(err) { // a user of that name, if there is one, belongs to another application
			s.noEffect.Add(a.ID)
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
