package aws

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/locks"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// The types of credentials.
const (
	iamUser         = "iam_user"
	assumedRole     = "assumed_role"
	federationToken = "federation_token"
	sessionToken    = "session_token"
)

// A role says which credentials to issue.
type role struct {
	ID          string            `json:"id"` // a new one if the role is deleted and written again
	Type        string            `json:"type"`
	RoleARNs    []string          `json:"role_arns,omitempty"`
	PolicyARNs  []string          `json:"policy_arns,omitempty"`
	Groups      []string          `json:"groups,omitempty"`
	Document    string            `json:"document,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	SessionTags map[string]string `json:"session_tags,omitempty"`
	Boundary    string            `json:"boundary,omitempty"`
	Path        string            `json:"path,omitempty"`
	ExternalID  string            `json:"external,omitempty"`
	SessionName string            `json:"session,omitempty"`
	MFASerial   string            `json:"mfa,omitempty"`
	DefaultSTS  time.Duration     `json:"sts,omitempty"`
	MaxSTS      time.Duration     `json:"max_sts,omitempty"`
	TTL         time.Duration     `json:"ttl,omitempty"`
	MaxTTL      time.Duration     `json:"max_ttl,omitempty"`
	Propagation propagation       `json:"settle,omitzero"`

	stored storage.Version
}

// roles reads the stored roles of a mount.
type roles struct{ m *engine.Mount }

// get returns a role; nil if there is none.
func (s *roles) get(ctx context.Context, name string) (*role, error) {
	ro, version, err := roleRows.Get(ctx, s.m.Store, name)
	if ro != nil {
		ro.stored = version
	}
	return ro, err
}

// tags are an object, a list of "name=value", or one text of these with commas.
type tags struct{ byName map[string]string }

// maxTags is how many tags are accepted here. AWS accepts 50.
const maxTags = 100

// UnmarshalJSON reads each of these forms.
func (p *tags) UnmarshalJSON(text []byte) error {
	err := p.read(text)
	if err == nil && len(p.byName) > maxTags {
		return fault.New("aws.tags", fault.Invalid, "there are %d tags, and there can be %d; leave some out",
			len(p.byName), maxTags)
	}
	return err
}

func (p *tags) read(text []byte) error {
	p.byName = map[string]string{}
	if len(text) > maxDocument {
		return fault.New("aws.tags", fault.Invalid, "the tags have more than %d bytes; leave some out", maxDocument)
	}
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
		return json.Unmarshal(text, &p.byName)
	}
	var all []string
	if len(text) > 0 && text[0] == '"' {
		var one string
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		if one = strings.TrimSpace(one); strings.HasPrefix(one, "{") {
			return json.Unmarshal([]byte(one), &p.byName)
		}
		if one != "" {
			all = strings.Split(one, ",")
		}
	} else if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for _, pair := range all {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || strings.TrimSpace(name) == "" {
			return fault.New("aws.tags", fault.Invalid, "%q is not a tag; write name=value", clip(pair))
		}
		p.byName[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return nil
}

func (p *tags) setTo(m *map[string]string) {
	if p != nil {
		*m = p.byName
	}
}

// roleIn is a write of a role. Nil fields were not sent.
type roleIn struct {
	Name        string          `path:"name" doc:"The role's name."`
	Type        *string         `json:"credential_type" doc:"The type of credential to issue: iam_user, assumed_role, federation_token or session_token."`
	RoleARNs    *[]string       `json:"role_arns" doc:"The AWS roles; a reader assumes one of them. For assumed_role."`
	PolicyARNs  *[]string       `json:"policy_arns" default:"none" doc:"Managed policies: attached to users, and narrowing sessions. Not for session_token."`
	Groups      *[]string       `json:"iam_groups" default:"none" doc:"The IAM groups that users join; for assumed_role and federation_token the groups whose policies narrow the session."`
	Document    *document       `json:"policy_document" default:"none" doc:"A policy in JSON: a user's own, or narrowing a session. Not for session_token."`
	Tags        *tags           `json:"iam_tags" shape:"list" default:"none" doc:"Tags of users, as name=value. For iam_user."`
	SessionTags *tags           `json:"session_tags" shape:"list" default:"none" doc:"Tags of sessions, as name=value. For assumed_role and federation_token."`
	Boundary    *string         `json:"permissions_boundary_arn" default:"none" doc:"The policy that bounds what users may do. For iam_user."`
	Path        *string         `json:"user_path" default:"/" doc:"The path of users' names. For iam_user."`
	ExternalID  *string         `json:"external_id" default:"none" doc:"The external ID that the AWS role's trust policy requires. For assumed_role."`
	SessionName *string         `json:"role_session_name" default:"a new one each time" doc:"The session's name, as AWS logs it. For assumed_role."`
	MFASerial   *string         `json:"mfa_serial_number" default:"none" doc:"The MFA device whose code readers must send. For session_token."`
	DefaultSTS  *time.Duration  `json:"default_sts_ttl" default:"1h" doc:"How long sessions live if the client asks for no other TTL: 15m to 12h for assumed_role, to 36h for others."`
	MaxSTS      *time.Duration  `json:"max_sts_ttl" default:"AWS's" doc:"How long sessions live at most."`
	TTL         *time.Duration  `json:"default_ttl" default:"config/lease, or the mount's" doc:"How long users live. For iam_user."`
	MaxTTL      *time.Duration  `json:"max_ttl" default:"config/lease, or the mount's" doc:"How long users can be renewed, counted from their creation. For iam_user."`
	Checks      **int           `json:"propagation_checks" default:"as in config/root" doc:"How many calls in a row a new access key must be accepted by AWS before it is used. For iam_user."`
	Pause       **time.Duration `json:"propagation_settle" default:"as in config/root" doc:"The wait after these calls. For iam_user."`

	legacyIn
}

// legacyIn are the fields that roles had before there were types of credentials.
type legacyIn struct {
	ARN    *string   `json:"arn" also:"policy_arns,role_arns" doc:"The one policy or role of an old form of roles; use policy_arns or role_arns."`
	Policy *document `json:"policy" also:"policy_document" doc:"The policy of an old form of roles; use policy_document."`
}

// A document is a policy in JSON, as a text, which is stored unchanged, or as an object.
type document struct{ text string }

// maxDocument is the longest policy in bytes that is parsed. AWS accepts 10,240 without white
// space.
const maxDocument = 64 << 10

// UnmarshalJSON reads both.
func (d *document) UnmarshalJSON(text []byte) error {
	if len(text) > maxDocument {
		return fault.New("aws.document", fault.Invalid, "the policy has more than %d bytes; shorten it", maxDocument)
	}
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
		d.text = string(text)
		return nil
	}
	return json.Unmarshal(text, &d.text)
}

var objectForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+=,-]{0,127}$`)

