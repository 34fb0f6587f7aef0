//go:build integration

package system

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/test/await"
)

// A workspace is a copy of a module of deploy/terraform, and Terraform with HashiCorp's own provider.
type workspace struct {
	t      *testing.T
	folder string
	env    []string
}

// provider is HashiCorp's provider, which test/prepare.sh builds from the Go module proxy where Terraform is installed.
const provider = "../../bin/terraform-provider-vault"

// newWorkspace skips where Terraform or the provider is not there.
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
		t.Skip("HashiCorp's Terraform provider was not built: test/prepare.sh builds it, where the Go module proxy serves it")
	}
	w := &workspace{t: t, folder: t.TempDir()}
	if err := os.CopyFS(w.folder, os.DirFS("../../deploy/terraform/"+module)); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "terraformrc")
	text := "provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = \"" + filepath.ToSlash(filepath.Dir(binary)) + "\"\n  }\n  direct {}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+config, "VAULT_ADDR=http://"+address, "VAULT_TOKEN="+token, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "HOME="+t.TempDir())
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

// vars are the module's variables from now on.
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

// settles applies the module, and wants the next plan to be empty.
func (w *workspace) settles(what string) {
	w.t.Helper()
	if code, out := w.run("apply", "-auto-approve", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("%s: apply ended with %d:\n%s", what, code, out)
	}
	if code, out := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); code != 0 {
		w.t.Fatalf("%s: a plan after it ended with %d, want nothing to change:\n%s", what, code, out)
	}
}

// TestProvider runs Terraform with HashiCorp's own provider on deploy/terraform/dynamic, by the smallest policy that applies it.
func TestProvider(t *testing.T) {
	m := newModule(t)
	root := m.api
	root.SetToken(m.s.Root)
	policy, err := os.ReadFile("../../deploy/terraform/policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Sys().PutPolicy("terraform", string(policy)+"path \"aws/roles/more\" {\n  capabilities = [\"create\", \"read\", \"update\", \"delete\"]\n}\n"); err != nil {
		t.Fatal(err)
	}
	made, err := root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"terraform"}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorkspace(t, "dynamic", m.s.Address, made.Auth.ClientToken)
	vars := fields{
		"vault_aws_access_key": awsID, "vault_aws_secret_key": awsSecret, "aws_iam_endpoint": m.aws.url, "aws_sts_endpoint": m.aws.url,
		"db_connection_url": m.connectionURL(), "db_admin_password": "vault_admin_password",
	}
	change := func(what string, more fields) {
		t.Helper()
		vars = with(vars, more)
		w.vars(vars)
		w.settles(what)
	}
	change("the module", nil)
	lendAWS(t, m.s, "deploy-service")
	lend(t, m.s, "app-readonly")

	change("another region, and other policies", fields{"aws_region": "eu-west-1", "deploy_policy_arns": []string{"arn:aws:iam::123456789012:policy/a", "arn:aws:iam::123456789012:policy/b"}})

	// What is taken out of a resource is sent as null, and must not stay granted.
	for _, line := range []string{`policy_arns = ["arn:aws:iam::123456789012:policy/x"]`, ""} {
		text := "resource \"vault_aws_secret_backend_role\" \"more\" {\n  backend = vault_aws_secret_backend.aws.path\n  name = \"more\"\n  credential_type = \"iam_user\"\n  policy_document = jsonencode({ Version = \"2012-10-17\", Statement = [] })\n  " + line + "\n}\n"
		if err := os.WriteFile(filepath.Join(w.folder, "more.tf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w.settles("a role with " + line)
	}
	role, err := root.Logical().Read("aws/roles/more")
	if err != nil || role == nil || role.Data["policy_arns"] != nil {
		t.Errorf("what was removed is still granted: %+v, %v", role, err)
	}

	change("another spelling of connection_url", fields{"db_connection_url": strings.Replace(m.connectionURL(), "postgresql://", "postgres://", 1)})
	if code, out := w.run("destroy", "-auto-approve", "-input=false", "-no-color"); code != 0 {
		t.Fatalf("destroy ended with %d:\n%s", code, out)
	}
	mounts, err := root.Sys().ListMounts()
	if err != nil || mounts["aws/"] != nil || mounts["database/"] != nil {
		t.Errorf("mounts after destroy: %v, %v", mounts, err)
	}
	await.Eventually(t, "nobody is left at AWS and PostgreSQL", func() bool { return len(m.lentUsers()) == 0 })
}
