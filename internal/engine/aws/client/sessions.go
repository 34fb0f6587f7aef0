package client

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/keyturn/keyturn/internal/secret"
)

// An Identity is the owner of a key.
type Identity struct{ ARN, Account string }

// WhoAmI returns the owner of the client's key. Every key may call it.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	var out *sts.GetCallerIdentityOutput
	err := c.anySTS(ctx, func(s *sts.Client) (err error) {
		out, err = s.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return err
	})
	if err != nil {
		return Identity{}, explain("asking AWS who the access key belongs to", err)
	}
	if aws.ToString(out.Arn) == "" || aws.ToString(out.Account) == "" {
		return Identity{}, unreadable("asking AWS who the access key belongs to")
	}
	return Identity{aws.ToString(out.Arn), aws.ToString(out.Account)}, nil
}

// anySTS calls the first STS endpoint that can be reached.
func (c *Client) anySTS(ctx context.Context, call func(*sts.Client) error) (err error) {
	for _, s := range c.sts {
		if err = call(s); err == nil || ctx.Err() != nil || CodeOf(explain("", err)) != "" {
			return err
		}
	}
	return err
}

// A Session is temporary credentials.
type Session struct {
	ID            string
	Secret, Token secret.Value
	ARN           string
	Expires       time.Time
}

// SessionRequest describes a session. Zero fields are left out.
type SessionRequest struct {
	Name       string // the name of the session in AWS's logs
	RoleARN    string
	ExternalID string
	TTL        time.Duration
	Policy     string
	PolicyARNs []string
	Tags       map[string]string
	Serial     string // of an MFA device
	Code       string
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (r *SessionRequest) seconds() *int32 {
	if r.TTL == 0 {
		return nil
	}
	return aws.Int32(int32(r.TTL / time.Second)) //nolint:gosec // AWS allows 36 hours at most
}

func (r *SessionRequest) arns() (out []types.PolicyDescriptorType) {
	for _, a := range r.PolicyARNs {
		out = append(out, types.PolicyDescriptorType{Arn: aws.String(a)})
	}
	return out
}

func (r *SessionRequest) tags() (out []types.Tag) {
	for _, k := range slices.Sorted(maps.Keys(r.Tags)) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(r.Tags[k])})
	}
	return out
}

func session(doing string, c *types.Credentials, arn *string) (Session, error) {
	if c == nil || aws.ToString(c.AccessKeyId) == "" || aws.ToString(c.SecretAccessKey) == "" ||
		aws.ToString(c.SessionToken) == "" {
		return Session{}, unreadable(doing)
	}
	return Session{
		ID: aws.ToString(c.AccessKeyId), Secret: secret.Text(aws.ToString(c.SecretAccessKey)),
		Token: secret.Text(aws.ToString(c.SessionToken)),
		ARN:   aws.ToString(arn), Expires: aws.ToTime(c.Expiration),
	}, nil
}

// AssumeRole returns credentials of a role.
func (c *Client) AssumeRole(ctx context.Context, r SessionRequest) (Session, error) {
	var out *sts.AssumeRoleOutput
	err := c.anySTS(ctx, func(s *sts.Client) (err error) {
		out, err = s.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: &r.RoleARN, RoleSessionName: &r.Name, ExternalId: optional(r.ExternalID),
			DurationSeconds: r.seconds(),
			Policy:          optional(r.Policy), PolicyArns: r.arns(), Tags: r.tags(),
			SerialNumber: optional(r.Serial),
			TokenCode:    optional(r.Code),
		})
		return err
	})
	if err != nil {
		return Session{}, explain(r.proved("assuming role "+r.RoleARN), err)
	}
	var arn *string
	if out.AssumedRoleUser != nil {
		arn = out.AssumedRoleUser.Arn
	}
	return session("assuming role "+r.RoleARN, out.Credentials, arn)
}

// FederationToken returns credentials with a part of the permissions of the client's user.
func (c *Client) FederationToken(ctx context.Context, r SessionRequest) (Session, error) {
	var out *sts.GetFederationTokenOutput
	err := c.anySTS(ctx, func(s *sts.Client) (err error) {
		out, err = s.GetFederationToken(ctx, &sts.GetFederationTokenInput{
			Name: &r.Name, DurationSeconds: r.seconds(), Policy: optional(r.Policy), PolicyArns: r.arns(),
			Tags: r.tags(),
		})
		return err
	})
	if err != nil {
		return Session{}, explain("getting a federation token", err)
	}
	var arn *string
	if out.FederatedUser != nil {
		arn = out.FederatedUser.Arn
	}
	return session("getting a federation token", out.Credentials, arn)
}

// proved adds to the description of a call that it sends the code of a device, because AWS answers
// a wrong code like a missing permission.
func (r *SessionRequest) proved(doing string) string {
	if r.Code == "" {
		return doing
	}
	return doing + " with the mfa_code that was sent"
}

// SessionToken returns temporary credentials of the client's user.
func (c *Client) SessionToken(ctx context.Context, r SessionRequest) (Session, error) {
	var out *sts.GetSessionTokenOutput
	err := c.anySTS(ctx, func(s *sts.Client) (err error) {
		out, err = s.GetSessionToken(ctx,
			&sts.GetSessionTokenInput{DurationSeconds: r.seconds(), SerialNumber: optional(r.Serial),
				TokenCode: optional(r.Code)})
		return err
	})
	if err != nil {
		return Session{}, explain(r.proved("getting a session token"), err)
	}
	return session("getting a session token", out.Credentials, nil)
}