// roleRoutes are the routes below roles/.
type roleRoutes struct {
	m     *engine.Mount
	roles *roles
	locks locks.Named // held over a write of each role
}

func (s *roleRoutes) write(ctx context.Context, r *route.Request, in roleIn) (route.None, error) {
	if !objectForm.MatchString(in.Name) {
		return route.None{}, invalid("the role's name %q is refused: it must be 1 to 128 of A-Z a-z 0-9 _ . @ + = , "+
			"- and begin with a letter, a digit or _", clip(in.Name))
	}
	release, err := s.locks.Take(ctx, roleRows.Key(in.Name))
	if err != nil {
		return route.None{}, err
	}
	defer release()
	ro, err := s.roles.get(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	if ro == nil {
		ro = &role{ID: strings.ToLower(rand.Text())[:16]}
	}
	if err := in.legacy(); err != nil {
		return route.None{}, err
	}
	in.apply(ro)
	if err := ro.check(); err != nil {
		return route.None{}, err
	}
	ro.warn(r)
	op, err := roleRows.Set(in.Name, *ro)
	if err == nil {
		_, err = s.m.Store.Commit(ctx, op.If(ro.stored))
	}
	return route.None{}, err
}

// warn warns of what is probably a mistake. It is no error, because roles are also written field
// by field.
func (ro *role) warn(r *route.Request) {
	switch {
	case ro.Type == iamUser && len(ro.PolicyARNs)+len(ro.Groups) == 0 && ro.Document == "":
		r.Warn("the role has neither policy_arns nor policy_document nor iam_groups: its users may do nothing")
	case ro.Type == assumedRole && len(ro.RoleARNs) == 0:
		r.Warn("the role has no role_arns and issues nothing until it has some")
	}
	if ro.Type != iamUser && len(ro.Tags) > 0 {
		r.Warn("iam_tags are kept, and used for iam_user alone; sessions have session_tags")
	}
	if ro.Type != sessionToken && ro.MFASerial != "" {
		r.Warn("mfa_serial_number is kept, and used for session_token alone")
	}
}

// legacy translates legacyIn.
func (in *roleIn) legacy() error {
	if in.ARN != nil && *in.ARN == "" {
		in.ARN = nil
	}
	if in.Policy != nil && in.Policy.text == "" {
		in.Policy = nil
	}
	if in.ARN == nil && in.Policy == nil {
		return nil
	}
	if in.Type != nil || in.RoleARNs != nil || in.PolicyARNs != nil || in.Document != nil {
		return invalid("fields \"arn\" and \"policy\" belong to old roles and exclude credential_type, role_arns, " +
			"policy_arns and policy_document; use these")
	}
	kind := iamUser
	switch {
	case in.ARN != nil && in.Policy != nil:
		return invalid("fields \"arn\" and \"policy\" exclude each other; use policy_arns and policy_document, " +
			"which can be combined")
	case in.Policy != nil:
		in.Document = in.Policy
	case strings.Contains(*in.ARN, ":role/"):
		kind, in.RoleARNs = assumedRole, &[]string{*in.ARN}
	default:
		in.PolicyARNs = &[]string{*in.ARN}
	}
	in.Type = &kind
	return nil
}

func (in *roleIn) apply(ro *role) {
	set(&ro.Type, in.Type)
	set(&ro.RoleARNs, in.RoleARNs)
	set(&ro.PolicyARNs, in.PolicyARNs)
	set(&ro.Groups, in.Groups)
	if in.Document != nil {
		ro.Document = in.Document.text
	}
	in.Tags.setTo(&ro.Tags)
	in.SessionTags.setTo(&ro.SessionTags)
	set(&ro.Boundary, in.Boundary)
	set(&ro.Path, in.Path)
	set(&ro.ExternalID, in.ExternalID)
	set(&ro.SessionName, in.SessionName)
	set(&ro.MFASerial, in.MFASerial)
	set(&ro.DefaultSTS, in.DefaultSTS)
	set(&ro.MaxSTS, in.MaxSTS)
	set(&ro.TTL, in.TTL)
	set(&ro.MaxTTL, in.MaxTTL)
	set(&ro.Propagation.Checks, in.Checks)
	set(&ro.Propagation.Pause, in.Pause)
}

// AWS's bounds of the TTL of sessions.
const (
	shortestSession = 15 * time.Minute
	longestAssumed  = 12 * time.Hour
	longestOther    = 36 * time.Hour
)

// unsupportedField returns a set field that the type of credentials does not have, and a hint.
func (ro *role) unsupportedField() (field, instead string) {
	for _, f := range []struct {
		given bool
		name  string
		types []string
		hint  string
	}{
		{len(ro.RoleARNs) > 0, "role_arns", []string{assumedRole}, "it is for assumed_role"},
		{ro.ExternalID != "", "external_id", []string{assumedRole}, "it is for assumed_role"},
		{ro.SessionName != "", "role_session_name", []string{assumedRole}, "it is for assumed_role"},
		{len(ro.SessionTags) > 0, "session_tags", []string{assumedRole, federationToken},
			"it is for assumed_role and federation_token"},
		{len(ro.PolicyARNs) > 0, "policy_arns", []string{iamUser, assumedRole, federationToken},
			"a session token has all rights of the user of config/root"},
		{ro.Document != "", "policy_document", []string{iamUser, assumedRole, federationToken},
			"a session token has all rights of the user of config/root"},
		{len(ro.Groups) > 0, "iam_groups", []string{iamUser, assumedRole, federationToken},
			"a session token has all rights of the user of config/root"},
		{ro.Boundary != "", "permissions_boundary_arn", []string{iamUser}, "only users have one"},
		{ro.Path != "", "user_path", []string{iamUser}, "only users have one"},
		{ro.TTL != 0, "default_ttl", []string{iamUser}, "sessions end by AWS's clock; use default_sts_ttl"},
		{ro.MaxTTL != 0, "max_ttl", []string{iamUser},
			"sessions end by AWS's clock; use max_sts_ttl, and default_sts_ttl"},
		{ro.DefaultSTS != 0, "default_sts_ttl", []string{assumedRole, federationToken, sessionToken},
			"a user has a lease; use default_ttl"},
		{ro.MaxSTS != 0, "max_sts_ttl", []string{assumedRole, federationToken, sessionToken},
			"a user has a lease; use max_ttl"},
		{ro.Propagation.Checks != nil || ro.Propagation.Pause != nil, "propagation_checks", []string{iamUser},
			"sessions work at once"},
	} {
		if f.given && !slices.Contains(f.types, ro.Type) {
			return f.name, f.hint
		}
	}
	return "", ""
}

// check refuses contradictions.
func (ro *role) check() error {
	switch ro.Type {
	case iamUser, assumedRole, federationToken, sessionToken:
	case "":
		return invalid(
			"field \"credential_type\" is required; give iam_user, assumed_role, federation_token or session_token")
	default:
		return invalid("field \"credential_type\": there is no %q; there are iam_user, assumed_role, "+
			"federation_token and session_token", clip(ro.Type))
	}
	if field, hint := ro.unsupportedField(); field != "" {
		return invalid("field %q cannot be used with credential_type %s: %s", field, ro.Type, hint)
	}
	switch {
	case ro.Type == federationToken && ro.Document == "" && len(ro.PolicyARNs)+len(ro.Groups) == 0:
		return invalid(
			"field \"policy_document\" or \"policy_arns\" is required; a federation token without them may do nothing")
	case ro.Path != "" && (!strings.HasPrefix(ro.Path, "/") || !strings.HasSuffix(ro.Path, "/") || len(ro.Path) > 512):
		return invalid("field \"user_path\": %q must begin and end with a slash", clip(ro.Path))
	case ro.Document != "" && !validPolicy(ro.Document):
		return invalid("field \"policy_document\": it is not a JSON object; give the policy as AWS has it, by @file " +
			"from a command line")
	case ro.MaxTTL > 0 && ro.TTL > ro.MaxTTL:
		return invalid("field \"default_ttl\": %s is above max_ttl, %s; lower it", ro.TTL, ro.MaxTTL)
	case ro.MaxSTS > 0 && ro.DefaultSTS > ro.MaxSTS:
		return invalid("field \"default_sts_ttl\": %s is above max_sts_ttl, %s; lower it", ro.DefaultSTS, ro.MaxSTS)
	case ro.SessionName != "" && !nameForm.MatchString(ro.SessionName):
		return invalid("field \"role_session_name\": %q is refused; give 2 to 64 of A-Z a-z 0-9 _ + = , . @ -",
			clip(ro.SessionName))
	}
	if err := ro.checkSTS(); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		arns []string
	}{
		{name: "role_arns", arns: ro.RoleARNs}, {name: "policy_arns", arns: ro.PolicyARNs},
		{name: "permissions_boundary_arn", arns: []string{ro.Boundary}},
	} {
		for _, arn := range f.arns {
			if arn != "" && !arnForm.MatchString(arn) {
				return invalid("field %q: %q is not an ARN; it looks like arn:aws:iam::123456789012:policy/Name, "+
					"with an account of 12 digits, or aws for AWS's own policies", f.name, clip(arn))
			}
		}
	}
	return ro.Propagation.check()
}

