//go:build integration && unix

package database_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
)

// These tests are about problems of users of other servers; docs/lessons.md lists all of them.

// documented returns the statements of docs/databases.md for PostgreSQL: those that prepare the
// server, and those of the role.
func documented(t *testing.T) (prepare, create string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/databases.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## PostgreSQL\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); regexp.MustCompile(`^(CREATE|GRANT) .*;`).MatchString(line) {
			prepare += strings.ReplaceAll(line, "PASSWORD '…'", "PASSWORD 'of-keyturn'") + "\n"
		}
	}
	if m := regexp.MustCompile(`creation_statements="(CREATE ROLE .*)"`).FindStringSubmatch(section); m != nil {
		create = strings.ReplaceAll(m[1], `\"`, `"`)
	}
	if !strings.Contains(prepare, "CREATE ROLE keyturn") || create == "" {
		t.Fatalf("docs/databases.md has %q and %q", prepare, create)
	}
	return prepare, create
}

// TestDocumentedRoleFillsNoTable checks that the documented role creates users that can read
// without adding them to the privileges of any table, whose number is limited.
//
// https://github.com/JiRaska/open-bank-oss/issues/9689
// https://github.com/JiRaska/open-bank-oss/issues/9696
func TestDocumentedRoleFillsNoTable(t *testing.T) {
	w := open(t, enginetest.Config{})
	prepare, create := documented(t)
	w.pg.Exec(t, "postgres", prepare)
	w.Must(t, route.Write, "config/documented", fields{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "app-*", "username": "keyturn",
		"password":                "of-keyturn",
		"connection_url":          "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/postgres?sslmode=disable",
		"password_authentication": "scram-sha-256",
	})
	w.Must(t, route.Write, "roles/app-documented",
		fields{"db_name": "documented", "creation_statements": create, "default_ttl": "1h"})
	const privileges = "SELECT coalesce(sum(array_length(relacl, 1)), 0) FROM pg_class WHERE relnamespace = " +
		"'public'::regnamespace"
	before := w.pg.Int(t, "postgres", privileges)
	var leases []string
	for range 30 {
		name, password, id := w.issue("app-documented")
		if err := w.login(name, password); err != nil {
			t.Fatal(err)
		}
		leases = append(leases, id)
	}
	if n := w.pg.Int(t, "postgres", privileges); n != before {
		t.Errorf("the tables have %d privileges with thirty users, and %d without", n, before)
	}
	for _, id := range leases {
		if err := w.Revoke(id); err != nil {
			t.Error(err)
		}
	}
	if n := w.users(); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

// TestUserDroppedByHand checks that the lease of a user that was dropped by hand ends, even if the
// role's statements fail without the user.
//
// https://github.com/hashicorp/vault/issues/6058
// https://github.com/hashicorp/vault/issues/3410
func TestUserDroppedByHand(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/app-readonly", fields{"default_ttl": "1h", "terminate_sessions": true,
		"revocation_statements": `REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{{name}}"; DROP ROLE "{{name}}";`})
	name, _, id := w.issue("app-readonly")
	w.pg.Exec(t, "postgres",
		`SET ROLE vault_admin; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "`+name+`"; DROP ROLE "`+name+`"`)
	began := time.Now()
	if err := w.Revoke(id); err != nil || len(w.IDs(t)) != 0 {
		t.Errorf("revoking: %v, leases %q", err, w.IDs(t))
	}
	if took := time.Since(began); took > await.Patience {
		t.Errorf("it took %s", took)
	}
}

