package awsserver

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// A policy is an IAM policy, as far as this server evaluates it: statements that allow actions on
// resources, and conditions on the attached policy. A policy with anything else is refused.
type policy []statement

type statement struct {
	Sid       string
	Effect    string
	Action    texts
	Resource  texts
	Condition map[string]map[string]texts
}

// texts is a string or a list of strings.
type texts []string

// UnmarshalJSON accepts both.
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
					return nil, fmt.Errorf("statement %q has a condition %s on %s, which is not evaluated here",
						s.Sid, operator, key)
				}
			}
		}
	}
	return p.Statement, nil
}

// match reports whether a pattern matches. * stands for any text, including slashes.
func (t texts) match(text string) bool {
	flat := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "/", "\x01")) }
	for _, pattern := range t {
		if ok, err := path.Match(flat(pattern), flat(text)); ok && err == nil {
			return true
		}
	}
	return false
}
