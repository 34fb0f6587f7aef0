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
	"github.com/keyturn/keyturn/internal/secret"
)

// A NewUser is what CreateUser makes. Zero fields are left out.
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

// User reports whether there is a user, and when it was made; nil where AWS does not tell.
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

// PutPolicy gives a user a policy of its own. Repeatable.
func (c *Client) PutPolicy(ctx context.Context, user, name, document string) error {
	_, err := c.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &user, PolicyName: &name, PolicyDocument: &document})
	return explain("writing the user's policy", err)
}

// AttachPolicy gives a user a managed policy. Repeatable.
func (c *Client) AttachPolicy(ctx context.Context, user, arn string) error {
	_, err := c.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: &arn})
	return explain("attaching policy "+arn, err)
}

// JoinGroup puts a user into a group. Repeatable.
func (c *Client) JoinGroup(ctx context.Context, user, group string) error {
	_, err := c.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: &user, GroupName: &group})
	return explain("adding the user to group "+group, err)
}

// mostPolicies bounds the policies of a group together; AWS's quota is 5 KiB.
const mostPolicies = 256 << 10

// GroupPolicies are the policies of a group: the ARNs of those that are attached, and its own documents.
func (c *Client) GroupPolicies(ctx context.Context, group string) (arns, documents []string, err error) {
	doing := "reading the policies of group " + group
	err = pages(ctx, doing, iam.NewListAttachedGroupPoliciesPaginator(c.iam, &iam.ListAttachedGroupPoliciesInput{GroupName: &group}), func(p *iam.ListAttachedGroupPoliciesOutput) {
		for _, a := range p.AttachedPolicies {
			arns = append(arns, aws.ToString(a.PolicyArn))
		}
	})
	if err != nil {
		return nil, nil, err
	}
	var names []string
	total := 0
	err = pages(ctx, doing, iam.NewListGroupPoliciesPaginator(c.iam, &iam.ListGroupPoliciesInput{GroupName: &group}), func(p *iam.ListGroupPoliciesOutput) {
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
		if total += len(text); total > mostPolicies {
			return nil, nil, fault.New("aws.group", fault.TooLarge, "%s: they are larger than %d KiB together; check that iam_endpoint is AWS's", doing, mostPolicies>>10)
		}
		documents = append(documents, text)
	}
	return arns, documents, nil
}

// A Key is an access key. Its secret is known only to whoever created it.
type Key struct {
	ID     string
	Secret secret.Value
	Made   time.Time
	Active bool
}

// CreateKey makes an access key. It is never tried twice: a second key might be made.
func (c *Client) CreateKey(ctx context.Context, user string) (Key, error) {
	out, err := c.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user}, throttledOnly)
	if err != nil {
		return Key{}, explain("creating an access key", err)
	}
	k := out.AccessKey
	if k == nil || aws.ToString(k.AccessKeyId) == "" || aws.ToString(k.SecretAccessKey) == "" {
		return Key{}, unreadable("creating an access key") // it may be there
	}
	return Key{ID: aws.ToString(k.AccessKeyId), Secret: secret.Text(aws.ToString(k.SecretAccessKey)), Made: aws.ToTime(k.CreateDate), Active: true}, nil
}

// Keys are the access keys of a user, oldest first.
func (c *Client) Keys(ctx context.Context, user string) (keys []Key, err error) {
	err = pages(ctx, "listing access keys", iam.NewListAccessKeysPaginator(c.iam, &iam.ListAccessKeysInput{UserName: &user}), func(p *iam.ListAccessKeysOutput) {
		for _, k := range p.AccessKeyMetadata {
			keys = append(keys, Key{ID: aws.ToString(k.AccessKeyId), Made: aws.ToTime(k.CreateDate), Active: k.Status == types.StatusTypeActive})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return a.Made.Compare(b.Made) })
	return keys, nil
}

// DeleteKey removes an access key; an absent one is no error.
func (c *Client) DeleteKey(ctx context.Context, user, id string) error {
	_, err := c.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &id})
	return absent(explain("deleting access key "+id, err))
}

// SetActive lets a key work, or not. Repeatable.
func (c *Client) SetActive(ctx context.Context, user, id string, active bool) error {
	status := types.StatusTypeInactive
	if active {
		status = types.StatusTypeActive
	}
	_, err := c.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &id, Status: status})
	return explain("changing the state of access key "+id, err)
}

// LastUsed is when a key was used last, as far as AWS tells; zero for never.
func (c *Client) LastUsed(ctx context.Context, id string) (time.Time, error) {
	out, err := c.iam.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &id})
	if err != nil {
		return time.Time{}, explain("asking when access key "+id+" was used last", err)
	}
	if out.AccessKeyLastUsed == nil {
		return time.Time{}, nil
	}
	return aws.ToTime(out.AccessKeyLastUsed.LastUsedDate), nil
}
