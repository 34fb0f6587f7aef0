package awsserver

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

var iamActions = map[string]action{
	"CreateUser": createUser, "GetUser": getUser, "DeleteUser": deleteUser, "ListUsers": listUsers, "TagUser": tagUser,
	"ListUserTags":    listUserTags,
	"CreateAccessKey": createAccessKey, "ListAccessKeys": listAccessKeys, "DeleteAccessKey": deleteAccessKey,
	"UpdateAccessKey": updateAccessKey, "GetAccessKeyLastUsed": getAccessKeyLastUsed,
	"PutUserPolicy": putUserPolicy, "DeleteUserPolicy": deleteUserPolicy, "ListUserPolicies": listUserPolicies,
	"AttachUserPolicy": attachUserPolicy, "DetachUserPolicy": detachUserPolicy,
	"ListAttachedUserPolicies": listAttachedUserPolicies,
	"AddUserToGroup":           addUserToGroup, "RemoveUserFromGroup": removeUserFromGroup,
	"ListGroupsForUser": listGroupsForUser,
	"GetLoginProfile":   getLoginProfile, "DeleteLoginProfile": deleteLoginProfile,
	"ListMFADevices": listMFADevices, "DeactivateMFADevice": deactivateMFADevice,
	"DeleteVirtualMFADevice": deleteVirtualMFADevice,
	"ListSSHPublicKeys":      listSSHPublicKeys, "DeleteSSHPublicKey": deleteSSHPublicKey,
	"ListSigningCertificates": listSigningCertificates, "DeleteSigningCertificate": deleteSigningCertificate,
	"ListAttachedGroupPolicies": listAttachedGroupPolicies, "ListGroupPolicies": listGroupPolicies,
	"GetGroupPolicy":                  getGroupPolicy,
	"ListServiceSpecificCredentials":  listServiceSpecificCredentials,
	"DeleteServiceSpecificCredential": deleteServiceSpecificCredential,
}

func noSuch(what, name string) *apiError {
	return &apiError{404, "NoSuchEntity", "The " + what + " with name " + name + " cannot be found."}
}

// user returns the user of a call: UserName, or the caller.
func (c *call) user() (*user, *apiError) {
	name := c.get("UserName")
	if name == "" && c.who.user != nil {
		return c.who.user, nil
	}
	u := c.who.account.users[name]
	if u == nil {
		return nil, noSuch("user", name)
	}
	return u, nil
}

// forUser returns an action that runs with the user of the call.
func forUser(run func(c *call, u *user) (node, *apiError)) action {
	return func(c *call) (node, *apiError) {
		u, fail := c.user()
		if fail != nil {
			return node{}, fail
		}
		return run(c, u)
	}
}

func (u *user) node() node {
	kids := []node{leaf("Path", u.path), leaf("UserName", u.name), leaf("UserId", u.id), leaf("Arn", u.arn()),
		when("CreateDate", u.made)}
	if u.boundary != "" {
		kids = append(kids, el("PermissionsBoundary", leaf("PermissionsBoundaryType", "Policy"),
			leaf("PermissionsBoundaryArn", u.boundary)))
	}
	return el("User", append(kids, el("Tags", u.tagNodes()...))...)
}

