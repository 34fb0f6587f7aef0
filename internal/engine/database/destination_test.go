package database_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestChangesThatMoveNothing: a connection_url that sends the password nowhere else, and guards it
// no less, needs no password, and its static roles go on. Any other is refused, and the error says
// how Terraform gives one.
func TestChangesThatMoveNothing(t *testing.T) {
	fake := new(databasetest.Fake)
	p := fake.Provider()
	p.Destination = func(c database.Config) (database.Destination, bool) {
		place, guard, _ := strings.Cut(c.URL.RevealString(), "?")
		return database.Destination{Place: place, Guard: len(guard)}, place != "untold"
	}
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	config := fields{
		"plugin_name": "fake-database-plugin", "username": databasetest.FakeAdmin,
		"password": databasetest.FakePassword, "allowed_roles": "*", "connection_url": "fake://h?ss",
	}
	w.Must(t, route.Write, "config/db", config)
	fake.AddUser("svc", "first")
	w.Must(t, route.Write, "static-roles/svc", fields{"db_name": "db", "username": "svc", "rotation_period": "1h"})
	before := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"]
	for _, tt := range []struct {
		url  string
		want string
	}{
		{"fake://h?ss", ""},
		{"fake://h?sss", ""},
		{"fake://h?ss", "connection_url"}, // less than it is guarded now
		{"fake://elsewhere?ssss", "connection_url"},
		{"untold?ssss", "connection_url"},
	} {
		_, err := w.Do(route.Write, "config/db", fields{"connection_url": tt.url})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.url, err)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), tt.want) ||
			!strings.Contains(fault.Message(err), "password_wo_version") {
			t.Errorf("%s: %v, want a refusal that names %s and how Terraform gives a password", tt.url, err, tt.want)
		}
	}
	if got := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"]; got != before {
		t.Errorf("the static role's password was %v and is %v", before, got)
	}
	w.Must(t, route.Write, "rotate-role/svc", nil)
}

// TestRotationStatementsWithoutPassword: they are stored with a warning, as the reference and the
// Terraform provider's tests want it, and a rotation by them is refused before the database is
// asked.
func TestRotationStatementsWithoutPassword(t *testing.T) {
	fake := new(databasetest.Fake)
	p := fake.Provider()
	p.Rules = false
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	config := fields{"plugin_name": "fake-database-plugin", "username": databasetest.FakeAdmin,
		"password": databasetest.FakePassword, "allowed_roles": "*", "connection_url": "fake"}
	a := w.Must(t, route.Write, "config/db", with(config, fields{"root_rotation_statements": "FOOBAR"}))
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "root_rotation_statements: {{password}} is missing") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Write, "rotate-root/db", nil, fault.Invalid,
		`field "root_rotation_statements": {{password}} is missing`)
	w.Refused(t, route.Write, "config/db", fields{"rotation_period": "24h"}, fault.Invalid,
		`field "root_rotation_statements": {{password}} is missing`)
	fake.AddUser("svc", "first")
	w.Must(t, route.Write, "static-roles/svc", fields{"db_name": "db", "username": "svc", "rotation_period": "1h"})
	before := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"].(string)
	a = w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "SELECT 1;"})
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "rotation_statements: {{password}} is missing") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Invalid,
		`field "rotation_statements": {{password}} is missing`)
	if got := w.Must(t, route.Read, "static-creds/svc", nil).Data["password"]; got != before ||
		fake.Login("svc", before) != nil {
		t.Errorf("the password was %v and is %v", before, got)
	}
	if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); err != nil {
		t.Errorf("the rotation that was refused goes on: %v", err)
	}
}
