//go:build integration

package system

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// A workspace is a copy of a module, and Terraform with HashiCorp's own provider.
type workspace struct {
	t      *testing.T
	folder string
	env    []string
}

// provider is HashiCorp's provider. test/prepare.sh builds it from the Go module proxy if
// Terraform is installed.
const provider = "../../bin/terraform-provider-vault"

const modules = "../../deploy/terraform/"

// newWorkspace skips the test if Terraform or the provider is missing.
func newWorkspace(t *testing.T, module, address, token string) *workspace {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("terraform is not installed")
	}
	binary, err := filepath.Abs(provider)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("HashiCorp's Terraform provider was not built: test/prepare.sh builds it, where the Go module proxy " +
			"serves it")
	}
	w := &workspace{t: t, folder: t.TempDir()}
	if err := os.CopyFS(w.folder, os.DirFS(module)); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "terraformrc")
	text := "provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = \"" +
		filepath.ToSlash(filepath.Dir(binary)) + "\"\n  }\n  direct {}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+config, "VAULT_ADDR=http://"+address, "VAULT_TOKEN="+token,
		"TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "HOME="+t.TempDir())
	return w
}

// run runs Terraform and returns its exit code and what it printed.
func (w *workspace) run(args ...string) (int, string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "terraform", args...)
	cmd.Dir, cmd.Env = w.folder, w.env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		w.t.Fatalf("terraform %s: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// vars sets the module's variables.
func (w *workspace) vars(values fields) {
	w.t.Helper()
	text, err := json.Marshal(values)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.folder, "terraform.tfvars.json"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// edit changes main.tf; old must be in it.
func (w *workspace) edit(old, changed string) {
	w.t.Helper()
	file := filepath.Join(w.folder, "main.tf")
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), old) {
		w.t.Fatalf("%q is not in the module: %v", old, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, changed, 1)), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// destroyed destroys everything of the module.
func (w *workspace) destroyed() {
	w.t.Helper()
	if code, out := w.run("destroy", "-auto-approve", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("destroy ended with %d:\n%s", code, out)
	}
}

// settles applies the module and checks that the next plan is empty.
func (w *workspace) settles(what string) {
	w.t.Helper()
	if code, out := w.run("apply", "-auto-approve", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("%s: apply ended with %d:\n%s", what, code, out)
	}
	if code, out := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("%s: a plan after it ended with %d, want nothing to change:\n%s", what, code, out)
	}
}

