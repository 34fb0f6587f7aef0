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
