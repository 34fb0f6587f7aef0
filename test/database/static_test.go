//go:build integration && unix

package database_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/test/await"
)

const services = `
CREATE ROLE svc LOGIN PASSWORD 'before';
CREATE ROLE svc_b LOGIN PASSWORD 'before';
CREATE ROLE lone LOGIN PASSWORD 'before';
CREATE ROLE "Odd-name.1" LOGIN PASSWORD 'before';
CREATE ROLE locked NOLOGIN;
GRANT SELECT ON public.accounts TO svc, svc_b, lone, "Odd-name.1";`

// each runs a test for every kind of database.
func each(t *testing.T, f func(t *testing.T, p *place)) {
	for name, place := range kinds {
		t.Run(name, func(t *testing.T) { f(t, place(t)) })
	}
}

// TestStaticRole checks that an existing user is rotated by an administrator with the fewest
// privileges.
func TestStaticRole(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		p.static("app-svc", "svc", "5s", nil)
		if err := p.try("svc", "before"); err == nil {
			t.Error("the password from before works")
		}
		_, first := p.given("app-svc")
		await.Eventually(t, "rotated", func() bool {
			a := p.Must(t, route.Read, "static-creds/app-svc", nil)
			return a.Data["password"] != first
		})
		if err := p.try("svc", first); err == nil {
			t.Error("the first password works after a turn")
		}
		p.given("app-svc")
		p.static("app-odd", "Odd-name.1", "1h", p.statements)
		p.given("app-odd")
		p.Must(t, route.Write, "rotate-role/app-odd", nil)
		p.given("app-odd")
		p.Refused(t, route.Write, "static-roles/app-absent",
			fields{"db_name": "production", "username": "absent", "rotation_period": "1h"}, fault.Upstream,
			"there is no ")
	})
}

// TestStaticRoleWithoutLogin checks the error for a user that may not log in.
func TestStaticRoleWithoutLogin(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", services)
	w.Must(t, route.Write, "static-roles/app-locked",
		fields{"db_name": "production", "username": "locked", "rotation_period": "1h"})
	if a := w.Must(t, route.Read, "static-roles/app-locked", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "no LOGIN") {
		t.Errorf("warnings %q, want one of NOLOGIN", a.Warnings)
	}
}

// TestAlternatingUsers checks a role with two users: the credentials of one stay valid through the
// next rotation.
func TestAlternatingUsers(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		p.static("app-svc", "svc", "1h", fields{"alternate_username": "svc_b"})
		name, password := p.given("app-svc")
		for range 4 {
			p.Must(t, route.Write, "rotate-role/app-svc", nil)
			next, fresh := p.given("app-svc")
			if next == name {
				t.Errorf("%s was turned while it was in use", name)
			}
			if err := p.try(name, password); err != nil {
				t.Errorf("%s was cut off: %v", name, err)
			}
			name, password = next, fresh
		}
	})
}

// TestRotateRoot checks that the administrator's password is rotated, its issued users keep
// working, and the old password is refused.
func TestRotateRoot(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		asked := time.Now()
		name, password, _ := p.issue("app-readonly")
		p.static("app-svc", "svc", "1h", nil)
		p.Must(t, route.Write, "rotate-root/production", nil)
		if err := p.try(p.admin, p.adminPassword); err == nil || strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("the administrator's old password works: %v", err)
		}
		if err := await.Within(asked.Add(3*time.Second), func() error { return p.try(name, password) }); err != nil {
			t.Errorf("a user issued before: %v", err)
		}
		p.issue("app-readonly")
		p.Must(t, route.Write, "rotate-role/app-svc", nil)
		p.given("app-svc")
		p.Refused(t, route.Write, "config/production", fields{"password": p.adminPassword}, fault.Invalid,
			"rotate-root has replaced")
		p.Reopen(t)
		p.issue("app-readonly")
		p.Must(t, route.Write, "rotate-root/production", nil)
		await.Eventually(t, "all revoked by the new password", func() bool { return p.number() == 0 })
	})
}

// TestSelfManaged checks that a user changes its own password, without an administrator.
func TestSelfManaged(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		p.Must(t, route.Write, "config/own", p.with(p.config, fields{"allowed_roles": "*", "self_managed": true}))
		p.Must(t, route.Write, "static-roles/app-lone",
			fields{"db_name": "own", "username": "lone", "self_managed_password": "before", "rotation_period": "1h"})
		_, first := p.given("app-lone")
		p.Must(t, route.Write, "rotate-role/app-lone", nil)
		_, second := p.given("app-lone")
		if second == first || first == "before" {
			t.Error("it was not rotated")
		}
		p.Reopen(t)
		p.Must(t, route.Write, "rotate-role/app-lone", nil)
		if _, third := p.given("app-lone"); third == second {
			t.Error("it was not rotated after a restart")
		}
	})
}

// TestShutOut checks an account that cannot log in from here. Its new password is published with a
// warning that it could not be tested, and works when the account can log in. The same holds for
// an account that is onboarded with its password.
func TestShutOut(t *testing.T) {
	each(t, func(t *testing.T, p *place) {
		for how, ways := range p.shut {
			t.Run(how, func(t *testing.T) {
				warned := func(a *enginetest.Answer) {
					t.Helper()
					if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "svc") {
						t.Errorf("warnings %q, want one that the login could not be tried", a.Warnings)
					}
				}
				p.renew("svc", "before")
				ways.take("svc")
				role := fields{"db_name": "production", "username": "svc", "rotation_period": "1h"}
				warned(p.Must(t, route.Write, "static-roles/app-svc",
					p.with(role, fields{"skip_import_rotation": true, "password": "before"})))
				if a := p.Must(t, route.Read, "static-creds/app-svc", nil); a.Data["password"] != "before" {
					t.Errorf("the published password is %v", a.Data["password"])
				}
				p.Must(t, route.Delete, "static-roles/app-svc", nil)
				warned(p.Must(t, route.Write, "static-roles/app-svc", role))
				a := p.Must(t, route.Read, "static-creds/app-svc", nil)
				warned(a)
				if a := p.Must(t, route.Read, "static-roles/app-svc", nil); a.Data["failures"] != nil {
					t.Errorf("the role reads %s", a.Text)
				}
				ways.bring("svc")
				if err := p.try("svc", a.Data["password"].(string)); err != nil {
					t.Errorf("with the published password: %v", err)
				}
				p.Must(t, route.Delete, "static-roles/app-svc", nil)
			})
		}
	})
}
