package client_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// serve returns a server in memory and a client with an administrator's key.
func serve(t *testing.T, o awstest.Options) (*awstest.Server, *client.Client) {
	t.Helper()
	s := awstest.Start(t, o)
	c, err := client.New(t.Context(), client.Config{
		KeyID: awstest.ID, Secret: secret.Text(awstest.Secret), IAM: awstest.URL,
		STS: client.Endpoint{URL: awstest.URL}, MaxRetries: -1, Dial: s.Dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestUserFromMakingToRemoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := serve(t, awstest.Options{PageSize: 1})
		ctx := t.Context()
		s.AddGroup(awstest.Account, "devs")
		s.AddGroup(awstest.Account, "ops")
		must(t, c.CreateUser(ctx, client.NewUser{Name: "u", Path: "/svc/", Boundary: "arn:aws:iam::aws:policy/B",
			Tags: map[string]string{"team": "payments", "env": "prod"}}))
		must(t, c.PutPolicy(ctx, "u", "own", `{"Version":"2012-10-17","Statement":[]}`))
		for _, arn := range []string{"arn:aws:iam::aws:policy/A", "arn:aws:iam::aws:policy/B",
			"arn:aws:iam::aws:policy/C"} {
			must(t, c.AttachPolicy(ctx, "u", arn))
		}
		must(t, c.JoinGroup(ctx, "u", "devs"))
		must(t, c.JoinGroup(ctx, "u", "ops"))
		h, _ := s.Held(awstest.Account, "u")
		if h.Path != "/svc/" || h.Boundary != "arn:aws:iam::aws:policy/B" || h.Tags["team"] != "payments" ||
			len(h.Attached) != 3 || len(h.Groups) != 2 || len(h.Inline) != 1 {
			t.Errorf("the user has %+v", h)
		}
		k, err := c.CreateKey(ctx, "u")
		must(t, err)
		if !s.Works(k.ID, k.Secret.RevealString()) {
			t.Error("the key does not work")
		}
		_, err = c.CreateKey(ctx, "u")
		must(t, err)
		if _, err := c.CreateKey(ctx, "u"); client.CodeOf(err) != "LimitExceeded" || !client.Unchanged(err) {
			t.Errorf("a third key: %v", err)
		}
		keys, err := c.Keys(ctx, "u")
		must(t, err)
		if len(keys) != 2 || keys[0].ID != k.ID || !keys[0].Active {
			t.Errorf("keys %+v", keys)
		}
		s.Attach(awstest.Account, "u")
		must(t, c.RemoveUser(ctx, "u"))
		must(t, c.RemoveUser(ctx, "u")) // removing a missing user succeeds
		if got := s.Users(awstest.Account); len(got) != 1 || s.Works(k.ID, k.Secret.RevealString()) {
			t.Errorf("users %q are left", got)
		}
	})
}

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := serve(t, awstest.Options{KeyLag: 8 * time.Second})
		ctx := t.Context()
		must(t, c.CreateUser(ctx, client.NewUser{Name: "u"}))
		k, err := c.CreateKey(ctx, "u")
		must(t, err)
		mine, err := c.As(ctx, k.ID, k.Secret, secret.Value{})
		must(t, err)
		defer mine.Close()
		if _, err := mine.WhoAmI(ctx); client.CodeOf(err) != "InvalidClientTokenId" {
			t.Errorf("a key that AWS does not know everywhere yet: %v", err)
		}
		time.Sleep(8 * time.Second)
		who, err := mine.WhoAmI(ctx)
		if err != nil || who.ARN != "arn:aws:iam::123456789012:user/u" || who.Account != awstest.Account {
			t.Errorf("who am I: %+v, %v", who, err)
		}
		used, err := c.LastUsed(ctx, k.ID)
		if err != nil || time.Since(used) > 20*time.Second {
			t.Errorf("last used %v, %v", used, err)
		}
		must(t, c.SetActive(ctx, "u", k.ID, false))
		if _, err := mine.WhoAmI(ctx); err == nil || s.Works(k.ID, k.Secret.RevealString()) {
			t.Error("an inactive key works")
		}
		must(t, c.SetActive(ctx, "u", k.ID, true))
		must(t, c.DeleteKey(ctx, "u", k.ID))
		must(t, c.DeleteKey(ctx, "u", k.ID))
		wrong, err := c.As(ctx, awstest.ID, secret.Text("not-"+awstest.Secret), secret.Value{})
		must(t, err)
		defer wrong.Close()
		if _, err := wrong.WhoAmI(ctx); client.CodeOf(err) != "SignatureDoesNotMatch" ||
			strings.Contains(err.Error()+fault.Message(err), awstest.Secret) {
			t.Errorf("a wrong secret: %v", err)
		}
	})
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := serve(t, awstest.Options{})
		ctx := t.Context()
		s.AddRole(awstest.Account, awstest.Role{Name: "ci", ExternalID: "x1"})
		arn := "arn:aws:iam::123456789012:role/ci"
		if _, err := c.AssumeRole(ctx,
			client.SessionRequest{Name: "me", RoleARN: arn}); client.CodeOf(err) != "AccessDenied" ||
			!client.Unchanged(err) {
			t.Errorf("without its external id: %v", err)
		}
		got, err := c.AssumeRole(ctx,
			client.SessionRequest{Name: "me", RoleARN: arn, ExternalID: "x1", TTL: 15 * time.Minute,
				Tags: map[string]string{"a": "b"}, PolicyARNs: []string{"arn:aws:iam::aws:policy/A"}})
		must(t, err)
		if got.ARN != "arn:aws:sts::123456789012:assumed-role/ci/me" || time.Until(got.Expires) != 15*time.Minute {
			t.Errorf("session %+v", got)
		}
		its, err := c.As(ctx, got.ID, got.Secret, got.Token)
		must(t, err)
		defer its.Close()
		if who, err := its.WhoAmI(ctx); err != nil || who.ARN != got.ARN {
			t.Errorf("as the session: %+v, %v", who, err)
		}
		time.Sleep(15*time.Minute + time.Second)
		if _, err := its.WhoAmI(ctx); client.CodeOf(err) != "ExpiredToken" {
			t.Errorf("past its end: %v", err)
		}
		f, err := c.FederationToken(ctx,
			client.SessionRequest{Name: "fed", TTL: time.Hour, Policy: `{"Statement":[]}`})
		if err != nil || !strings.Contains(f.ARN, "federated-user/fed") {
			t.Errorf("federation token %+v, %v", f, err)
		}
		if st, err := c.SessionToken(ctx, client.SessionRequest{}); err != nil ||
			time.Until(st.Expires) != 12*time.Hour {
			t.Errorf("session token %+v, %v", st, err)
		}
		if _, err := c.SessionToken(ctx,
			client.SessionRequest{Serial: "arn:aws:iam::1:mfa/x", Code: "123456"}); client.CodeOf(
			err) != "AccessDenied" {
			t.Errorf("an MFA device of another: %v", err)
		}
	})
}

