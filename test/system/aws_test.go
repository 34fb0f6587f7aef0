//go:build integration

package system

import (
	"encoding/json"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// The guide's lines, unchanged except for the addresses.
const (
	guideAWS = `
# Enable the AWS secrets engine
vault secrets enable aws
# Configure the root credentials Vault uses to generate dynamic keys
vault write aws/config/root \
access_key=$VAULT_AWS_ACCESS_KEY \
secret_key=$VAULT_AWS_SECRET_KEY \
region=us-east-1
# Define a role that generates credentials with specific permissions
vault write aws/roles/deploy-service \
credential_type=iam_user \
policy_arns=arn:aws:iam::123456789012:policy/DeployAccess \
default_ttl=1h \
max_ttl=4h
# Request credentials (returns unique access_key and secret_key)
vault read aws/creds/deploy-service
`
	awsAdmin  = "keyturn"
	awsID     = "AKIAIOSFODNN7EXAMPLE"
	awsSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// A cloud is AWS, as far as these tests need it.
type cloud struct {
	*awsserver.Server
	url string
}

func startCloud(t *testing.T) *cloud {
	t.Helper()
	a := awsserver.New(awsserver.Options{})
	a.AddAdmin(awsserver.Account, awsAdmin, awsID, awsSecret)
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	return &cloud{a, srv.URL}
}

// issuedUsers returns the users at AWS except the administrator.
func (c *cloud) issuedUsers() (names []string) {
	for _, u := range c.Users(awsserver.Account) {
		if u != awsAdmin {
			names = append(names, u)
		}
	}
	return names
}

func (c *cloud) none(t *testing.T) {
	t.Helper()
	await.Eventually(t, "no users left", func() bool { return len(c.issuedUsers()) == 0 })
}

// configured returns a server whose mount aws/ issues users, with a role for each name and TTL.
func configured(t *testing.T, c *cloud, roles map[string]string) *harness.Server {
	t.Helper()
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	run(t, s, "secrets", "enable", "aws")
	run(t, s, "write", "aws/config/root", "access_key="+awsID, "secret_key="+awsSecret, "iam_endpoint="+c.url,
		"sts_endpoint="+c.url, "propagation_checks=0")
	for role, ttl := range roles {
		run(t, s, "write", "aws/roles/"+role, "credential_type=iam_user",
			"policy_arns=arn:aws:iam::123456789012:policy/DeployAccess", "default_ttl="+ttl, "max_ttl=4h")
	}
	return s
}

// An awsKey is the answer of creds/.
type awsKey struct {
	Lease    string `json:"lease_id"`
	Duration int    `json:"lease_duration"`
	Data     struct {
		ID     string `json:"access_key"`
		Secret string `json:"secret_key"`
	}
}

func issueAWS(t *testing.T, s *harness.Server, role string) (k awsKey) {
	t.Helper()
	out, err := s.Command("vault", "read", "-format=json", "aws/creds/"+role).Output()
	if err != nil || json.Unmarshal(out, &k) != nil || k.Lease == "" {
		t.Fatalf("reading credentials: %v: %s", err, out)
	}
	return k
}

// whoAmI uses a key with AWS's command line, if it is installed.
func (c *cloud) whoAmI(t *testing.T, id, secret string) (string, error) {
	t.Helper()
	const program = "/usr/bin/aws"
	if exec.Command("test", "-x", program).Run() != nil {
		t.Skip("the command line of AWS is not installed")
	}
	cmd := exec.Command(program, "sts", "get-caller-identity", "--endpoint-url", c.url, "--output", "json")
	cmd.Env = []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_DEFAULT_REGION=us-east-1",
		"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestGuideAWSCredentials runs the guide's lines, in which vault is a link to keyturn.
func TestGuideAWSCredentials(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	lines := strings.Replace(guideAWS, "region=us-east-1",
		"region=us-east-1 iam_endpoint="+c.url+" sts_endpoint="+c.url, 1)
	out := typed(t, s, "export VAULT_AWS_ACCESS_KEY="+awsID+" VAULT_AWS_SECRET_KEY="+awsSecret+"\n"+lines)
	for _, row := range []string{
		`(?m)^Key\s+Value$`, `(?m)^lease_id\s+aws/creds/deploy-service/\S+$`, `(?m)^lease_duration\s+1h$`,
		`(?m)^access_key\s+AKIA\w+$`,
		`(?m)^secret_key\s+\S+$`, `(?m)^security_token\s+<nil>$`,
	} {
		if !regexp.MustCompile(row).MatchString(out) {
			t.Errorf("the output lacks a row %s:\n%s", row, out)
		}
	}
	if strings.Contains(out, awsSecret) || strings.Contains(s.Stderr(t), awsSecret) {
		t.Error("the administrator's secret key is shown")
	}
	if n := len(c.issuedUsers()); n != 1 {
		t.Fatalf("%d users", n)
	}
	h, _ := c.Held(awsserver.Account, c.issuedUsers()[0])
	if len(h.Attached) != 1 || h.Attached[0] != "arn:aws:iam::123456789012:policy/DeployAccess" {
		t.Errorf("the user has %+v", h)
	}
	// An unset variable gives an empty key, which is refused.
	unset := s.Command("vault", "write", "aws/config/root", "access_key="+awsID, "secret_key=", "region=us-east-1")
	if text, err := unset.CombinedOutput(); err == nil || !strings.Contains(string(text), "secret_key") {
		t.Errorf("an empty secret_key: %v: %s", err, text)
	}
	id := regexp.MustCompile(`aws/creds/deploy-service/\S+`).FindString(out)
	if text := run(t, s, "lease", "renew", id); !strings.Contains(text, "1h") {
		t.Errorf("renewed:\n%s", text)
	}
	run(t, s, "lease", "revoke", id)
	c.none(t)
	typed(t, s, "vault policy write deploy-service - <<'EOT'\n"+guidePolicy+"EOT\n")
	token := strings.TrimSpace(typed(t, s, "vault token create -policy=deploy-service -field=token"))
	for _, args := range [][]string{{"read", "aws/config/root"}, {"read", "aws/roles/deploy-service"},
		{"list", "aws/roles"}, {"read", "aws/creds/other"}} {
		refused(t, s, token, args...)
	}
}

// TestAWS issues users, lets them expire, revokes them, and kills the server in between.
func TestAWS(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	s := configured(t, c, map[string]string{"short": "3s", "long": "1h", "slow": "1h"})
	t.Run("expiry", func(t *testing.T) { c.expires(t, s) })
	t.Run("revocation", func(t *testing.T) { c.revoked(t, s) })
	t.Run("killed before expiry", func(t *testing.T) { c.killed(t, s) })
	t.Run("killed while creating", func(t *testing.T) { c.killedCreating(t, s) })
	t.Run("throttled", func(t *testing.T) { c.throttled(t, s) })
}

func (c *cloud) expires(t *testing.T, s *harness.Server) {
	k := issueAWS(t, s, "short")
	began := time.Now()
	if k.Duration != 3 || !c.Works(k.Data.ID, k.Data.Secret) {
		t.Errorf("a lease of %d s, whose key works: %v", k.Duration, c.Works(k.Data.ID, k.Data.Secret))
	}
	c.none(t)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the user lived %s", took)
	}
	if c.Works(k.Data.ID, k.Data.Secret) {
		t.Error("the key works after its end")
	}
}

func (c *cloud) revoked(t *testing.T, s *harness.Server) {
	k := issueAWS(t, s, "long")
	run(t, s, "lease", "revoke", k.Lease)
	c.none(t)
	t.Run("as awscli sees it", func(t *testing.T) {
		k := issueAWS(t, s, "long")
		if out, err := c.whoAmI(t, k.Data.ID, k.Data.Secret); err != nil ||
			!strings.Contains(out, `:user/`+c.issuedUsers()[0]) {
			t.Errorf("lent: %v: %s", err, out)
		}
		run(t, s, "lease", "revoke", k.Lease)
		c.none(t)
		if out, err := c.whoAmI(t, k.Data.ID, k.Data.Secret); err == nil ||
			!strings.Contains(out, "InvalidClientTokenId") {
			t.Errorf("revoked: %v: %s", err, out)
		}
	})
	run(t, s, "lease", "revoke", "-prefix", "aws/")
	c.none(t)
}

// killed has one lease end while the server is dead, and another live on.
func (c *cloud) killed(t *testing.T, s *harness.Server) {
	long, short := issueAWS(t, s, "long"), issueAWS(t, s, "short")
	s.Kill()
	<-time.After(4 * time.Second)
	if !c.Works(short.Data.ID, short.Data.Secret) {
		t.Error("there is nobody to end it, and its key does not work")
	}
	s.StartServing(t)
	await.Eventually(t, "one user left", func() bool { return len(c.issuedUsers()) == 1 })
	if c.Works(short.Data.ID, short.Data.Secret) || !c.Works(long.Data.ID, long.Data.Secret) {
		t.Error("the wrong one is left")
	}
	run(t, s, "lease", "revoke", long.Lease)
	c.none(t)
}

// killedCreating kills the server after it created the user, during the creation of the key, which
// continues at AWS.
func (c *cloud) killedCreating(t *testing.T, s *harness.Server) {
	calls := c.Calls("CreateAccessKey")
	c.Inject(awsserver.Fault{Action: "CreateAccessKey", Mode: awsserver.Slow, Times: 1, Wait: 2 * time.Second})
	reading := s.Command("vault", "read", "aws/creds/slow")
	start(t, reading.Start)
	await.Eventually(t, "creating", func() bool { return c.Calls("CreateAccessKey") > calls })
	s.Kill()
	_ = reading.Wait()
	if len(c.issuedUsers()) != 1 {
		t.Fatalf("users %q", c.issuedUsers())
	}
	<-time.After(3 * time.Second)
	s.StartServing(t)
	if listed := run(t, s, "list", "sys/leases/lookup/aws/creds/slow"); len(strings.Fields(listed)) != 3 {
		t.Errorf("the lease that knows the user:\n%s", listed)
	}
	run(t, s, "lease", "revoke", "-prefix", "aws/creds/slow")
	c.none(t)
}

func (c *cloud) throttled(t *testing.T, s *harness.Server) {
	c.Inject(awsserver.Fault{Mode: awsserver.Throttle, Times: 2})
	k := issueAWS(t, s, "long")
	c.Inject(awsserver.Fault{Action: "DeleteUser", Mode: awsserver.Lost, Times: 1})
	run(t, s, "lease", "revoke", k.Lease)
	c.none(t)
}
