//go:build integration

package system

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
	"github.com/keyturn/keyturn/test/tlstest"
)

type fields = map[string]any

// A module sends the requests of HashiCorp's Terraform provider, versions 3.25 and 5.11, for the
// module in deploy/terraform/dynamic and for static roles, with the provider's client.
type module struct {
	t   *testing.T
	api *api.Client // with the child token that the provider creates
	s   *harness.Server
	aws *cloud
	pg  *pgtest.Server
}

func newModule(t *testing.T) *module {
	t.Helper()
	m := &module{t: t, aws: startCloud(t), pg: pgtest.Start(t, pgtest.Options{})}
	m.pg.Exec(t, "postgres", `CREATE ROLE vault_admin LOGIN CREATEROLE PASSWORD 'vault_admin_password'`)
	m.pg.Exec(t, "postgres", `CREATE TABLE orders (id int PRIMARY KEY)`)
	m.pg.Exec(t, "postgres", `GRANT ALL ON ALL TABLES IN SCHEMA public TO vault_admin WITH GRANT OPTION`)
	m.pg.Exec(t, "postgres", `CREATE ROLE service LOGIN PASSWORD 'first'`)
	m.pg.Exec(t, "postgres", `GRANT service TO vault_admin WITH ADMIN OPTION`)
	m.aws.AddUser(awsserver.Account, "deployer")
	m.s = harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	c := api.DefaultConfig()
	c.Address = "http://" + m.s.Address
	var err error
	if m.api, err = api.NewClient(c); err != nil {
		t.Fatal(err)
	}
	m.api.SetToken(m.s.Root)
	// The requests of configuring the provider.
	if _, err := m.api.Auth().Token().LookupSelf(); err != nil {
		t.Fatal(err)
	}
	renewable := false
	child, err := m.api.Auth().Token().Create(
		&api.TokenCreateRequest{DisplayName: "terraform", TTL: "1200s", ExplicitMaxTTL: "1200s",
			Renewable: &renewable})
	if err != nil {
		t.Fatal(err)
	}
	m.api.SetToken(child.Auth.ClientToken)
	st, err := m.api.Sys().SealStatus()
	if err != nil || !regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`).MatchString(st.Version) {
		t.Fatalf("the provider panics at the version %q: %v", st.Version, err)
	}
	return m
}

// write creates or updates a resource.
func (m *module) write(path string, data fields) {
	m.t.Helper()
	if _, err := m.api.Logical().Write(path, data); err != nil {
		m.t.Fatalf("writing %s: %v", path, err)
	}
}

// plan reads a resource. want are the values that the provider compares with its configuration.
func (m *module) plan(path string, want fields) {
	m.t.Helper()
	secret, err := m.api.Logical().Read(path)
	if err != nil || secret == nil {
		m.t.Fatalf("reading %s: %v, %v", path, secret, err)
	}
	text, err := json.Marshal(secret.Data)
	if err != nil {
		m.t.Fatal(err)
	}
	var got fields
	if err := json.Unmarshal(text, &got); err != nil {
		m.t.Fatal(err)
	}
	if nested, ok := got["connection_details"].(fields); ok {
		maps.Copy(got, nested)
	}
	maps.DeleteFunc(got, func(name string, _ any) bool { _, compared := want[name]; return !compared })
	if text, err = json.Marshal(want); err != nil {
		m.t.Fatal(err)
	}
	var plain fields
	if err := json.Unmarshal(text, &plain); err != nil {
		m.t.Fatal(err)
	}
	maps.DeleteFunc(plain, func(_ string, v any) bool { return v == "absent" })
	if d := cmp.Diff(plain, got); d != "" {
		m.t.Errorf("%s: a plan is not empty (-written +read)\n%s", path, d)
	}
}

func (m *module) gone(path string) {
	m.t.Helper()
	if _, err := m.api.Logical().Delete(path); err != nil {
		m.t.Fatalf("deleting %s: %v", path, err)
	}
	if secret, err := m.api.Logical().Read(path); err != nil || secret != nil {
		m.t.Errorf("%s after its deletion: %v, %v", path, secret, err)
	}
}

// mounted reads a mount.
func (m *module) mounted(path, kind, description string, ttl, most int) {
	m.t.Helper()
	got, err := m.api.Sys().GetMount(path)
	if err != nil {
		m.t.Fatal(err)
	}
	if got.Type != kind || got.Description != description || got.Config.DefaultLeaseTTL != ttl ||
		got.Config.MaxLeaseTTL != most ||
		got.Accessor == "" || got.Local || got.SealWrap || got.ExternalEntropyAccess || len(got.Options) != 0 ||
		len(got.Config.AuditNonHMACRequestKeys) != 0 || len(got.Config.AllowedManagedKeys) != 0 {
		m.t.Errorf("mount %s: %+v", path, got)
	}
}

const guideCreation = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`

func (m *module) connectionURL() string {
	return "postgresql://{{username}}:{{password}}@" + m.pg.Addr() + "/postgres"
}

// TestTerraform creates, plans, changes, plans and destroys, with active leases.
func TestTerraform(t *testing.T) {
	t.Parallel()
	m := newModule(t)
	for _, part := range []struct {
		name string
		run  func(*module)
	}{
		{"mounts", (*module).mounts}, {"aws root", (*module).awsRoot}, {"aws roles", (*module).awsRoles},
		{"aws static role", (*module).awsStatic},
		{"database connection", (*module).connection}, {"database roles", (*module).databaseRoles},
		{"database credentials", (*module).databaseCredentials}, {"database static role", (*module).databaseStatic},
		{"policy", (*module).policy}, {"destroy", (*module).destroy},
	} {
		t.Run(part.name, func(t *testing.T) { on := *m; on.t = t; part.run(&on) })
	}
}

func (m *module) mounts() {
	sys := m.api.Sys()
	if err := sys.Mount("aws", &api.MountInput{Type: "aws",
		Config: api.MountConfigInput{DefaultLeaseTTL: "3600s", MaxLeaseTTL: "14400s"}}); err != nil {
		m.t.Fatal(err)
	}
	m.mounted("aws", "aws", "", 3600, 14400)
	if err := sys.Mount("database",
		&api.MountInput{Type: "database", Config: api.MountConfigInput{DefaultLeaseTTL: "0s", MaxLeaseTTL: "0s"},
			Options: map[string]string{}}); err != nil {
		m.t.Fatal(err)
	}
	m.mounted("database", "database", "", 0, 0) // computed in the resource
	text := "for deployments"
	for _, change := range []struct {
		description *string
		ttl, most   string
		want        [2]int
	}{{&text, "1800s", "14400s", [2]int{1800, 14400}}, {new(string), "3600s", "14400s", [2]int{3600, 14400}}} {
		if err := sys.TuneMount("aws",
			api.MountConfigInput{Description: change.description, DefaultLeaseTTL: change.ttl,
				MaxLeaseTTL: change.most}); err != nil {
			m.t.Fatal(err)
		}
		m.mounted("aws", "aws", *change.description, change.want[0], change.want[1])
	}
	// An update of vault_mount writes what it has read, and empty options.
	if err := sys.TuneMount("database",
		api.MountConfigInput{DefaultLeaseTTL: "0s", MaxLeaseTTL: "0s", Options: map[string]string{}}); err != nil {
		m.t.Fatal(err)
	}
	m.mounted("database", "database", "", 0, 0)
	if got, err := sys.GetMount("nowhere"); err == nil || !strings.Contains(err.Error(), "No secret engine mount at") {
		m.t.Errorf("a mount that is not there: %+v, %v", got, err)
	}
}

func (m *module) awsRoot() {
	pair := fields{"access_key": awsID, "secret_key": awsSecret, "region": "us-east-1", "iam_endpoint": m.aws.url,
		"sts_endpoint": m.aws.url}
	with := func(more fields) fields {
		out := maps.Clone(pair)
		maps.Copy(out, more)
		return out
	}
	m.write("aws/config/root", pair)
	read := fields{
		"access_key": awsID, "secret_key": "absent", "region": "us-east-1", "iam_endpoint": m.aws.url,
		"sts_endpoint": m.aws.url,
		"sts_region":   "absent", "sts_fallback_endpoints": "absent", "sts_fallback_regions": "absent",
	}
	m.plan("aws/config/root", read)
	// Version 5.11 with a server of version 1.19 supports fallbacks, in their order.
	more := fields{"sts_region": "eu-west-1", "sts_fallback_endpoints": []string{m.aws.url + "/b", m.aws.url + "/a"},
		"sts_fallback_regions": []string{"eu-west-1", "eu-central-1"}}
	m.write("aws/config/root", with(more))
	maps.Copy(read, more)
	m.plan("aws/config/root", read)
	m.write("aws/config/root",
		with(fields{"sts_region": "", "sts_fallback_endpoints": []string{}, "sts_fallback_regions": []string{},
			"propagation_checks": 0}))
}

func (m *module) awsRoles() {
	arn := func(name string) string { return "arn:aws:iam::123456789012:policy/" + name }
	none := fields{
		"policy_arns": nil, "policy_document": "", "role_arns": nil, "iam_groups": nil, "permissions_boundary_arn": "",
		"user_path": "", "iam_tags": nil,
		"default_sts_ttl": 0, "max_sts_ttl": 0, "external_id": "absent", "session_tags": "absent",
	}
	plan := func(name string, more fields) {
		m.t.Helper()
		want := maps.Clone(none)
		maps.Copy(want, more)
		m.plan("aws/roles/"+name, want)
	}
	// The first write has the type and the fields that are not empty.
	m.write("aws/roles/deploy-service",
		fields{"credential_type": "iam_user", "policy_arns": []string{arn("DeployAccess")}})
	plan("deploy-service", fields{"credential_type": "iam_user", "policy_arns": []string{arn("DeployAccess")}})
	const document = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": []\n}"
	changed := fields{
		"credential_type": "iam_user", "policy_arns": []string{arn("b"), arn("a")}, "policy_document": document,
		"iam_groups":               []string{"z", "a"},
		"permissions_boundary_arn": arn("bound"), "user_path": "/svc/", "iam_tags": fields{"team": "payments"},
	}
	m.write("aws/roles/deploy-service", changed)
	secret, err := m.api.Logical().Read("aws/roles/deploy-service")
	if err != nil {
		m.t.Fatal(err)
	}
	var kept, meant any // the provider compares policies as JSON
	if err := json.Unmarshal([]byte(secret.Data["policy_document"].(string)), &kept); err != nil ||
		json.Unmarshal([]byte(document), &meant) != nil || !cmp.Equal(kept, meant) {
		m.t.Errorf("policy_document: %v, %v", secret.Data["policy_document"], err)
	}
	changed["policy_document"] = secret.Data["policy_document"]
	plan("deploy-service", changed)
	// A removed field is written as empty.
	m.write("aws/roles/deploy-service", fields{
		"credential_type": "iam_user", "policy_arns": []string{arn("DeployAccess")}, "policy_document": "",
		"iam_groups": []string{}, "permissions_boundary_arn": "", "user_path": "", "iam_tags": fields{},
	})
	plan("deploy-service", fields{"credential_type": "iam_user", "policy_arns": []string{arn("DeployAccess")}})

	role := "arn:aws:iam::123456789012:role/ci"
	m.write("aws/roles/ci",
		fields{"credential_type": "assumed_role", "role_arns": []string{role}, "default_sts_ttl": "3600",
			"max_sts_ttl": "7200", "external_id": "x", "session_tags": fields{"a": "b"}})
	plan("ci", fields{"credential_type": "assumed_role", "role_arns": []string{role}, "default_sts_ttl": 3600,
		"max_sts_ttl": 7200, "external_id": "x", "session_tags": fields{"a": "b"}})
	m.write("aws/roles/ci",
		fields{"credential_type": "assumed_role", "default_sts_ttl": "1800", "max_sts_ttl": "7200", "external_id": "",
			"session_tags": fields{}})
	plan("ci", fields{"credential_type": "assumed_role", "role_arns": []string{role}, "default_sts_ttl": 1800,
		"max_sts_ttl": 7200})
	m.gone("aws/roles/ci")
}

func (m *module) awsStatic() {
	path := "aws/static-roles/deployer"
	m.write(path, fields{"name": "deployer", "username": "deployer", "rotation_period": 3600})
	want := fields{"name": "deployer", "username": "deployer", "rotation_period": 3600, "assume_role_arn": "absent",
		"assume_role_session_name": "absent", "external_id": "absent"}
	m.plan(path, want)
	want["rotation_period"] = 7200
	m.write(path, fields{"name": "deployer", "username": "deployer", "rotation_period": 7200})
	m.plan(path, want)
	if n := len(m.aws.Keys(awsserver.Account, "deployer")); n != 1 {
		m.t.Errorf("the user has %d keys", n)
	}
	m.gone(path)
}

func (m *module) connection() {
	path := "database/config/production"
	data := fields{
		"plugin_name": "postgresql-database-plugin", "connection_url": m.connectionURL(), "username": "vault_admin",
		"password":         "vault_admin_password",
		"disable_escaping": false, "max_open_connections": 2, "max_idle_connections": 0,
		"max_connection_lifetime": "0s", "username_template": "",
		"verify_connection": true, "allowed_roles": "app-readonly,app-readwrite",
		"password_authentication": "password",
	}
	m.write(path, data)
	read := fields{
		"plugin_name": "postgresql-database-plugin", "connection_url": m.connectionURL(), "username": "vault_admin",
		"password":      "absent",
		"allowed_roles": []string{"app-readonly", "app-readwrite"}, "root_credentials_rotate_statements": []string{},
		"password_policy": "", "plugin_version": "",
		"max_open_connections": 2, "max_idle_connections": "absent", "max_connection_lifetime": "absent",
		"username_template": "absent", "disable_escaping": "absent",
		"password_authentication": "password", "tls_ca": "absent", "tls_certificate": "absent",
		"private_key": "absent", "self_managed": "absent",
	}
	m.plan(path, read)
	// An update sends no password, because it may have been rotated.
	delete(data, "password")
	maps.Copy(data, fields{
		"max_open_connections": 5, "max_connection_lifetime": "60s", "allowed_roles": "*",
		"root_rotation_statements": []string{`ALTER ROLE "{{name}}" PASSWORD '{{password}}'`},
	})
	m.write(path, data)
	maps.Copy(read, fields{
		"max_open_connections": 5, "max_connection_lifetime": "1m0s", "allowed_roles": []string{"*"},
		"root_credentials_rotate_statements": []string{`ALTER ROLE "{{name}}" PASSWORD '{{password}}'`},
	})
	m.plan(path, read)
	data["allowed_roles"], data["max_connection_lifetime"] = "app-readonly,app-readwrite,service", "0s"
	m.write(path, data)
	read["allowed_roles"], read["max_connection_lifetime"] = []string{"app-readonly", "app-readwrite",
		"service"}, "absent"
	m.plan(path, read)
}

func (m *module) databaseRoles() {
	path := "database/roles/app-readonly"
	data := fields{
		"db_name": "production", "creation_statements": []string{guideCreation},
		"revocation_statements": []string{`DROP ROLE IF EXISTS "{{name}}";`},
		"default_ttl":           1800, "max_ttl": 7200,
	}
	m.write(path, data)
	read := maps.Clone(data)
	maps.Copy(read,
		fields{"rollback_statements": []string{}, "renew_statements": []string{}, "credential_type": "password"})
	m.plan(path, read)
	// Two statements in their order, without TTLs.
	changed := fields{"db_name": "production",
		"creation_statements": []string{strings.SplitAfter(guideCreation, ";")[0], "SELECT 1;"}, "default_ttl": 0,
		"max_ttl": 0, "revocation_statements": []string{}}
	m.write(path, changed)
	maps.Copy(read, changed)
	m.plan(path, read)
	m.write(path, data)
	maps.Copy(read, data)
	m.plan(path, read)
}

// databaseCredentials reads back what was written of them, but for secrets.
func (m *module) databaseCredentials() {
	files := tlstest.Certificates(m.t)
	key, err := os.ReadFile(files.Key)
	if err != nil {
		m.t.Fatal(err)
	}
	for kind, config := range map[string]fields{
		"rsa_private_key": {"key_bits": "3072", "format": "pkcs8"},
		"client_certificate": {"ca_cert": files.PEM, "key_type": "rsa", "key_bits": "2048", "signature_bits": "384",
			"common_name_template": "{{.RoleName}}-{{random 12}}"},
	} {
		path := "database/roles/by-" + kind
		data := fields{"db_name": "production",
			"creation_statements": []string{`CREATE ROLE "{{name}}" LOGIN; COMMENT ON ROLE "{{name}}" IS '{{public_key}}';`}, "max_ttl": 3600, "credential_type": kind}
		written := maps.Clone(config)
		if kind == "client_certificate" {
			written["ca_private_key"] = string(key)
		}
		m.write(path, with(data, fields{"credential_config": written}))
		m.plan(path, with(data, fields{"credential_config": config}))
		m.gone(path)
	}
	m.write("database/roles/by-policy",
		fields{"db_name": "production", "creation_statements": []string{guideCreation}, "credential_type": "password",
			"credential_config": fields{"password_policy": "absent"}})
	m.plan("database/roles/by-policy",
		fields{"credential_type": "password", "credential_config": fields{"password_policy": "absent"}})
	m.gone("database/roles/by-policy")
}

func with(a, b fields) fields {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func (m *module) databaseStatic() {
	path := "database/static-roles/service"
	data := fields{"username": "service", "db_name": "production", "rotation_statements": []string{},
		"rotation_period": 3600}
	m.write(path, data)
	read := maps.Clone(data)
	maps.Copy(read, fields{"rotation_schedule": "absent", "rotation_window": "absent", "credential_type": "password",
		"skip_import_rotation": "absent"})
	m.plan(path, read)
	// A schedule in place of the period; a statement.
	changed := fields{"username": "service", "db_name": "production",
		"rotation_statements": []string{`ALTER ROLE "{{name}}" PASSWORD '{{password}}';`},
		"rotation_schedule":   "0 0 * * SAT", "rotation_window": 3600}
	m.write(path, changed)
	read["rotation_period"] = "absent"
	maps.Copy(read, changed)
	m.plan(path, read)
	m.gone(path)
}

func (m *module) policy() {
	text := "path \"aws/creds/deploy-service\" {\n  capabilities = [\"read\"]\n}\n# the end\n"
	for _, rules := range []string{text,
		text + "path \"database/creds/app-readonly\" {\n  capabilities = [\"read\"]\n}\n"} {
		if err := m.api.Sys().PutPolicy("deploy-service", rules); err != nil {
			m.t.Fatal(err)
		}
		if got, err := m.api.Sys().GetPolicy("deploy-service"); err != nil || got != rules {
			m.t.Errorf("the policy reads %q, %v", got, err)
		}
	}
}

// destroy destroys the module in the order of its dependencies, while users are issued.
func (m *module) destroy() {
	issueAWS(m.t, m.s, "deploy-service")
	issue(m.t, m.s, "app-readonly")
	if len(m.issuedUsers()) != 2 {
		m.t.Fatalf("issued %q", m.issuedUsers())
	}
	if err := m.api.Sys().DeletePolicy("deploy-service"); err != nil {
		m.t.Fatal(err)
	}
	if got, err := m.api.Sys().GetPolicy("deploy-service"); err != nil || got != "" {
		m.t.Errorf("the policy after its deletion: %q, %v", got, err)
	}
	m.gone("aws/roles/deploy-service")
	m.gone("database/roles/app-readonly")
	m.gone("database/config/production")
	for _, path := range []string{"database", "aws"} {
		if err := m.api.Sys().Unmount(path); err != nil {
			m.t.Errorf("unmounting %s: %v", path, err)
		}
		if got, err := m.api.Sys().GetMount(path); err == nil {
			m.t.Errorf("mount %s after its end: %+v", path, got)
		}
	}
	await.Eventually(m.t, "nobody is left at AWS and PostgreSQL", func() bool { return len(m.issuedUsers()) == 0 })
}

// issuedUsers returns the users at AWS and PostgreSQL.
func (m *module) issuedUsers() []string {
	names := slices.DeleteFunc(m.aws.issuedUsers(), func(name string) bool { return name == "deployer" })
	if roles(m.t, m.pg) > 0 {
		names = append(names, "of PostgreSQL")
	}
	return names
}