// TestPasswordRulesOfTheServer checks a server that refuses the passwords of the policy. The old
// password stays, the role says why, and the first attempt after a correction of the policy
// succeeds.
//
// https://github.com/hashicorp/vault/pull/28989
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/56
func TestPasswordRulesOfTheServer(t *testing.T) {
	weak := func(h *engine.Host) {
		strong := h.Password
		h.Password = func(ctx context.Context, policy string) (secret.Value, error) {
			if policy == "weak" {
				return secret.Text("abc"), nil
			}
			return strong(ctx, "")
		}
	}
	w := open(t, enginetest.Config{Host: weak})
	w.pg.Exec(t, "postgres",
		services+`CREATE ROLE plain LOGIN CREATEROLE PASSWORD 'of-keyturn'; ALTER DATABASE postgres SET session_preload_libraries = 'passwordcheck'`)
	w.Must(t, route.Write, "config/plain", fields{ // the server must receive passwords to check them
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "plain",
		"password":       "of-keyturn",
		"connection_url": "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/postgres?sslmode=disable",
	})
	role := fields{"db_name": "plain", "username": "svc", "rotation_period": "1h"}
	policy := func(name string) fields {
		return fields{"credential_config": fields{"password_policy": name}}
	}
	w.Must(t, route.Write, "static-roles/svc", role)
	before := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"].(string)
	w.Must(t, route.Write, "static-roles/svc", policy("weak"))
	for range 5 {
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "")
	}
	if a := w.Must(t, route.Read, "static-creds/svc", nil); a.Data["password"] != before ||
		w.login("svc", before) != nil {
		t.Errorf("while the server refuses: %s", a.Text)
	}
	if a := w.Must(t, route.Read, "static-roles/svc", nil); a.Data["failures"] != float64(5) ||
		a.Data["last_error"] == "" {
		t.Errorf("the role reads %s", a.Text)
	}
	w.Must(t, route.Write, "static-roles/svc", policy("strong"))
	w.Must(t, route.Write, "rotate-role/svc", nil)
	now := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"].(string)
	if err := w.login("svc", now); err != nil || now == before {
		t.Errorf("after the policy was corrected: %v", err)
	}
}

// TestIssuingWhileRootRotates checks that rotating the administrator's password disturbs no
// client.
//
// https://github.com/hashicorp/vault-plugin-secrets-azure/pull/266
func TestIssuingWhileRootRotates(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		p.static("app-svc", "svc", "1h", nil)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(op route.Op, path string) {
			for ctx.Err() == nil {
				if _, err := p.Do(op, path, nil); err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		}
		for range 3 {
			all.Go(func() { ask(route.Read, "creds/app-readonly") })
		}
		all.Go(func() { ask(route.Write, "rotate-role/app-svc") })
		for range 10 {
			p.Must(t, route.Write, "rotate-root/production", nil)
		}
		stop()
		all.Wait()
		p.given("app-svc")
		await.Eventually(t, "all revoked", func() bool { return p.number() == 0 })
	})
}

// TestFailingRevocationEndsAccess checks that a user cannot log in once its revocation has begun,
// whatever the role's statements do.
func TestFailingRevocationEndsAccess(t *testing.T) {
	for name, statements := range map[string]string{"postgresql": "SELECT 1/0", "mariadb": "SELECT * FROM no.table"} {
		t.Run(name, func(t *testing.T) {
			p := kinds[name](t)
			p.Must(t, route.Write, "roles/app-readonly",
				fields{"revocation_statements": statements, "default_ttl": "1h"})
			a := p.Must(t, route.Read, "creds/app-readonly", nil)
			user, password := a.Data["username"].(string), a.Data["password"].(string)
			if err := p.try(user, password); err != nil {
				t.Fatal(err)
			}
			if err := p.Revoke(a.Lease.ID); err == nil ||
				!strings.Contains(fault.Message(err), "cannot log in any more") {
				t.Errorf("revoking by %q: %v", statements, err)
			}
			if p.try(user, password) == nil {
				t.Error("the user can log in")
			}
			p.Must(t, route.Write, "roles/app-readonly", fields{"revocation_statements": ""})
			if err := p.Revoke(a.Lease.ID); err != nil || p.number() != 0 {
				t.Errorf("without them: %v, %d users left", err, p.number())
			}
		})
	}
}