func (ro *role) checkSTS() error {
	longest := longestOther
	if ro.Type == assumedRole {
		longest = longestAssumed
	}
	for _, f := range []struct {
		name string
		ttl  time.Duration
	}{{name: "default_sts_ttl", ttl: ro.DefaultSTS}, {name: "max_sts_ttl", ttl: ro.MaxSTS}} {
		if f.ttl != 0 && (f.ttl < shortestSession || f.ttl > longest) {
			return invalid("field %q: %s is outside AWS's limits; give %s to %s", f.name, f.ttl, shortestSession,
				longest)
		}
	}
	return nil
}

func validPolicy(text string) bool {
	var any map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &any) == nil
}

// roleOut is a role in an answer.
type roleOut struct {
	Type        string            `json:"credential_type"`
	DefaultSTS  time.Duration     `json:"default_sts_ttl"`
	Groups      []string          `json:"iam_groups"`
	Tags        map[string]string `json:"iam_tags"`
	MaxSTS      time.Duration     `json:"max_sts_ttl"`
	Boundary    string            `json:"permissions_boundary_arn"`
	PolicyARNs  []string          `json:"policy_arns"`
	Document    string            `json:"policy_document"`
	RoleARNs    []string          `json:"role_arns"`
	Path        string            `json:"user_path"`
	TTL         time.Duration     `json:"default_ttl,omitempty"`
	MaxTTL      time.Duration     `json:"max_ttl,omitempty"`
	ExternalID  string            `json:"external_id,omitempty"`
	SessionName string            `json:"role_session_name,omitempty"`
	SessionTags map[string]string `json:"session_tags,omitempty"`
	MFASerial   string            `json:"mfa_serial_number,omitempty"`
	Checks      *int              `json:"propagation_checks,omitempty"`
	Pause       *time.Duration    `json:"propagation_settle,omitempty"`
}

