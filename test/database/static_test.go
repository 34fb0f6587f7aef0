//go:build integration && unix

package database_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// given reads what a static role gives out, and logs in with it.
func (w *world) given(role string) (name, password string) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, "static-creds/"+role, nil)
	name, password = a.Data["username"].(string), a.Data["password"].(string)
	if err := w.login(name, password); err != nil {
		w.t.Errorf("logging in as %s: %v", name, err)
	}
	return name, password
}

const services = `
CREATE ROLE svc LOGIN PASSWORD 'before';
CREATE ROLE svc_b LOGIN PASSWORD 'before';
CREATE ROLE "Odd-name.1" LOGIN PASSWORD 'before';
CREATE ROLE locked NOLOGIN;
GRANT SELECT ON public.accounts TO svc, svc_b, "Odd-name.1";`

// A user of people's turns by itself, by the administrator with CREATEROLE alone.
func TestStaticRole(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", services)
	w.Must(t, route.Write, "static-roles/app-svc", fields{"db_name": "production", "username": "svc", "rotation_period": "5s"})
	if err := w.login("svc", "before"); err == nil {
		t.Error("the password from before works")
	}
	_, first := w.given("app-svc")
	w.within(15*time.Second, "rotated", func() bool {
		a := w.Must(t, route.Read, "static-creds/app-svc", nil)
		return a.Data["password"] != first
	})
	if err := w.login("svc", first); err == nil {
		t.Error("the first password works after a turn")
	}
	w.given("app-svc")

	w.Must(t, route.Write, "static-roles/app-odd", fields{
		"db_name": "production", "username": "Odd-name.1", "rotation_period": "1h",
		"rotation_statements": `ALTER USER "{{name}}" WITH PASSWORD '{{password}}';`,
	})
	w.given("app-odd")
	w.Refused(t, route.Write, "static-roles/app-absent", fields{"db_name": "production", "username": "absent", "rotation_period": "1h"}, fault.Upstream, "there is no user absent")
	w.Must(t, route.Write, "static-roles/app-locked", fields{"db_name": "production", "username": "locked", "rotation_period": "1h"})
	if a := w.Must(t, route.Read, "static-roles/app-locked", nil); len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "no LOGIN") {
		t.Errorf("warnings %q, want one of NOLOGIN", a.Warnings)
	}
}

// Two users take turns, and who was given one of them keeps it through the next turn.
func TestAlternatingUsers(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", services)
	w.Must(t, route.Write, "static-roles/app-svc", fields{"db_name": "production", "username": "svc", "alternate_username": "svc_b", "rotation_period": "1h"})
	name, password := w.given("app-svc")
	for range 4 {
		w.Must(t, route.Write, "rotate-role/app-svc", nil)
		next, fresh := w.given("app-svc")
		if next == name {
			t.Errorf("%s was turned while it was in use", name)
		}
		if err := w.login(name, password); err != nil {
			t.Errorf("%s was cut off: %v", name, err)
		}
		name, password = next, fresh
	}
}

// The administrator's password changes, what it lent lives on, and the old one is refused.
func TestRotateRoot(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", "ALTER ROLE vault_admin CREATEROLE")
	name, password, _ := w.lend("app-readonly")
	w.Must(t, route.Write, "rotate-root/production", nil)
	if err := w.login("vault_admin", "vault_admin_password"); err == nil {
		t.Error("the administrator's old password works")
	}
	if err := w.login(name, password); err != nil {
		t.Errorf("a user lent before: %v", err)
	}
	w.lend("app-readonly")
	w.Refused(t, route.Write, "config/production", fields{"password": "vault_admin_password"}, fault.Invalid, "rotate-root has replaced")
	w.Reopen(t)
	w.lend("app-readonly")
	w.within(20*time.Second, "all revoked by the new password", func() bool { return w.users() == 0 })
}

// A user changes its own password, and nobody else knows one.
func TestSelfManaged(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", services)
	w.Must(t, route.Write, "config/own", fields{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "self_managed": true,
		"connection_url": "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/postgres?sslmode=disable",
	})
	w.Must(t, route.Write, "static-roles/app-svc", fields{"db_name": "own", "username": "svc", "self_managed_password": "before", "rotation_period": "1h"})
	_, first := w.given("app-svc")
	w.Must(t, route.Write, "rotate-role/app-svc", nil)
	if _, second := w.given("app-svc"); second == first || first == "before" {
		t.Error("it was not rotated")
	}
}
