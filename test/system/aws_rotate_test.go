//go:build integration

package system

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// aws is the AWS server with an installation that uses it.
type aws struct {
	*harness.Server
	t   *testing.T
	at  *awsserver.Server
	url string
}

func newAWS(t *testing.T) *aws {
	t.Helper()
	at := awsserver.New(awsserver.Options{KeyLag: 2 * time.Second, ListLag: time.Second})
	at.AddAdmin(awsserver.Account, "keyturn", awsID, awsSecret)
	web := httptest.NewServer(at)
	t.Cleanup(web.Close)
	a := &aws{harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`}), t, at, web.URL}
	lines, _, _ := strings.Cut(guideAWS, "# Request credentials")
	lines = strings.Replace(lines, "region=us-east-1", "region=us-east-1 iam_endpoint="+a.url+" sts_endpoint="+a.url,
		1)
	typed(t, a.Server, "export VAULT_AWS_ACCESS_KEY="+awsID+" VAULT_AWS_SECRET_KEY="+awsSecret+"\n"+lines)
	return a
}

// users returns the issued users.
func (a *aws) users() []string {
	return slices.DeleteFunc(a.at.Users(awsserver.Account),
		func(u string) bool { return !strings.HasPrefix(u, "vault-") })
}

type awsCreds struct {
	LeaseID  string `json:"lease_id"`
	Duration int    `json:"lease_duration"`
	Data     struct {
		Key    string `json:"access_key"`
		Secret string `json:"secret_key"`
		Token  string `json:"session_token"`
	}
}

func (a *aws) read(args ...string) (c awsCreds) {
	a.t.Helper()
	text, err := a.Command("vault", append([]string{"read", "-format=json"}, args...)...).Output()
	if err != nil {
		a.t.Fatalf("reading %q: %v", args, err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		a.t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// cli runs AWS's command line with credentials.
func (a *aws) cli(c awsCreds, args ...string) (string, error) {
	cmd := exec.Command("aws", append(args, "--endpoint-url", a.url, "--region", "us-east-1", "--output", "text")...)
	cmd.Env = []string{"HOME=" + a.t.TempDir(), "PATH=" + os.Getenv("PATH"), "AWS_ACCESS_KEY_ID=" + c.Data.Key,
		"AWS_SECRET_ACCESS_KEY=" + c.Data.Secret, "AWS_SESSION_TOKEN=" + c.Data.Token, "AWS_MAX_ATTEMPTS=1"}
	if c.Data.Token == "" {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "AWS_SESSION_TOKEN") })
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needCLI(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("aws", "--version").CombinedOutput(); err != nil {
		t.Skipf("the awscli package is not installed: %v %s", err, out)
	}
}

// TestAWSCLI uses issued credentials with AWS's command line, until they are dead.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	needCLI(t)
	a := newAWS(t)
	a.at.AddRole(awsserver.Account, awsserver.Role{Name: "ci"})
	typed(t, a.Server, `
vault write aws/roles/ci credential_type=assumed_role role_arns=arn:aws:iam::123456789012:role/ci
vault write aws/roles/short credential_type=iam_user policy_arns=arn:aws:iam::123456789012:policy/DeployAccess default_ttl=5s max_ttl=10s
`)
	user, session := a.read("aws/creds/deploy-service"), a.read("aws/sts/ci")
	for want, c := range map[string]awsCreds{":user/vault-": user, ":assumed-role/ci/": session} {
		if out, err := a.cli(c, "sts", "get-caller-identity"); err != nil || !strings.Contains(out, want) {
			t.Errorf("who am I: %v\n%s\nwant %s", err, out, want)
		}
	}
	if out, err := a.cli(user, "iam", "list-access-keys"); err != nil || !strings.Contains(out, user.Data.Key) {
		t.Errorf("its own keys: %v\n%s", err, out)
	}
	typed(t, a.Server, "vault lease revoke -sync "+user.LeaseID)
	if out, err := a.cli(user, "sts", "get-caller-identity"); err == nil ||
		!strings.Contains(out, "InvalidClientTokenId") {
		t.Errorf("after its revocation: %v\n%s", err, out)
	}
	// The server is killed during a lease, which ends on time after the restart.
	short := a.read("aws/creds/short")
	if out, err := a.cli(short, "sts", "get-caller-identity"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	a.Kill()
	a.StartServing(t)
	await.Eventually(t, "a user of five seconds is gone", func() bool { return len(a.users()) == 0 })
	if out, err := a.cli(short, "sts", "get-caller-identity"); err == nil ||
		!strings.Contains(out, "InvalidClientTokenId") {
		t.Errorf("after its expiry: %v\n%s", err, out)
	}
}

// TestAWSStaticRole onboards an existing user, rotates it, and survives a kill.
func TestAWSStaticRole(t *testing.T) {
	t.Parallel()
	a := newAWS(t)
	a.at.AddUser(awsserver.Account, "billing")
	theirs, _ := a.at.AddKey(awsserver.Account, "billing")
	out := typed(t, a.Server,
		"vault write aws/static-roles/billing username=billing rotation_period=24h propagation_settle=1s")
	if !strings.Contains(out, theirs) {
		t.Errorf("it does not tell of the key from before:\n%s", out)
	}
	out = typed(t, a.Server, "vault read aws/static-creds/billing")
	for _, want := range []string{"access_key", "secret_key", "expiration", "ttl", "5m", "rotation_period", "24h"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	first := a.read("aws/static-creds/billing")
	if !a.at.Works(first.Data.Key, first.Data.Secret) || first.Data.Key == theirs || first.LeaseID != "" {
		t.Errorf("credentials %+v", first)
	}
	if out, err := a.Command("vault", "write", "-f", "aws/rotate-role/billing").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "replace_key="+theirs) {
		t.Errorf("rotating over a key that nobody named: %v\n%s", err, out)
	}
	typed(t, a.Server, "vault write aws/rotate-role/billing replace_key="+theirs)
	a.Kill()
	a.StartServing(t)
	second := a.read("aws/static-creds/billing")
	if second.Data.Key == first.Data.Key || !a.at.Works(second.Data.Key, second.Data.Secret) ||
		!a.at.Works(first.Data.Key, first.Data.Secret) {
		t.Errorf("after the rotation: %s, before %s", second.Data.Key, first.Data.Key)
	}
	typed(t, a.Server, "vault write -f aws/config/rotate-root")
	if a.at.Works(awsID, awsSecret) {
		t.Error("the root key that was given works after rotate-root")
	}
	a.read("aws/creds/deploy-service")
}
