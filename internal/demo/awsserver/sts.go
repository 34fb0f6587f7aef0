package awsserver

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

var stsActions = map[string]action{
	"GetCallerIdentity": getCallerIdentity, "AssumeRole": assumeRole,
	"GetFederationToken": getFederationToken, "GetSessionToken": getSessionToken,
}

func getCallerIdentity(c *call) (node, *apiError) {
	return el("", leaf("Arn", c.who.arn), leaf("UserId", c.who.id), leaf("Account", c.who.account.id)), nil
}

// duration parses DurationSeconds within bounds.
func (c *call) duration(otherwise, least, most time.Duration) (time.Duration, *apiError) {
	text := c.get("DurationSeconds")
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	d := time.Duration(n) * time.Second
	if err != nil || d < least || d > most {
		return 0, &apiError{400, "ValidationError",
			"1 validation error detected: Value '" + text + "' at 'durationSeconds' failed to satisfy constraint"}
	}
	return d, nil
}

// issue creates a session.
func (c *call) issue(s session) node {
	id, secret := newKey("ASIA")
	_, tok := newKey("")
	k := &key{id: id, secret: secret, token: "FwoGZX" + tok, session: &s}
	c.server.keys[id] = k
	return el("Credentials", leaf("AccessKeyId", id), leaf("SecretAccessKey", secret), leaf("SessionToken", k.token),
		when("Expiration", s.expires))
}

func assumeRole(c *call) (node, *apiError) {
	arn, name := c.get("RoleArn"), c.get("RoleSessionName")
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || !strings.HasPrefix(parts[5], "role/") {
		return node{}, &apiError{400, "ValidationError", arn + " is invalid"}
	}
	if len(name) < 2 || len(name) > 64 {
		return node{},
			&apiError{400, "ValidationError",
				"1 validation error detected: Value '" + name + "' at 'roleSessionName' failed to satisfy constraint"}
	}
	var r *Role
	a := c.server.accounts[parts[4]]
	if a != nil {
		r = a.roles[parts[5][strings.LastIndex(parts[5], "/")+1:]]
	}
	refused := &apiError{403, "AccessDenied",
		"User: " + c.who.arn + " is not authorized to perform: sts:AssumeRole on resource: " + arn}
	if r == nil {
		return node{}, refused
	}
	trusts := r.Trusts
	if len(trusts) == 0 {
		trusts = []string{a.id}
	}
	if !slices.Contains(trusts, c.who.account.id) || r.ExternalID != "" && c.get("ExternalId") != r.ExternalID {
		return node{}, refused
	}
	most := r.MaxSession
	if most == 0 {
		most = time.Hour
	}
	d, fail := c.duration(time.Hour, 15*time.Minute, 12*time.Hour)
	if fail == nil && d > most {
		fail = &apiError{400, "ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}
	}
	if fail == nil {
		fail = c.checkPolicies()
	}
	if fail != nil {
		return node{}, fail
	}
	session := session{account: a, arn: "arn:aws:sts::" + a.id + ":assumed-role/" + r.Name + "/" + name,
		admin: r.Admin, expires: c.now.Add(d), policy: c.get("Policy"), arns: c.list("PolicyArns", "arn")}
	return el("", el("AssumedRoleUser", leaf("Arn", session.arn), leaf("AssumedRoleId", "AROA"+token(17)+":"+name)),
		c.issue(session)), nil
}

func getFederationToken(c *call) (node, *apiError) {
	name := c.get("Name")
	switch {
	case c.who.user == nil:
		return node{}, &apiError{403, "AccessDenied", "Cannot call GetFederationToken with session credentials"}
	case len(name) < 2 || len(name) > 32:
		return node{},
			&apiError{400, "ValidationError",
				"1 validation error detected: Value '" + name + "' at 'name' failed to satisfy constraint"}
	}
	d, fail := c.duration(12*time.Hour, 15*time.Minute, 36*time.Hour)
	if fail == nil {
		fail = c.checkPolicies()
	}
	if fail != nil {
		return node{}, fail
	}
	s := session{account: c.who.account, arn: "arn:aws:sts::" + c.who.account.id + ":federated-user/" + name,
		expires: c.now.Add(d), policy: c.get("Policy"), arns: c.list("PolicyArns", "arn")}
	return el("", el("FederatedUser", leaf("Arn", s.arn), leaf("FederatedUserId", c.who.account.id+":"+name)),
		c.issue(s)), nil
}

func getSessionToken(c *call) (node, *apiError) {
	if c.who.user == nil {
		return node{}, &apiError{403, "AccessDenied", "Cannot call GetSessionToken with session credentials"}
	}
	serial, code := c.get("SerialNumber"), c.get("TokenCode")
	if serial != "" && (!slices.Contains(c.who.user.mfa, serial) || len(code) != 6) {
		return node{},
			&apiError{403, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code."}
	}
	d, fail := c.duration(12*time.Hour, 15*time.Minute, 36*time.Hour)
	if fail != nil {
		return node{}, fail
	}
	return el("", c.issue(session{account: c.who.account, arn: c.who.arn, admin: c.who.admin && serial != "",
		expires: c.now.Add(d)})), nil
}

// checkPolicies checks the policies of a session.
func (c *call) checkPolicies() *apiError {
	if text := c.get("Policy"); text != "" && !json.Valid([]byte(text)) {
		return &apiError{400, "MalformedPolicyDocument", "The policy is not in the valid JSON format."}
	}
	if n := len(c.list("PolicyArns", "arn")); n > 10 {
		return &apiError{400, "ValidationError", "too many policies"}
	}
	return nil
}