func (u *user) tagNodes() (tags []node) {
	for k, v := range u.tags {
		tags = append(tags, el("member", leaf("Key", k), leaf("Value", v)))
	}
	return tags
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@-_"

func createUser(c *call) (node, *apiError) {
	name, path := c.get("UserName"), c.get("Path")
	if path == "" {
		path = "/"
	}
	switch {
	case name == "" || len(name) > 64 || strings.Trim(name, nameLetters) != "":
		return node{}, &apiError{400, "ValidationError", "The specified value for userName is invalid."}
	case !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") || len(path) > 512:
		return node{}, &apiError{400, "ValidationError", "The specified value for path is invalid."}
	case c.who.account.users[name] != nil:
		return node{}, &apiError{409, "EntityAlreadyExists", "User with name " + name + " already exists."}
	}
	keys, values := c.list("Tags", "Key"), c.list("Tags", "Value")
	if len(keys) > 50 || len(keys) != len(values) {
		return node{}, &apiError{400, "InvalidInput", "too many tags"}
	}
	u := c.server.addUser(c.who.account, name, path)
	u.made, u.boundary = c.now, c.get("PermissionsBoundary")
	for i, k := range keys {
		u.tags[k] = values[i]
	}
	return el("", u.node()), nil
}

var getUser = forUser(func(c *call, u *user) (node, *apiError) {
	if !c.server.shown(u.made, c.now) {
		return node{}, noSuch("user", u.name)
	}
	return el("", u.node()), nil
})

var deleteUser = forUser(func(c *call, u *user) (node, *apiError) {
	for _, has := range []struct {
		n    int
		what string
	}{
		{len(u.keys), "access keys"}, {len(u.inline), "policies"}, {len(u.attached), "policies"},
		{len(u.groups), "groups"},
		{len(u.mfa), "MFA devices"}, {len(u.ssh), "SSH keys"}, {len(u.certs), "certificates"},
		{len(u.service), "service credentials"},
	} {
		if has.n > 0 {
			return node{},
				&apiError{409, "DeleteConflict", "Cannot delete entity, must delete " + has.what + " first."}
		}
	}
	if u.login {
		return node{}, &apiError{409, "DeleteConflict", "Cannot delete entity, must delete login profile first."}
	}
	delete(u.account.users, u.name)
	return node{}, nil
})

func listUsers(c *call) (node, *apiError) {
	var all []*user
	for _, u := range c.who.account.users {
		if c.server.shown(u.made, c.now) && strings.HasPrefix(u.path, c.get("PathPrefix")) {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *user) int { return strings.Compare(a.name, b.name) })
	kids, more := page(c, all, func(u *user) node { return u.node() })
	return el("", append([]node{el("Users", kids...)}, more...)...), nil
}

var tagUser = forUser(func(c *call, u *user) (node, *apiError) {
	keys, values := c.list("Tags", "Key"), c.list("Tags", "Value")
	for i, k := range keys {
		u.tags[k] = values[i]
	}
	return node{}, nil
})

var listUserTags = forUser(func(c *call, u *user) (node, *apiError) {
	return el("", el("Tags", u.tagNodes()...), leaf("IsTruncated", "false")), nil
})

var createAccessKey = forUser(func(c *call, u *user) (node, *apiError) {
	if len(u.keys) >= MaxKeys {
		return node{},
			&apiError{409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: " + strconv.Itoa(MaxKeys)}
	}
	id, secret := newKey("AKIA")
	k := c.server.addKey(u, id, secret)
	k.made = c.now
	return el("", el("AccessKey", leaf("UserName", u.name), leaf("AccessKeyId", id), leaf("Status", "Active"),
		leaf("SecretAccessKey", secret), when("CreateDate", k.made))), nil
})

var listAccessKeys = forUser(func(c *call, u *user) (node, *apiError) {
	var all []*key
	for _, k := range append(slices.Clone(u.ghosts), u.keys...) {
		if k.deleted && c.server.shown(k.gone, c.now) || !k.deleted && !c.server.shown(k.made, c.now) {
			continue // both lists lag
		}
		all = append(all, k)
	}
	kids, more := page(c, all, func(k *key) node {
		return el("", leaf("UserName", u.name), leaf("AccessKeyId", k.id), leaf("Status", k.status()),
			when("CreateDate", k.made))
	})
	return el("", append([]node{el("AccessKeyMetadata", kids...)}, more...)...), nil
})

func (k *key) status() string {
	if k.inactive {
		return "Inactive"
	}
	return "Active"
}

// key returns the index of a user's access key.
func (c *call) key(u *user) (int, *apiError) {
	id := c.get("AccessKeyId")
	i := slices.IndexFunc(u.keys, func(k *key) bool { return k.id == id })
	if i < 0 {
		return 0, &apiError{404, "NoSuchEntity", "The Access Key with id " + id + " cannot be found."}
	}
	return i, nil
}

var deleteAccessKey = forUser(func(c *call, u *user) (node, *apiError) {
	i, fail := c.key(u)
	if fail != nil {
		return node{}, fail
	}
	u.drop(i, c.now)
	return node{}, nil
})

var updateAccessKey = forUser(func(c *call, u *user) (node, *apiError) {
	i, fail := c.key(u)
	if fail != nil {
		return node{}, fail
	}
	switch k := u.keys[i]; c.get("Status") {
	case "Active":
		k.inactive = false
	case "Inactive":
		if !k.inactive {
			k.inactive, k.changed = true, c.now
		}
	default:
		return node{}, &apiError{400, "ValidationError", "status"}
	}
	return node{}, nil
})

func getAccessKeyLastUsed(c *call) (node, *apiError) {
	k := c.server.keys[c.get("AccessKeyId")]
	if k == nil || k.user == nil || k.deleted {
		return node{}, &apiError{403, "AccessDenied", "the key is not of this account"}
	}
	var last *use
	for i := range k.used {
		if c.now.Sub(k.used[i].at) >= c.server.o.UsedLag {
			last = &k.used[i]
		}
	}
	used := el("AccessKeyLastUsed", leaf("ServiceName", "N/A"), leaf("Region", "N/A"))
	if last != nil {
		used = el("AccessKeyLastUsed", when("LastUsedDate", last.at), leaf("ServiceName", last.service),
			leaf("Region", "us-east-1"))
	}
	return el("", leaf("UserName", k.user.name), used), nil
}

var putUserPolicy = forUser(func(c *call, u *user) (node, *apiError) {
	text := c.get("PolicyDocument")
	switch {
	case !json.Valid([]byte(text)) || !strings.Contains(text, "Statement"):
		return node{}, &apiError{400, "MalformedPolicyDocument", "Syntax errors in policy."}
	case len(text) > 2048:
		return node{}, &apiError{409, "LimitExceeded", "Maximum policy size of 2048 bytes exceeded for user " + u.name}
	}
	u.inline[c.get("PolicyName")] = text
	return node{}, nil
})

var deleteUserPolicy = forUser(func(c *call, u *user) (node, *apiError) {
	name := c.get("PolicyName")
	if _, there := u.inline[name]; !there {
		return node{}, noSuch("user policy", name)
	}
	delete(u.inline, name)
	return node{}, nil
})

var listUserPolicies = forUser(func(c *call, u *user) (node, *apiError) {
	var names []string
	for name := range u.inline {
		names = append(names, name)
	}
	slices.Sort(names)
	kids, more := page(c, names, func(s string) node { return leaf("", s) })
	return el("", append([]node{el("PolicyNames", kids...)}, more...)...), nil
})

var attachUserPolicy = forUser(func(c *call, u *user) (node, *apiError) {
	arn := c.get("PolicyArn")
	switch {
	case !strings.HasPrefix(arn, "arn:aws:iam::"):
		return node{}, &apiError{400, "InvalidInput", "ARN " + arn + " is not valid."}
	case strings.Contains(arn, ":policy/absent"):
		return node{}, &apiError{404, "NoSuchEntity", "Policy " + arn + " does not exist or is not attachable."}
	case len(u.attached) >= 10:
		return node{}, &apiError{409, "LimitExceeded", "Cannot exceed quota for PoliciesPerUser: 10"}
	case !slices.Contains(u.attached, arn):
		u.attached = append(u.attached, arn)
	}
	return node{}, nil
})

var detachUserPolicy = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.attached, c.get("PolicyArn"), "policy")
})

