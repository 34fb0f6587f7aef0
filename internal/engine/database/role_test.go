package database_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

func TestRoleReadsAsRecorded(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	create := `CREATE ROLE "{{name}}" WITH LOGIN; GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "{{name}}";`
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"creation_statements": create}))
	a := w.Must(t, route.Read, "roles/ro", nil)
	want := fields{
		"creation_statements": []any{create}, "credential_config": fields{}, "credential_type": "password",
		"db_name":     "prod",
		"default_ttl": 1800.0, "max_ttl": 7200.0, "renew_statements": []any{}, "revocation_statements": []any{"DROP"},
		"rollback_statements": []any{},
	}
	if d := cmp.Diff(want, a.Data); d != "" || a.Warnings != nil {
		t.Errorf("read (-want +got):\n%s\nwarnings %q", d, a.Warnings)
	}
	if got := w.Must(t, route.List, "roles", nil).Data["keys"]; !cmp.Equal(got, []any{"ro"}) {
		t.Errorf("list = %v", got)
	}
	if _, err := w.Do(route.Read, "roles/none", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("reading an absent role: %v, want not found", err)
	}
	w.Must(t, route.Delete, "roles/ro", nil)
	w.Must(t, route.Delete, "roles/ro", nil)
	if _, err := w.Do(route.Read, "roles/ro", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("reading a deleted role: %v, want not found", err)
	}
}

func TestRoleKeepsWhatIsAbsent(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	w.Must(t, route.Write, "roles/ro", fields{
		"db_name": "prod", "creation_statements": []string{"CREATE", "", " "}, "revocation_statements": "DROP",
		"renew_statements":    []string{"R1", "R2"},
		"rollback_statements": "B", "default_ttl": "60", "max_ttl": 120, "terminate_sessions": true,
		"credential_type":   "password",
		"credential_config": fields{"password_policy": "strong"},
	})
	before := w.Must(t, route.Read, "roles/ro", nil)
	want := fields{
		"creation_statements": []any{"CREATE"}, "credential_config": fields{"password_policy": "strong"},
		"credential_type": "password",
		"db_name":         "prod", "default_ttl": 60.0, "max_ttl": 120.0, "renew_statements": []any{"R1", "R2"},
		"revocation_statements": []any{"DROP"},
		"rollback_statements":   []any{"B"}, "terminate_sessions": true,
	}
	if d := cmp.Diff(want, before.Data); d != "" {
		t.Errorf("read (-want +got):\n%s", d)
	}
	w.Must(t, route.Write, "roles/ro", fields{"renew_statements": ""})
	after := w.Must(t, route.Read, "roles/ro", nil)
	want["renew_statements"] = []any{}
	if d := cmp.Diff(want, after.Data); d != "" {
		t.Errorf("after a partial write (-want +got):\n%s", d)
	}
}

func TestRoleRefusesAndWarns(t *testing.T) {
	w := open(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	for _, tt := range []struct {
		name string
		body fields
		want string
	}{
		{"ro", with(ro, fields{"db_name": nil}), `field "db_name" is required`},
		{"ro", with(ro, fields{"default_ttl": "3h"}), `field "default_ttl": 3h0m0s must not be above max_ttl, 2h0m0s`},
		{"ro", with(ro, fields{"default_ttl": "soon"}), `field "default_ttl": want a duration`},
		{"ro", with(ro, fields{"credential_type": "rsa_private_key"}),
			`field "creation_statements": with credential_type rsa_private_key`},
		{"ro", with(ro, fields{"credential_config": fields{"key_bits": "2048"}}),
			`field "credential_config": there is no "key_bits"`},
		{"ro", with(ro, fields{"creation_statements": 7}), `field "creation_statements"`},
		{"ro", with(ro, fields{"renew_statements": "BROKEN"}), "renew_statements is broken"},
		{"ro", with(ro, fields{"rollback_statements": "BROKEN"}), "rollback_statements is broken"},
		{"a b", ro, "the role's name"},
	} {
		w.Refused(t, route.Write, "roles/"+tt.name, tt.body, fault.Invalid, tt.want)
	}
	if _, err := w.Do(route.Read, "roles/ro", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("a refused role was stored: %v", err)
	}
	// the longest default that fits
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"default_ttl": "2h", "max_ttl": "2h"}))
	w.Must(t, route.Delete, "roles/ro", nil)
	for want, body := range map[string]fields{
		`there is no connection "later" yet`: with(ro, fields{"db_name": "later", "creation_statements": "BROKEN"}),
		"creation_statements are empty":      with(ro, fields{"creation_statements": nil}),
	} {
		if a := w.Must(t, route.Write, "roles/other", body); !strings.Contains(strings.Join(a.Warnings, "\n"), want) {
			t.Errorf("warnings %q, want %q", a.Warnings, want)
		}
		w.Must(t, route.Delete, "roles/other", nil)
	}
}