// TestFailures checks that an error never claims wrongly whether the call had an effect, and that
// no call that creates a key is repeated.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := serve(t, awstest.Options{})
		ctx := t.Context()
		must(t, c.CreateUser(ctx, client.NewUser{Name: "u"}))
		for _, tt := range []struct {
			mode      awstest.Mode
			made      int
			unchanged bool
		}{
			{awstest.Before, 0, false}, {awstest.Lost, 1, false}, {awstest.Malformed, 1, false},
			{awstest.Denied, 0, true},
		} {
			s.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: tt.mode, Times: 1})
			_, err := c.CreateKey(ctx, "u")
			if err == nil || client.Unchanged(err) != tt.unchanged || len(s.Keys(awstest.Account, "u")) != tt.made ||
				fault.Message(err) == "" {
				t.Errorf("%s: %v, unchanged %v, %d keys", tt.mode, err, client.Unchanged(err),
					len(s.Keys(awstest.Account, "u")))
			}
			s.Clear()
			keys, err := c.Keys(ctx, "u")
			must(t, err)
			for _, k := range keys {
				must(t, c.DeleteKey(ctx, "u", k.ID))
			}
		}
		// Throttled calls are retried, even those that create keys.
		s.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Throttle, Times: 2})
		if _, err := c.CreateKey(ctx, "u"); err != nil {
			t.Errorf("throttled twice: %v", err)
		}
		// Repeatable calls are retried after any failure.
		s.Inject(awstest.Fault{Action: "AttachUserPolicy", Mode: awstest.Lost, Times: 2})
		if err := c.AttachPolicy(ctx, "u", "arn:aws:iam::aws:policy/A"); err != nil {
			t.Errorf("replies lost twice: %v", err)
		}
		s.Clear()
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		s.Inject(awstest.Fault{Action: "CreateUser", Mode: awstest.Slow, Wait: 10 * time.Second, Times: 1})
		if err := c.CreateUser(ctx, client.NewUser{Name: "late"}); !fault.Is(err, fault.Timeout) ||
			client.Unchanged(err) {
			t.Errorf("a slow call: %v", err)
		}
		if got := s.Users(awstest.Account); len(got) != 2 {
			t.Errorf("users %q", got)
		}
		time.Sleep(10 * time.Second)
		if got := s.Users(awstest.Account); len(got) != 3 {
			t.Errorf("a slow call had no late effect: %q", got)
		}
	})
}