func (s *roleRoutes) read(ctx context.Context, _ *route.Request, in nameIn) (*roleOut, error) {
	ro, err := s.roles.get(ctx, in.Name)
	if err != nil || ro == nil {
		return nil, err
	}
	return &roleOut{
		Type: ro.Type, DefaultSTS: ro.DefaultSTS, Groups: ro.Groups, Tags: ro.Tags, MaxSTS: ro.MaxSTS,
		Boundary:   ro.Boundary,
		PolicyARNs: ro.PolicyARNs, Document: ro.Document, RoleARNs: ro.RoleARNs, Path: ro.Path, TTL: ro.TTL,
		MaxTTL:     ro.MaxTTL,
		ExternalID: ro.ExternalID, SessionName: ro.SessionName, SessionTags: ro.SessionTags, MFASerial: ro.MFASerial,
		Checks: ro.Propagation.Checks, Pause: ro.Propagation.Pause,
	}, nil
}

type nameIn struct {
	Name string `path:"name" doc:"The role's name."`
}

func (s *roleRoutes) exists(ctx context.Context, r *route.Request) (bool, error) {
	return s.m.Store.Has(ctx, roleRows.Key(r.Param("name")))
}

func (s *roleRoutes) list(ctx context.Context, _ *route.Request, _ route.None) (route.Keys, error) {
	names, err := s.m.Store.Names(ctx, string(roleRows))
	return route.Keys{Keys: names}, err
}

func (s *roleRoutes) remove(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	return route.None{}, s.m.Store.Delete(ctx, roleRows.Key(in.Name))
}