// Writers of one role at once lose nothing of each other.
func TestRoleWritersAtOnce(t *testing.T) {
	w := ready(t, enginetest.Config{})
	var all sync.WaitGroup
	for _, body := range []fields{
		{"renew_statements": "R"}, {"rollback_statements": "B"}, {"max_ttl": "9h"}, {"terminate_sessions": true},
		{"default_ttl": "1m"}, {"credential_config": fields{"password_policy": "p"}},
		{"revocation_statements": "DROP"}, {"creation_statements": "CREATE"},
	} {
		all.Go(func() { w.Must(t, route.Write, "roles/ro", body) })
	}
	all.Wait()
	got := w.Must(t, route.Read, "roles/ro", nil).Text
	for _, want := range []string{`["R"]`, `["B"]`, `32400`, `true`, `:60,`, `"p"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is without %s", got, want)
		}
	}
}

// What revoking had to do beyond the role's statements is said where the role
// is read and written, until its statements change.
func TestNotesOnRoles(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.setNote(func(database.DropOptions) database.Report {
		return database.Report{Insufficient: true, Notes: []string{"revoked the user's privileges on 2 objects",
			"the role's statements failed (SQLSTATE 2BP01) and were run again"}}
	})
	_, _, id := w.issue("ro")
	if err := w.Revoke(id); err != nil {
		t.Fatal(err)
	}
	for _, op := range []route.Op{route.Read, route.Write} {
		a := w.Must(t, op, "roles/ro", nil)
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "2BP01") ||
			!strings.Contains(a.Warnings[0], "leave them out") {
			t.Errorf("%s: warnings %q", op, a.Warnings)
		}
	}
	if !strings.Contains(w.log.String(), "2BP01") {
		t.Error("the log does not tell of the note")
	}
	if a := w.Must(t, route.Write, "roles/ro",
		fields{"revocation_statements": []string{"REVOKE", "DROP"}}); a.Warnings != nil {
		t.Errorf("new statements are warned of before they were tried: %q", a.Warnings)
	}
	// Ended sessions are no fault of the role's.
	w.setNote(func(database.DropOptions) database.Report {
		return database.Report{Notes: []string{"ended 1 of the user's sessions, among them one by " +
			"revocation_statements"}}
	})
	_, _, id = w.issue("ro")
	if err := w.Revoke(id); err != nil {
		t.Fatal(err)
	}
	if a := w.Must(t, route.Read, "roles/ro", nil); a.Warnings != nil {
		t.Errorf("warnings %q, want none", a.Warnings)
	}
	// A role that is made anew has no past.
	w.Must(t, route.Write, "roles/ro", ro)
	w.setNote(func(database.DropOptions) database.Report {
		return database.Report{Insufficient: true, Notes: []string{"they did nothing"}}
	})
	_, _, id = w.issue("ro")
	w.Must(t, route.Delete, "roles/ro", nil)
	w.Must(t, route.Write, "roles/ro", ro)
	if err := w.Revoke(id); err != nil {
		t.Fatal(err)
	}
	if a := w.Must(t, route.Read, "roles/ro", nil); a.Warnings != nil {
		t.Errorf("warnings of the new role %q, want none", a.Warnings)
	}
}

// What the database warns of when a user is made, or a password changed, becomes a warning of the
// answer.
func TestWarningsOfTheDatabase(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "roles/ro",
		with(ro, fields{"creation_statements": []string{"CREATE", "WARN nothing was granted"}}))
	if a := w.Must(t, route.Read, "creds/ro", nil); len(a.Warnings) != 1 || a.Warnings[0] != "nothing was granted" {
		t.Errorf("creds: warnings %q", a.Warnings)
	}
	w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_statements": "WARN nothing was revoked"}))
	for _, path := range []string{"static-roles/svc", "rotate-role/svc"} {
		op := route.Read
		if path == "rotate-role/svc" {
			op = route.Write
		}
		if a := w.Must(t, op, path, nil); len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], "nothing was revoked") {
			t.Errorf("%s: warnings %q", path, a.Warnings)
		}
	}
}

// Statements of each field are judged by what the kind of database and the type of the credentials
// need.
func TestRoleStatementsAreJudged(t *testing.T) {
	p := new(databasetest.Fake).Provider()
	p.Rules, p.BindsSubject = false, true
	check := p.CheckStatements
	p.CheckStatements = func(field string, list []string) (database.Found, error) {
		found, err := check(field, list)
		found.Queries = strings.HasPrefix(list[0], "SELECT")
		return found, err
	}
	w := enginetest.Open(t, database.New(p), enginetest.Config{})
	w.Must(t, route.Write, "config/prod", prod)
	// refused when it is read
	w.Must(t, route.Write, "roles/asks", with(ro, fields{"creation_statements": "SELECT 1"}))
	const creates = "CREATE {{name}} {{password}}"
	certified := with(certRole(t, 24*time.Hour), fields{"creation_statements": "CREATE {{name}}"})
	for want, body := range map[string]fields{
		"{{nme}} is not a placeholder": with(ro,
			fields{"creation_statements": creates, "revocation_statements": "DROP {{nme}}"}),
		"{{usr}} is not a placeholder":            with(ro, fields{"creation_statements": creates + " {{usr}}"}),
		"field \"creation_statements\": {{name}}": with(ro, fields{"creation_statements": "SELECT {{password}}"}),
		"{{name}} is missing":                     with(ro, fields{"creation_statements": "CREATE {{password}}"}),
		"{{password}} is missing":                 with(ro, fields{"creation_statements": "CREATE {{name}}"}),
		"{{password}} cannot be used with":        with(certified, fields{"creation_statements": creates + " {{subject}}"}),
		"must be bound to its certificate":        certified,
		"must tell the database the user's key": with(ro,
			fields{"credential_type": "rsa_private_key", "creation_statements": "CREATE {{name}}"}),
	} {
		w.Refused(t, route.Write, "roles/ro", body, fault.Invalid, want)
	}
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"creation_statements": creates}))
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"credential_type": "rsa_private_key",
		"creation_statements": "CREATE {{name}} {{public_key}}"}))
	w.Must(t, route.Delete, "roles/ro", nil)
	w.Must(t, route.Write, "roles/ro", with(certified, fields{"creation_statements": "CREATE {{name}} {{subject}}"}))
}

// A role for a connection that is written later is warned of what was not checked, and of what is
// missing.
func TestRoleBeforeItsConnection(t *testing.T) {
	w := open(t, enginetest.Config{})
	for want, body := range map[int]fields{1: ro, 2: with(ro, fields{"creation_statements": nil})} {
		if a := w.Must(t, route.Write, "roles/ro", body); len(a.Warnings) != want {
			t.Errorf("%d statements: warnings %q", 2-want, a.Warnings)
		}
		w.Must(t, route.Delete, "roles/ro", nil)
	}
	w.Must(t, route.Write, "roles/ro", with(ro, fields{"max_ttl": nil})) // the mount's
	w.Must(t, route.Write, "roles/app-a", with(ro, fields{"creation_statements": "BROKEN"}))
	w.Must(t, route.Write, "roles/app-b", with(ro, fields{"renew_statements": "BROKEN"}))
	w.Must(t, route.Write, "roles/app-own", with(ro, fields{"db_name": "own"}))
	w.Must(t, route.Write, "config/prod", prod)
	w.Must(t, route.Write, "config/own", ownConfig)
	w.Refused(t, route.Read, "creds/app-a", nil, fault.Invalid, "creation_statements is broken")
	w.Refused(t, route.Read, "creds/app-b", nil, fault.Invalid, "renew_statements is broken")
	w.Refused(t, route.Read, "creds/app-own", nil, fault.Invalid, "is self-managed")
}

// Options that are given replace all others.
func TestOptionsReplaceOthers(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/ro", fields{"credential_config": fields{"password_policy": "p"}})
	w.Must(t, route.Write, "roles/ro", fields{"credential_config": fields{}})
	if a := w.Must(t, route.Read, "roles/ro", nil); !cmp.Equal(a.Data["credential_config"], any(fields{})) {
		t.Errorf("options %v, want none", a.Data["credential_config"])
	}
	w.Must(t, route.Write, "roles/key",
		with(ro, fields{"credential_type": "rsa_private_key", "creation_statements": "CREATE {{public_key}}",
			"credential_config": fields{"key_bits": "3072"}}))
	w.Must(t, route.Write, "roles/key", fields{"credential_config": fields{"format": "pkcs8"}})
	if a := w.Must(t, route.Read, "roles/key", nil); !cmp.Equal(a.Data["credential_config"],
		any(fields{"format": "pkcs8"})) {
		t.Errorf("options %v, want the last one alone", a.Data["credential_config"])
	}
}

// The note on a role is the latest one.
func TestNoteIsReplaced(t *testing.T) {
	w := ready(t, enginetest.Config{})
	for _, note := range []string{"first", "second", "second"} {
		w.setNote(func(database.DropOptions) database.Report {
			return database.Report{Insufficient: true, Notes: []string{note}}
		})
		_, _, id := w.issue("ro")
		if err := w.Revoke(id); err != nil {
			t.Fatal(err)
		}
		if a := w.Must(t, route.Read, "roles/ro", nil); len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], note) {
			t.Errorf("warnings %q, want one of the %s note", a.Warnings, note)
		}
	}
}