// published is the policy in the documentation of the reference server.
const published = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [
	"iam:AttachUserPolicy", "iam:CreateAccessKey", "iam:CreateUser", "iam:DeleteAccessKey", "iam:DeleteUser", "iam:DeleteUserPolicy", "iam:DetachUserPolicy", "iam:GetUser",
	"iam:ListAccessKeys", "iam:ListAttachedUserPolicies", "iam:ListGroupsForUser", "iam:ListUserPolicies", "iam:PutUserPolicy", "iam:AddUserToGroup", "iam:RemoveUserFromGroup"
], "Resource": ["arn:aws:iam::123456789012:user/vault-*"]}]}`

// full makes a user with a key, policies of both kinds, and a group.
func full(t *testing.T, s *awstest.Server, c *client.Client, name string, group bool) client.Key {
	t.Helper()
	ctx := t.Context()
	must(t, c.CreateUser(ctx, client.NewUser{Name: name}))
	must(t, c.PutPolicy(ctx, name, "own", `{"Version":"2012-10-17","Statement":[]}`))
	must(t, c.AttachPolicy(ctx, name, "arn:aws:iam::123456789012:policy/DeployAccess"))
	if group {
		s.AddGroup(awstest.Account, "devs")
		must(t, c.JoinGroup(ctx, name, "devs"))
	}
	k, err := c.CreateKey(ctx, name)
	must(t, err)
	return k
}

// TestRemovedByThePublishedPolicy: a user is removed with the permissions that the reference's
// published policy grants. What others have added takes more, and where these are missing the
// error names what was not looked at; the key is dead anyway.
func TestRemovedByThePublishedPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := serve(t, awstest.Options{})
		must(t, s.Permit(awstest.Account, awstest.Admin, published))
		ctx := t.Context()
		k := full(t, s, c, "vault-u", false)
		must(t, c.RemoveUser(ctx, "vault-u"))
		must(t, c.RemoveUser(ctx, "vault-u"))
		if _, there := s.Held(awstest.Account, "vault-u"); there || s.Works(k.ID, k.Secret.RevealString()) {
			t.Error("the user is left")
		}
		for _, call := range []string{"DeleteLoginProfile", "ListMFADevices", "ListSSHPublicKeys",
			"ListSigningCertificates", "ListServiceSpecificCredentials"} {
			if n := s.Calls(call); n != 0 {
				t.Errorf("%s was called %d times; want it where DeleteUser conflicts alone", call, n)
			}
		}
		k = full(t, s, c, "vault-v", false)
		s.Attach(awstest.Account, "vault-v")
		err := c.RemoveUser(ctx, "vault-v")
		for _, want := range []string{"a console password", "MFA devices", "SSH keys", "signing certificates",
			"credentials of services", "iam:DeleteLoginProfile", "iam:ListMFADevices"} {
			if client.CodeOf(err) != "DeleteConflict" || !strings.Contains(fault.Message(err), want) {
				t.Errorf("a user with what others added: %v, want %q named", err, want)
			}
		}
		if h, there := s.Held(awstest.Account, "vault-v"); !there || len(h.Attached)+len(h.Inline) > 0 ||
			s.Works(k.ID, k.Secret.RevealString()) {
			t.Errorf("what could be taken away was not: %+v", h)
		}
	})
}

// TestRemovedAsFarAsAllowed: a refusal keeps nothing else from being taken away, and is forgotten
// once it does not matter.
func TestRemovedAsFarAsAllowed(t *testing.T) {
	for refused, named := range map[string]string{
		"ListAccessKeys": "access keys", "DeleteAccessKey": "access keys",
		"ListAttachedUserPolicies": "attached policies", "DetachUserPolicy": "attached policies",
		"ListUserPolicies": "policies of its own",
		"DeleteUserPolicy": "policies of its own", "ListGroupsForUser": "groups", "RemoveUserFromGroup": "groups",
		"DeleteLoginProfile": "a console password", "ListMFADevices": "MFA devices",
		"DeactivateMFADevice":    "MFA devices",
		"DeleteVirtualMFADevice": "", "ListSSHPublicKeys": "SSH keys", "DeleteSSHPublicKey": "SSH keys",
		"ListSigningCertificates": "signing certificates", "DeleteSigningCertificate": "signing certificates",
		"ListServiceSpecificCredentials":  "credentials of services",
		"DeleteServiceSpecificCredential": "credentials of services",
	} {
		synctest.Test(t, func(t *testing.T) {
			s, c := serve(t, awstest.Options{})
			ctx := t.Context()
			k := full(t, s, c, "u", true)
			s.Inject(awstest.Fault{Action: refused, Mode: awstest.Denied})
			plain := full(t, s, c, "plain", false)
			err := c.RemoveUser(ctx, "plain")
			if needed := strings.Contains("ListAccessKeys DeleteAccessKey ListAttachedUserPolicies DetachUserPolicy "+
				"ListUserPolicies DeleteUserPolicy", refused); needed != (err != nil) {
				t.Errorf("%s refused, and not needed: %v", refused, err)
			}
			if s.Works(plain.ID, plain.Secret.RevealString()) != (named == "access keys") {
				t.Errorf("%s refused: the key of a plain user works", refused)
			}
			s.Attach(awstest.Account, "u")
			err = c.RemoveUser(ctx, "u")
			if (err == nil) != (named == "") || err != nil && !strings.Contains(fault.Message(err), named) {
				t.Errorf("%s refused: %v, want %q named", refused, err, named)
			}
			if h, there := s.Held(awstest.Account, "u"); there && len(h.Attached)+len(h.Inline)+len(h.Groups) > 1 {
				t.Errorf("%s refused: the user still has %+v", refused, h)
			}
			if s.Works(k.ID, k.Secret.RevealString()) && named != "access keys" {
				t.Errorf("%s refused: the key works", refused)
			}
			s.Clear()
			must(t, c.RemoveUser(ctx, "u"))
			if _, there := s.Held(awstest.Account, "u"); there {
				t.Errorf("%s allowed again: the user is left", refused)
			}
		})
	}
}
