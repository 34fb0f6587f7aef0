package awsserver

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// A policy is a document of IAM's, as far as it is evaluated here: statements that allow actions on resources, and
// conditions on the policy that is attached. What has anything else in it is refused when it is given.
type policy []statement

type statement struct {
	Sid       string
	Effect    string
	Action    texts
	Resource  texts
	Condition map[string]map[string]texts
}

// texts is a text or a list of them.
type texts []string

// UnmarshalJSON takes both.
func (t *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

func parsePolicy(document string) (policy, error) {
	var p struct {
		Version   string
		Statement []statement
	}
	d := json.NewDecoder(strings.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" {
			return nil, fmt.Errorf("statement %q has the effect %q, which is not evaluated here", s.Sid, s.Effect)
		}
		for operator, keys := range s.Condition {
			for key := range keys {
				if operator != "ArnEquals" || key != "iam:PolicyARN" {
					return nil, fmt.Errorf("statement %q has a condition %s on %s, which is not evaluated here", s.Sid, operator, key)
				}
			}
		}
	}
	return p.Statement, nil
}

// Permit lets a user make the calls that a policy allows, and no others but those that need no permission.
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

// resource is what a call acts on, by its parameters.
func (c *call) resource() string {
	arn := "arn:aws:iam::" + c.who.account.id + ":"
	switch user := c.get("UserName"); {
	case c.get("RoleArn") != "":
		return c.get("RoleArn")
	case c.get("GroupName") != "": // the group, also where it is about a user in it
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

// permitted reports whether a policy allows a call of IAM, with what the call does besides.
func (c *call) permitted(p policy) bool {
	action, resource := "iam:"+c.get("Action"), c.resource()
	if c.get("Action") == "GetAccessKeyLastUsed" {
		resource = "*"
		if k := c.keys[c.get("AccessKeyId")]; k != nil && k.user != nil {
			resource = k.user.arn()
		}
	}
	return p.allows(c, action, resource) && (c.get("Action") != "CreateUser" || !c.form.Has("Tags.member.1.Key") || p.allows(c, "iam:TagUser", resource))
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

// match: in a pattern of IAM's, * stands for any text, slashes as well.
func (t texts) match(text string) bool {
	flat := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "/", "\x01")) }
	for _, pattern := range t {
		if ok, err := path.Match(flat(pattern), flat(text)); ok && err == nil {
			return true
		}
	}
	return false
}
