package client

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/keyturn/keyturn/internal/fault"
)

// A holding is something of a user that prevents AWS from deleting the user.
type holding struct {
	what    string
	actions string // the permissions for listing and removing it
	remove  func(c *Client, ctx context.Context, user *string) error
}

// given are what an engine adds to a user. The keys come first, because they must stop working.
var given = []holding{
	{"access keys", "iam:ListAccessKeys, iam:DeleteAccessKey", (*Client).removeKeys},
	{"attached policies", "iam:ListAttachedUserPolicies, iam:DetachUserPolicy", (*Client).removeAttached},
	{"policies of its own", "iam:ListUserPolicies, iam:DeleteUserPolicy", (*Client).removeInline},
	{"groups", "iam:ListGroupsForUser, iam:RemoveUserFromGroup", (*Client).removeGroups},
}

// added are what people and services add to a user.
var added = []holding{
	{"a console password", "iam:DeleteLoginProfile", (*Client).removeLogin},
	{"MFA devices", "iam:ListMFADevices, iam:DeactivateMFADevice, iam:DeleteVirtualMFADevice", (*Client).removeMFA},
	{"SSH keys", "iam:ListSSHPublicKeys, iam:DeleteSSHPublicKey", (*Client).removeSSH},
	{"signing certificates", "iam:ListSigningCertificates, iam:DeleteSigningCertificate",
		(*Client).removeCertificates},
	{"credentials of services", "iam:ListServiceSpecificCredentials, iam:DeleteServiceSpecificCredential",
		(*Client).removeService},
}

// RemoveUser removes what the engine has given to a user, and deletes the user. It looks for what
// others may have added only if AWS says that the user still has something, because this needs
// permissions that the engine rarely has. Every step can be repeated, and a user that does not
// exist is success. A step that is refused for lack of a permission does not stop the others. If
// the user remains because of it, the error names the step.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	refused, err := c.removeAll(ctx, name, given)
	if err != nil {
		return err
	}
	err = c.deleteUser(ctx, name)
	if CodeOf(err) != "DeleteConflict" {
		return err
	}
	more, err := c.removeAll(ctx, name, added)
	if err != nil {
		return err
	}
	if err = c.deleteUser(ctx, name); CodeOf(err) == "DeleteConflict" {
		err = stays(append(refused, more...), err)
	}
	return err
}

// removeAll removes everything of some kinds of holding, and returns the kinds that it may not
// remove.
func (c *Client) removeAll(ctx context.Context, name string, all []holding) (refused []holding, err error) {
	for _, h := range all {
		switch err := absent(h.remove(c, ctx, &name)); {
		case CodeOf(err) == "AccessDenied":
			refused = append(refused, h)
		case err != nil:
			return nil, err
		}
	}
	return refused, nil
}

// stays returns the error for a user that AWS does not delete because of its holdings.
func stays(refused []holding, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	f := *e.fault
	if len(refused) == 0 {
		f.Msg = "deleting the user: AWS says that it still has something, and lists show nothing of it; see in AWS " +
			"what it has"
	} else {
		var what, actions []string
		for _, h := range refused {
			what, actions = append(what, h.what), append(actions, h.actions)
		}
		f.Msg = "deleting the user: AWS says that it still has something, and whether that is " +
			strings.Join(what, ", ") + " may not be looked at; take it away in AWS, or allow " +
			strings.Join(actions, ", ")
	}
	return &Error{fault: &f, Code: e.Code, Unchanged: e.Unchanged}
}

// deleteUser deletes a user until AWS says that it does not exist. The answer of DeleteUser is
// empty and is not read, so that any proxy that answers 200 would look like AWS.
func (c *Client) deleteUser(ctx context.Context, name string) error {
	for range maxDeletions {
		if _, err := c.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &name}); err != nil {
			return absent(explain("deleting the user", err))
		}
	}
	return fault.New("aws.RemoveUser", fault.Upstream,
		"deleting the user: AWS says that it is done, and the user is still there; check iam_endpoint and the network")
}

// maxDeletions limits the calls of DeleteUser.
const maxDeletions = 4

