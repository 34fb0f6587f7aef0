package client

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/keyturn/keyturn/internal/fault"
)

// A NewUser describes a user for CreateUser. Zero fields are left out.
type NewUser struct {
	Name, Path, Boundary string
	Tags                 map[string]string
}

// CreateUser makes a user. Made before means that there is one of this name.
func (c *Client) CreateUser(ctx context.Context, u NewUser) error {
	in := &iam.CreateUserInput{UserName: &u.Name}
	if u.Path != "" {
		in.Path = &u.Path
	}
	if u.Boundary != "" {
		in.PermissionsBoundary = &u.Boundary
	}
	for _, k := range slices.Sorted(maps.Keys(u.Tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(u.Tags[k])})
	}
	_, err := c.iam.CreateUser(ctx, in, throttledOnly)
	return explain("creating the user", err)
}

// User reports whether a user exists, and when it was created; nil if AWS does not say.
func (c *Client) User(ctx context.Context, name string) (there bool, made *time.Time, err error) {
	out, err := c.iam.GetUser(ctx, &iam.GetUserInput{UserName: &name})
	switch err = explain("looking for the user", err); {
	case err != nil:
		return false, nil, absent(err)
	case out.User == nil:
		return false, nil, unreadable("looking for the user")
	}
	return true, out.User.CreateDate, nil
}

// PutPolicy sets an inline policy of a user. It is repeatable.
func (c *Client) PutPolicy(ctx context.Context, user, name, document string) error {
	_, err := c.iam.PutUserPolicy(ctx,
		&iam.PutUserPolicyInput{UserName: &user, PolicyName: &name, PolicyDocument: &document})
	return explain("writing the user's policy", err)
}

// AttachPolicy attaches a managed policy to a user. It is repeatable.
func (c *Client) AttachPolicy(ctx context.Context, user, arn string) error {
	_, err := c.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: &arn})
	return explain("attaching policy "+arn, err)
}

// JoinGroup adds a user to a group. It is repeatable.
func (c *Client) JoinGroup(ctx context.Context, user, group string) error {
	_, err := c.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: &user, GroupName: &group})
	return explain("adding the user to group "+group, err)
}

// maxPolicies limits the policies of a group in total. AWS's quota is 5 KiB.
const maxPolicies = 256 << 10

// GroupPolicies returns the policies of a group: the ARNs of the attached ones, and the documents
// of the inline ones.
func (c *Client) GroupPolicies(ctx context.Context, group string) (arns, documents []string, err error) {
	doing := "reading the policies of group " + group
	err = pages(ctx, doing, iam.NewListAttachedGroupPoliciesPaginator(c.iam,
		&iam.ListAttachedGroupPoliciesInput{GroupName: &group}), func(p *iam.ListAttachedGroupPoliciesOutput) {
		for _, a := range p.AttachedPolicies {
			arns = append(arns, aws.ToString(a.PolicyArn))
		}
	})
	if err != nil {
		return nil, nil, err
	}
	var names []string
	total := 0
	err = pages(ctx, doing, iam.NewListGroupPoliciesPaginator(c.iam, &iam.ListGroupPoliciesInput{GroupName: &group}),
		func(p *iam.ListGroupPoliciesOutput) {
			names = append(names, p.PolicyNames...)
		})
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		got, err := c.iam.GetGroupPolicy(ctx, &iam.GetGroupPolicyInput{GroupName: &group, PolicyName: &name})
		if err != nil {
			return nil, nil, explain(doing, err)
		}
		text, err := url.PathUnescape(aws.ToString(got.PolicyDocument)) // AWS sends it escaped
		if err != nil {
			return nil, nil, explain(doing, err)
		}
		if total += len(text); total > maxPolicies {
			return nil, nil,
				fault.New("aws.group", fault.TooLarge,
					"%s: they are larger than %d KiB together; check that iam_endpoint is AWS's", doing,
					maxPolicies>>10)
		}
		documents = append(documents, text)
	}
	return arns, documents, nil
}
