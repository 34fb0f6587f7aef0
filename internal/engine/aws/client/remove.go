package client

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/keyturn/keyturn/internal/fault"
)

// RemoveUser takes away all that a user has and then the user: AWS deletes none that has
// anything. The keys go first, since they are what must not work any more. Every step can
// be repeated; a user that is not there is success.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	for _, step := range []func(context.Context, *string) error{
		c.removeKeys, c.removeAttached, c.removeInline, c.removeGroups, c.removeLogin, c.removeMFA, c.removeSSH, c.removeCertificates, c.removeService,
	} {
		if err := step(ctx, &name); absent(err) != nil {
			return err
		}
	}
	// DeleteUser answers with an empty document, which nobody reads: whatever stands in between and
	// says 200 would look like AWS. Only that there is no such user any more proves it.
	for range deletions {
		if _, err := c.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name}); err != nil {
			return absent(explain("deleting the user", err))
		}
	}
	return fault.New("aws.RemoveUser", fault.Upstream, "deleting the user: AWS says that it is done, and the user is still there; check iam_endpoint and the way there")
}

// deletions is how often a user is deleted until AWS says that there is none.
const deletions = 4

// each removes all of a list. The list is read in full first: removing moves its pages.
func each[T any](ctx context.Context, doing string, list func(ctx context.Context, marker *string) ([]T, *string, error), remove func(ctx context.Context, one T) error) error {
	var all []T
	for marker, more := (*string)(nil), true; more; more = marker != nil {
		some, next, err := list(ctx, marker)
		if err != nil {
			return explain(doing, err)
		}
		all, marker = append(all, some...), next
	}
	for _, one := range all {
		if err := absent(explain(doing, remove(ctx, one))); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) removeKeys(ctx context.Context, user *string) error {
	keys, err := c.Keys(ctx, *user)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := c.DeleteKey(ctx, *user, k.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) removeAttached(ctx context.Context, user *string) error {
	return each(ctx, "detaching the user's policies", func(ctx context.Context, marker *string) (arns []string, next *string, err error) {
		out, err := c.iam.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		for _, p := range out.AttachedPolicies {
			arns = append(arns, aws.ToString(p.PolicyArn))
		}
		return arns, out.Marker, nil
	}, func(ctx context.Context, arn string) error {
		_, err := c.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: user, PolicyArn: &arn})
		return err
	})
}

func (c *Client) removeInline(ctx context.Context, user *string) error {
	return each(ctx, "deleting the user's own policies", func(ctx context.Context, marker *string) ([]string, *string, error) {
		out, err := c.iam.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		return out.PolicyNames, out.Marker, nil
	}, func(ctx context.Context, name string) error {
		_, err := c.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: user, PolicyName: &name})
		return err
	})
}

func (c *Client) removeGroups(ctx context.Context, user *string) error {
	return each(ctx, "removing the user from groups", func(ctx context.Context, marker *string) (names []string, next *string, err error) {
		out, err := c.iam.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		for _, g := range out.Groups {
			names = append(names, aws.ToString(g.GroupName))
		}
		return names, out.Marker, nil
	}, func(ctx context.Context, name string) error {
		_, err := c.iam.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{UserName: user, GroupName: &name})
		return err
	})
}

func (c *Client) removeLogin(ctx context.Context, user *string) error {
	_, err := c.iam.DeleteLoginProfile(ctx, &iam.DeleteLoginProfileInput{UserName: user})
	return absent(explain("deleting the user's console password", err))
}

func (c *Client) removeMFA(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's MFA devices", func(ctx context.Context, marker *string) (serials []string, next *string, err error) {
		out, err := c.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		for _, d := range out.MFADevices {
			serials = append(serials, aws.ToString(d.SerialNumber))
		}
		return serials, out.Marker, nil
	}, func(ctx context.Context, serial string) error {
		if _, err := c.iam.DeactivateMFADevice(ctx, &iam.DeactivateMFADeviceInput{UserName: user, SerialNumber: &serial}); absent(explain("", err)) != nil {
			return err
		}
		// A device of hardware cannot be deleted, and keeps no user.
		_, err := c.iam.DeleteVirtualMFADevice(ctx, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
		if CodeOf(explain("", err)) == "ValidationError" {
			return nil
		}
		return err
	})
}

func (c *Client) removeSSH(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's SSH keys", func(ctx context.Context, marker *string) (ids []string, next *string, err error) {
		out, err := c.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		for _, k := range out.SSHPublicKeys {
			ids = append(ids, aws.ToString(k.SSHPublicKeyId))
		}
		return ids, out.Marker, nil
	}, func(ctx context.Context, id string) error {
		_, err := c.iam.DeleteSSHPublicKey(ctx, &iam.DeleteSSHPublicKeyInput{UserName: user, SSHPublicKeyId: &id})
		return err
	})
}

func (c *Client) removeCertificates(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's signing certificates", func(ctx context.Context, marker *string) (ids []string, next *string, err error) {
		out, err := c.iam.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: user, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		for _, k := range out.Certificates {
			ids = append(ids, aws.ToString(k.CertificateId))
		}
		return ids, out.Marker, nil
	}, func(ctx context.Context, id string) error {
		_, err := c.iam.DeleteSigningCertificate(ctx, &iam.DeleteSigningCertificateInput{UserName: user, CertificateId: &id})
		return err
	})
}

func (c *Client) removeService(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's credentials of services", func(ctx context.Context, _ *string) (ids []string, next *string, err error) {
		out, err := c.iam.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: user})
		if err != nil {
			return nil, nil, err
		}
		for _, k := range out.ServiceSpecificCredentials {
			ids = append(ids, aws.ToString(k.ServiceSpecificCredentialId))
		}
		return ids, nil, nil
	}, func(ctx context.Context, id string) error {
		_, err := c.iam.DeleteServiceSpecificCredential(ctx, &iam.DeleteServiceSpecificCredentialInput{UserName: user, ServiceSpecificCredentialId: &id})
		return err
	})
}