// TestProvider runs Terraform with HashiCorp's provider on deploy/terraform/dynamic, with the
// smallest policy that can apply it.
func TestProvider(t *testing.T) {
	m := newModule(t)
	root := m.api
	root.SetToken(m.s.Root)
	policy, err := os.ReadFile("../../deploy/terraform/policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Sys().PutPolicy("terraform",
		string(policy)+
			"path \"aws/roles/more\" {\n  capabilities = [\"create\", \"read\", \"update\", \"delete\"]\n}\n"); err != nil {
		t.Fatal(err)
	}
	made, err := root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"terraform"}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkspace(t, modules+"dynamic", m.s.Address, made.Auth.ClientToken)
	vars := fields{
		"vault_aws_access_key": awsID, "vault_aws_secret_key": awsSecret, "aws_iam_endpoint": m.aws.url,
		"aws_sts_endpoint":  m.aws.url,
		"db_connection_url": m.connectionURL(), "db_admin_password": "vault_admin_password",
	}
	change := func(what string, more fields) {
		t.Helper()
		vars = with(vars, more)
		w.vars(vars)
		w.settles(what)
	}
	change("the module", nil)
	issueAWS(t, m.s, "deploy-service")
	issue(t, m.s, "app-readonly")

	change("another region, and other policies", fields{"aws_region": "eu-west-1",
		"deploy_policy_arns": []string{"arn:aws:iam::123456789012:policy/a", "arn:aws:iam::123456789012:policy/b"}})

	// A removed argument is sent as null, and must not stay granted.
	for _, line := range []string{`policy_arns = ["arn:aws:iam::123456789012:policy/x"]`, ""} {
		text := "resource \"vault_aws_secret_backend_role\" \"more\" {\n  backend = " +
			"vault_aws_secret_backend.aws.path\n  name = \"more\"\n  credential_type = \"iam_user\"\n  " +
			"policy_document = jsonencode({ Version = \"2012-10-17\", Statement = [] })\n  " + line + "\n}\n"
		if err := os.WriteFile(filepath.Join(w.folder, "more.tf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.settles("a role with " + line)
	}
	role, err := root.Logical().Read("aws/roles/more")
	if err != nil || role == nil || role.Data["policy_arns"] != nil {
		t.Errorf("what was removed is still granted: %+v, %v", role, err)
	}

	change("another spelling of connection_url",
		fields{"db_connection_url": strings.Replace(m.connectionURL(), "postgresql://", "postgres://", 1)})
	w.destroyed()
	mounts, err := root.Sys().ListMounts()
	if err != nil || mounts["aws/"] != nil || mounts["database/"] != nil {
		t.Errorf("mounts after destroy: %v, %v", mounts, err)
	}
	await.Eventually(t, "nobody is left at AWS and PostgreSQL", func() bool { return len(m.issuedUsers()) == 0 })
}

// TestProviderGuide applies the guide's module unchanged, except for declared variables, another
// database address, and the endpoints of AWS.
func TestProviderGuide(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	w := newWorkspace(t, "testdata/terraform/guide", m.s.Address, m.s.Root)
	w.vars(fields{"vault_aws_access_key": awsID, "vault_aws_secret_key": awsSecret, "db_admin_username": "vault_admin",
		"db_admin_password": "vault_admin_password"})
	w.edit("db.example.com:5432/myapp", m.pg.Addr()+"/postgres")
	w.edit("region = \"us-east-1\"\n",
		"region = \"us-east-1\"\niam_endpoint = \""+m.aws.url+"\"\nsts_endpoint = \""+m.aws.url+"\"\n")
	w.settles("the guide's module")
	issueAWS(t, m.s, "deploy-service")
	issue(t, m.s, "app-readonly")

	w.edit("default_ttl = 1800", "default_ttl = 900")
	w.edit("default_lease_ttl_seconds = 3600", "default_lease_ttl_seconds = 1800")
	w.settles("shorter TTLs")
	w.edit("policy_arns = [\n\"arn:aws:iam::123456789012:policy/DeployAccess\"\n]",
		"policy_document = jsonencode({ Version = \"2012-10-17\", Statement = [] })")
	w.settles("a document in place of policy_arns")
	root := m.api
	root.SetToken(m.s.Root)
	role, err := root.Logical().Read("aws/roles/deploy-service")
	if err != nil || role == nil || role.Data["policy_arns"] != nil {
		t.Errorf("policy_arns are still granted: %+v, %v", role, err)
	}

	// This version of the provider sends the password with every change. After a rotation that is
	// refused and changes nothing; without the password, the same change is accepted.
	if _, err := root.Logical().Write("database/rotate-root/production", nil); err != nil {
		t.Fatal(err)
	}
	w.edit("\"app-readwrite\"]", "\"app-readwrite\", \"other\"]")
	if code, out := w.run("apply", "-auto-approve", "-input=false", "-no-color"); code != 1 ||
		!strings.Contains(out, "rotate-root has replaced") {
		t.Errorf("an apply with the old password ended with %d:\n%s", code, out)
	}
	issue(t, m.s, "app-readonly")
	w.edit("password = var.db_admin_password\n", "")
	w.settles("the same without the password")

	w.destroyed()
	await.Eventually(t, "nobody is left at AWS and PostgreSQL", func() bool { return len(m.issuedUsers()) == 0 })
}

// TestProviderMounts checks that the options of a mount, and the lists of a token role in any
// order, are read as they were written.
func TestProviderMounts(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	w := newWorkspace(t, "testdata/terraform/mounts", s.Address, s.Root)
	w.settles("mounts and a token role")
	w.edit("# options of plain", "options = { version = \"2\" }")
	w.settles("a mount that became versioned")
	w.edit("allowed_policies       = [\"zebra\", \"alpha\", \"mid\"]", "allowed_policies       = [\"mid\"]")
	w.edit("disallowed_policies    = [\"zz\", \"default\", \"aa\"]", "")
	w.settles("lists that were shortened and taken out")
	w.destroyed()
}

// TestProviderRotation applies deploy/terraform/rotation. A rotation of the key is no change for
// Terraform.
func TestProviderRotation(t *testing.T) {
	t.Parallel()
	vendor := keyserver.New(keyserver.Config{AdminToken: "admin-token"})
	web := httptest.NewServer(vendor.Handler())
	t.Cleanup(web.Close)
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	root := s.Client(s.Root)
	if root.Must(t, "GET", "sys/mounts", nil, 200).Get("data", "rotation/") == nil {
		root.Must(t, "POST", "sys/mounts/rotation", object{"type": "rotation"}, 204)
	}
	w := newWorkspace(t, modules+"rotation", s.Address, s.Root)
	vars := fields{"params": fields{"url": web.URL}, "admin": fields{"token": "admin-token"}}
	w.vars(vars)
	w.settles("the module")
	await.Eventually(t, "the key is published", func() bool {
		a, err := root.Do("GET", "static/data/stripe/production", nil)
		return err == nil && a.Status == 200
	})
	w.vars(with(vars, fields{"rotation_period": 5184000}))
	w.settles("another period, after a turn")
	w.destroyed()
	if n := len(vendor.Live()); n != 1 {
		t.Errorf("%d keys live on at the vendor, want the one in use", n)
	}
}
