package client

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Key is an access key. Only CreateKey returns its secret.
type Key struct {
	ID     string
	Secret secret.Value
	Made   time.Time
	Active bool
}

// CreateKey creates an access key. It is never retried, because that might create a second key.
func (c *Client) CreateKey(ctx context.Context, user string) (Key, error) {
	out, err := c.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user}, throttledOnly)
	if err != nil {
		return Key{}, explain("creating an access key", err)
	}
	k := out.AccessKey
	if k == nil || aws.ToString(k.AccessKeyId) == "" || aws.ToString(k.SecretAccessKey) == "" {
		return Key{}, unreadable("creating an access key") // the key may exist
	}
	return Key{ID: aws.ToString(k.AccessKeyId), Secret: secret.Text(aws.ToString(k.SecretAccessKey)),
		Made: aws.ToTime(k.CreateDate), Active: true}, nil
}

// Keys returns the access keys of a user, oldest first.
func (c *Client) Keys(ctx context.Context, user string) (keys []Key, err error) {
	err = pages(ctx, "listing access keys", iam.NewListAccessKeysPaginator(c.iam,
		&iam.ListAccessKeysInput{UserName: &user}), func(p *iam.ListAccessKeysOutput) {
		for _, k := range p.AccessKeyMetadata {
			keys = append(keys, Key{ID: aws.ToString(k.AccessKeyId), Made: aws.ToTime(k.CreateDate),
				Active: k.Status == types.StatusTypeActive})
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return a.Made.Compare(b.Made) })
	return keys, nil
}

// DeleteKey deletes an access key. A missing key is no error.
func (c *Client) DeleteKey(ctx context.Context, user, id string) error {
	_, err := c.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &id})
	return absent(explain("deleting access key "+id, err))
}

// SetActive activates or deactivates a key. It is repeatable.
func (c *Client) SetActive(ctx context.Context, user, id string, active bool) error {
	status := types.StatusTypeInactive
	if active {
		status = types.StatusTypeActive
	}
	_, err := c.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &id, Status: status})
	return explain("changing the state of access key "+id, err)
}

// LastUsed returns the last use of a key that AWS reports; zero if there is none.
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
