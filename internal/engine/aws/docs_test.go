package aws_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// documentedPolicy is the one in docs/aws.md.
func documentedPolicy(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	policy, _, _ := strings.Cut(rest, "```")
	return policy
}

// TestByTheDocumentedPolicy issues users with the documented policy, and removes them with
// everything that people have added.
func TestByTheDocumentedPolicy(t *testing.T) {
	policy := documentedPolicy(t)
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddGroup(awstest.Account, "devs")
		if err := w.aws.Permit(awstest.Account, awstest.Admin, policy); err != nil {
			t.Fatal(err)
		}
		w.Must(t, route.Write, "roles/r",
			with(deploy, fields{"iam_groups": "devs", "policy_document": document, "iam_tags": "team=payments"}))
		a := w.issue("creds/r", nil)
		w.aws.Attach(awstest.Account, w.users()[0])
		if err := w.Revoke(a.Lease.ID); err != nil || len(w.users()) != 0 {
			t.Errorf("revoking: %v, users %q", err, w.users())
		}
		w.Must(t, route.Write, "config/rotate-root", nil)
	})
}

// TestByThePublishedPolicy: those of the reference's published policy are enough for users to whom
// nobody has added anything. Else the lease says what was not looked at, and ends once the
// permissions are there.
func TestByThePublishedPolicy(t *testing.T) {
	const published = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [
		"iam:AttachUserPolicy", "iam:CreateAccessKey", "iam:CreateUser", "iam:DeleteAccessKey", "iam:DeleteUser", "iam:DeleteUserPolicy", "iam:DetachUserPolicy", "iam:GetUser",
		"iam:ListAccessKeys", "iam:ListAttachedUserPolicies", "iam:ListGroupsForUser", "iam:ListUserPolicies", "iam:PutUserPolicy", "iam:AddUserToGroup", "iam:RemoveUserFromGroup"
	], "Resource": ["arn:aws:iam::123456789012:user/vault-*"]}]}`
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		permit := func(policy string) {
			t.Helper()
			if err := w.aws.Permit(awstest.Account, awstest.Admin, policy); err != nil {
				t.Fatal(err)
			}
		}
		permit(published)
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"policy_document": document}))
		if err := w.Revoke(w.issue("creds/r", nil).Lease.ID); err != nil || len(w.users()) != 0 {
			t.Errorf("revoking: %v, users %q", err, w.users())
		}
		a := w.issue("creds/r", nil)
		w.aws.Attach(awstest.Account, w.users()[0])
		if err := w.Revoke(a.Lease.ID); err == nil || !strings.Contains(fault.Message(err), "MFA devices") {
			t.Errorf("revoking a user with what others added: %v", err)
		}
		if w.aws.Works(a.Data["access_key"].(string), a.Data["secret_key"].(string)) {
			t.Error("the key works while the user cannot be removed")
		}
		permit(documentedPolicy(t))
		if time.Sleep(2 * time.Hour); len(w.users()) != 0 || len(w.IDs(t)) != 0 {
			t.Errorf("with the permissions: users %q, leases %q", w.users(), w.IDs(t))
		}
	})
}

// TestDocumentedPolicy: the policy in docs/aws.md allows each call that is made, and no other.
func TestDocumentedPolicy(t *testing.T) {
	policy := documentedPolicy(t)
	allowed := map[string]bool{}
	for _, m := range regexp.MustCompile(`"((?:iam|sts):\w+)"[,\]\s]`).FindAllStringSubmatch(policy, -1) {
		allowed[m[1]] = true
	}
	// What comes with another call: tags of users and sessions. What needs no permission.
	made := map[string]bool{"iam:TagUser": true, "sts:TagSession": true}
	free := map[string]bool{"sts:GetCallerIdentity": true, "sts:GetSessionToken": true}
	files, err := filepath.Glob("client/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`&(iam|sts)\.(\w+)Input\{`).FindAllStringSubmatch(string(code), -1) {
			if call := m[1] + ":" + m[2]; !free[call] {
				made[call] = true
			}
		}
	}
	for call := range made {
		if !allowed[call] {
			t.Errorf("the policy lacks %s", call)
		}
	}
	for call := range allowed {
		if !made[call] {
			t.Errorf("the policy allows %s, which is not called", call)
		}
	}
}