// takeOut removes one element of a list.
func takeOut(list *[]string, one, what string) (node, *apiError) {
	i := slices.Index(*list, one)
	if i < 0 {
		return node{}, noSuch(what, one)
	}
	*list = slices.Delete(*list, i, i+1)
	return node{}, nil
}

var listAttachedUserPolicies = forUser(func(c *call, u *user) (node, *apiError) {
	return attachedPolicies(c, u.attached), nil
})

func attachedPolicies(c *call, arns []string) node {
	kids, more := page(c, arns, func(arn string) node {
		return el("", leaf("PolicyName", arn[strings.LastIndex(arn, "/")+1:]), leaf("PolicyArn", arn))
	})
	return el("", append([]node{el("AttachedPolicies", kids...)}, more...)...)
}

var addUserToGroup = forUser(func(c *call, u *user) (node, *apiError) {
	name := c.get("GroupName")
	if u.account.groups[name] == nil {
		return node{}, noSuch("group", name)
	}
	if !slices.Contains(u.groups, name) {
		u.groups = append(u.groups, name)
	}
	return node{}, nil
})

func (c *call) group() (*group, *apiError) {
	g := c.who.account.groups[c.get("GroupName")]
	if g == nil {
		return nil, noSuch("group", c.get("GroupName"))
	}
	return g, nil
}

func listAttachedGroupPolicies(c *call) (node, *apiError) {
	g, fail := c.group()
	if fail != nil {
		return node{}, fail
	}
	return attachedPolicies(c, g.attached), nil
}

