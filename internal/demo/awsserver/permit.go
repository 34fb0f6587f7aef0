package awsserver

import (
	"fmt"
	"strings"
)

// Permit sets the policy of a user, who may then only make the calls that it allows, and those
// that need no permission.
func (s *Server) Permit(accountID, name, document string) error {
	p, err := parsePolicy(document)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	if u == nil {
		return fmt.Errorf("there is no user %s in account %s", name, accountID)
	}
	u.admin, u.permits = false, p
	return nil
}

// resource returns the ARN that a call acts on.
func (c *call) resource() string {
	arn := "arn:aws:iam::" + c.who.account.id + ":"
	switch user := c.get("UserName"); {
	case c.get("RoleArn") != "":
		return c.get("RoleArn")
	case c.get("GroupName") != "": // the group, even if the call is about a user in it
		return arn + "group/" + c.get("GroupName")
	case c.who.account.users[user] != nil:
		return c.who.account.users[user].arn()
	case user != "":
		return arn + "user" + strings.TrimSuffix("/"+strings.Trim(c.get("Path"), "/"), "/") + "/" + user
	case c.get("SerialNumber") != "":
		return c.get("SerialNumber")
	case c.who.user != nil:
		return c.who.user.arn()
	}
	return "*"
}

// permitted reports whether a policy allows a call, with its side effects.
func (c *call) permitted(p policy) bool {
	action, resource := "iam:"+c.get("Action"), c.resource()
	if c.get("Action") == "GetAccessKeyLastUsed" {
		resource = "*"
		if k := c.server.keys[c.get("AccessKeyId")]; k != nil && k.user != nil {
			resource = k.user.arn()
		}
	}
	return p.allows(c, action, resource) &&
		(c.get("Action") != "CreateUser" || !c.form.Has("Tags.member.1.Key") || p.allows(c, "iam:TagUser", resource))
}

// allows reports whether a policy allows a call.
func (p policy) allows(c *call, action, resource string) bool {
	for _, s := range p {
		if s.Action.match(action) && s.Resource.match(resource) && s.meets(c) {
			return true
		}
	}
	return false
}

func (s *statement) meets(c *call) bool {
	for _, keys := range s.Condition {
		for _, want := range keys {
			if arn := c.get("PolicyArn"); arn == "" || !want.match(arn) {
				return false
			}
		}
	}
	return true
}