func (c *Client) removeKeys(ctx context.Context, user *string) error {
	keys, err := c.Keys(ctx, *user)
	if err != nil {
		return err
	}
	var denied error
	for _, k := range keys {
		if err := c.DeleteKey(ctx, *user, k.ID); CodeOf(err) == "AccessDenied" {
			denied = err
		} else if err != nil {
			return err
		}
	}
	return denied
}

// textsOf returns one text of each item of a list.
func textsOf[T any](list []T, text func(T) *string) (all []string) {
	for _, item := range list {
		all = append(all, aws.ToString(text(item)))
	}
	return all
}

func (c *Client) removeAttached(ctx context.Context, user *string) error {
	return each(ctx, "detaching the user's policies",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
			out, err := c.iam.ListAttachedUserPolicies(ctx,
				&iam.ListAttachedUserPoliciesInput{UserName: user, Marker: marker})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.AttachedPolicies, func(p types.AttachedPolicy) *string { return p.PolicyArn }),
				out.Marker,
				nil
		}, func(ctx context.Context, arn string) error {
			_, err := c.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: user, PolicyArn: &arn})
			return err
		})
}

func (c *Client) removeInline(ctx context.Context, user *string) error {
	return each(ctx, "deleting the user's own policies",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
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
	return each(ctx, "removing the user from groups",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
			out, err := c.iam.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: user, Marker: marker})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.Groups, func(g types.Group) *string { return g.GroupName }), out.Marker, nil
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
	return each(ctx, "removing the user's MFA devices",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
			out, err := c.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: user, Marker: marker})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.MFADevices, func(d types.MFADevice) *string { return d.SerialNumber }), out.Marker, nil
		}, func(ctx context.Context, serial string) error {
			if _, err := c.iam.DeactivateMFADevice(ctx,
				&iam.DeactivateMFADeviceInput{UserName: user, SerialNumber: &serial}); absent(
				explain("", err)) != nil {
				return err
			}
			// A hardware device cannot be deleted. A deactivated device does not prevent the
			// deletion of the user.
			_, err := c.iam.DeleteVirtualMFADevice(ctx, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
			if code := CodeOf(explain("", err)); code == "ValidationError" || code == "AccessDenied" {
				return nil
			}
			return err
		})
}

func (c *Client) removeSSH(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's SSH keys",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
			out, err := c.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: user, Marker: marker})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.SSHPublicKeys, func(k types.SSHPublicKeyMetadata) *string { return k.SSHPublicKeyId }),
				out.Marker, nil
		}, func(ctx context.Context, id string) error {
			_, err := c.iam.DeleteSSHPublicKey(ctx, &iam.DeleteSSHPublicKeyInput{UserName: user, SSHPublicKeyId: &id})
			return err
		})
}

func (c *Client) removeCertificates(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's signing certificates",
		func(ctx context.Context, marker *string) ([]string, *string, error) {
			out, err := c.iam.ListSigningCertificates(ctx,
				&iam.ListSigningCertificatesInput{UserName: user, Marker: marker})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.Certificates, func(k types.SigningCertificate) *string { return k.CertificateId }),
				out.Marker, nil
		}, func(ctx context.Context, id string) error {
			_, err := c.iam.DeleteSigningCertificate(ctx,
				&iam.DeleteSigningCertificateInput{UserName: user, CertificateId: &id})
			return err
		})
}

func (c *Client) removeService(ctx context.Context, user *string) error {
	return each(ctx, "removing the user's credentials of services",
		func(ctx context.Context, _ *string) ([]string, *string, error) {
			out, err := c.iam.ListServiceSpecificCredentials(ctx,
				&iam.ListServiceSpecificCredentialsInput{UserName: user})
			if err != nil {
				return nil, nil, err
			}
			return textsOf(out.ServiceSpecificCredentials,
					func(k types.ServiceSpecificCredentialMetadata) *string { return k.ServiceSpecificCredentialId }),
				nil,
				nil
		}, func(ctx context.Context, id string) error {
			_, err := c.iam.DeleteServiceSpecificCredential(ctx,
				&iam.DeleteServiceSpecificCredentialInput{UserName: user, ServiceSpecificCredentialId: &id})
			return err
		})
}