func listGroupPolicies(c *call) (node, *apiError) {
	g, fail := c.group()
	if fail != nil {
		return node{}, fail
	}
	kids, more := page(c, slices.Sorted(maps.Keys(g.inline)), func(s string) node { return leaf("", s) })
	return el("", append([]node{el("PolicyNames", kids...)}, more...)...), nil
}

// getGroupPolicy sends the document URL-encoded, as AWS does.
func getGroupPolicy(c *call) (node, *apiError) {
	g, fail := c.group()
	if fail != nil {
		return node{}, fail
	}
	name := c.get("PolicyName")
	text, there := g.inline[name]
	if !there {
		return node{}, noSuch("group policy", name)
	}
	return el("", leaf("GroupName", c.get("GroupName")), leaf("PolicyName", name),
		leaf("PolicyDocument", escape(text))), nil
}

var removeUserFromGroup = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.groups, c.get("GroupName"), "group")
})

var listGroupsForUser = forUser(func(c *call, u *user) (node, *apiError) {
	kids, more := page(c, u.groups, func(name string) node {
		return el("", leaf("Path", "/"), leaf("GroupName", name), leaf("GroupId", "AGPA"+token(17)),
			leaf("Arn", "arn:aws:iam::"+u.account.id+":group/"+name), when("CreateDate", time.Unix(0, 0)))
	})
	return el("", append([]node{el("Groups", kids...)}, more...)...), nil
})

var getLoginProfile = forUser(func(c *call, u *user) (node, *apiError) {
	if !u.login {
		return node{}, &apiError{404, "NoSuchEntity", "Login Profile for User " + u.name + " cannot be found."}
	}
	return el("", el("LoginProfile", leaf("UserName", u.name), when("CreateDate", u.made))), nil
})

var deleteLoginProfile = forUser(func(c *call, u *user) (node, *apiError) {
	if !u.login {
		return node{}, &apiError{404, "NoSuchEntity", "Login Profile for User " + u.name + " cannot be found."}
	}
	u.login = false
	return node{}, nil
})

var listMFADevices = forUser(func(c *call, u *user) (node, *apiError) {
	kids, more := page(c, u.mfa, func(serial string) node {
		return el("", leaf("UserName", u.name), leaf("SerialNumber", serial), when("EnableDate", u.made))
	})
	return el("", append([]node{el("MFADevices", kids...)}, more...)...), nil
})

var deactivateMFADevice = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.mfa, c.get("SerialNumber"), "device")
})

func deleteVirtualMFADevice(*call) (node, *apiError) { return node{}, nil }

var listSSHPublicKeys = forUser(func(c *call, u *user) (node, *apiError) {
	kids, more := page(c, u.ssh, func(id string) node {
		return el("", leaf("UserName", u.name), leaf("SSHPublicKeyId", id), leaf("Status", "Active"),
			when("UploadDate", u.made))
	})
	return el("", append([]node{el("SSHPublicKeys", kids...)}, more...)...), nil
})

var deleteSSHPublicKey = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.ssh, c.get("SSHPublicKeyId"), "SSH key")
})

var listSigningCertificates = forUser(func(c *call, u *user) (node, *apiError) {
	kids, more := page(c, u.certs, func(id string) node {
		return el("", leaf("UserName", u.name), leaf("CertificateId", id), leaf("CertificateBody", "-"),
			leaf("Status", "Active"), when("UploadDate", u.made))
	})
	return el("", append([]node{el("Certificates", kids...)}, more...)...), nil
})

var deleteSigningCertificate = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.certs, c.get("CertificateId"), "certificate")
})

var listServiceSpecificCredentials = forUser(func(c *call, u *user) (node, *apiError) {
	var kids []node
	for _, id := range u.service {
		kids = append(kids, el("member", leaf("UserName", u.name), leaf("ServiceSpecificCredentialId", id),
			leaf("ServiceName", "codecommit"), leaf("ServiceUserName", u.name), leaf("Status", "Active"),
			when("CreateDate", u.made)))
	}
	return el("", el("ServiceSpecificCredentials", kids...)), nil
})

var deleteServiceSpecificCredential = forUser(func(c *call, u *user) (node, *apiError) {
	return takeOut(&u.service, c.get("ServiceSpecificCredentialId"), "service specific credential")
})
