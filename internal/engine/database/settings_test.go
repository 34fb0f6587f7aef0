package database_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// hosted opens the engine over a kind that is reached by settings of its own, and keeps what it
// was last connected with.
func hosted(t *testing.T) (*enginetest.World, *atomic.Pointer[database.Config]) {
	t.Helper()
	last := new(atomic.Pointer[database.Config])
	p := new(databasetest.Fake).Provider()
	connect := p.Connect
	p.Plugins = []string{"fake-database-plugin", "short-database-plugin"}
	p.NameMaxOf = map[string]int{"short-database-plugin": 12}
	p.DefaultCreation = []string{"CREATE"}
	p.Check = func(database.Config) error { return nil }
	p.Settings = []database.Setting{
		{Name: "host"}, {Name: "port", Form: database.Number}, {Name: "tls", Form: database.Flag},
		{Name: "bundle", Form: database.Secret},
	}
	p.Connect = func(ctx context.Context, c database.Config) (database.Conn, error) {
		last.Store(&c)
		return connect(ctx, c)
	}
	return enginetest.Open(t, database.New(p), enginetest.Config{Log: slog.New(slog.DiscardHandler)}), last
}

var cache = fields{
	"plugin_name": "fake-database-plugin", "username": databasetest.FakeAdmin, "password": databasetest.FakePassword,
	"allowed_roles": "*",
	"host":          "h", "port": "6379", "tls": "TRUE", "bundle": "canary-bundle",
}

func TestSettingsOfAKind(t *testing.T) {
	w, last := hosted(t)
	a := w.Must(t, route.Write, "config/cache", with(cache, fields{"colour": "red"}))
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], `"colour"`) {
		t.Errorf("warnings %q, want one about colour", a.Warnings)
	}
	c := last.Load()
	if diff := cmp.Diff(map[string]string{"host": "h", "port": "6379", "tls": "true"}, c.Extra); diff != "" ||
		c.Hidden["bundle"].RevealString() != "canary-bundle" {
		t.Errorf("connected with bundle %v and\n%s", !c.Hidden["bundle"].Empty(), diff)
	}
	a = w.Must(t, route.Read, "config/cache", nil)
	want := fields{"username": databasetest.FakeAdmin, "host": "h", "port": 6379.0, "tls": true}
	if diff := cmp.Diff(want, a.Data["connection_details"]); diff != "" || strings.Contains(a.Text, "canary-bundle") {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	// What is not named stays, over a restart, too; a zero value takes it away.
	w.Reopen(t)
	w.Must(t, route.Write, "config/cache", fields{"tls": false, "port": 0, "password": databasetest.FakePassword})
	c = last.Load()
	if diff := cmp.Diff(map[string]string{"host": "h"}, c.Extra); diff != "" ||
		c.Hidden["bundle"].RevealString() != "canary-bundle" {
		t.Errorf("after a write of some:\n%s", diff)
	}
	// An empty number or switch is none that was given, and null takes a value away.
	w.Must(t, route.Write, "config/cache", fields{"tls": true, "port": 1, "password": databasetest.FakePassword})
	w.Must(t, route.Write, "config/cache", fields{"tls": "", "port": ""})
	w.Must(t, route.Write, "config/cache", `{"tls":null,"password":"`+databasetest.FakePassword+`"}`)
	c = last.Load()
	if diff := cmp.Diff(map[string]string{"host": "h", "port": "1"}, c.Extra); diff != "" {
		t.Errorf("after empty values and null:\n%s", diff)
	}
	w.Must(t, route.Write, "roles/plain", fields{"db_name": "cache"})
	w.Must(t, route.Read, "creds/plain", nil)
}

// A write that sends the stored password elsewhere gives it again, whatever the field is called.
func TestSettingsDoNotMoveThePassword(t *testing.T) {
	w, _ := hosted(t)
	w.Must(t, route.Write, "config/cache", cache)
	for field, value := range map[string]any{"host": "evil", "port": 1, "tls": false, "bundle": "other"} {
		_, err := w.Do(route.Write, "config/cache", fields{field: value})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), field) ||
			!strings.Contains(fault.Message(err), "password again") {
			t.Errorf("%s: %v, want a refusal that names it", field, err)
		}
	}
	w.Must(t, route.Write, "config/cache", fields{"host": "h", "tls": true, "bundle": "canary-bundle"}) // the same
	w.Must(t, route.Write, "config/plain", with(cache, fields{"port": nil, "bundle": nil}))
	for field, value := range map[string]any{"port": 1, "bundle": "other"} { // which it had not
		if _, err := w.Do(route.Write, "config/plain", fields{field: value}); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), "("+field+")") {
			t.Errorf("a new %s: %v, want a refusal that names it", field, err)
		}
	}
}

func TestSettingsOfAWrongForm(t *testing.T) {
	w, _ := hosted(t)
	for field, value := range map[string]any{"host": []string{"a"}, "port": "many", "tls": "maybe",
		"bundle": fields{"a": 1}} {
		if _, err := w.Do(route.Write, "config/cache", with(cache, fields{field: value})); !fault.Is(err,
			fault.Invalid) || !strings.Contains(fault.Message(err), field) {
			t.Errorf("%s = %v: %v, want Invalid that names it", field, value, err)
		}
	}
}

func TestShorterNamesOfAPlugin(t *testing.T) {
	w, _ := hosted(t)
	w.Must(t, route.Write, "config/cache", with(cache, fields{"plugin_name": "short-database-plugin"}))
	w.Must(t, route.Write, "roles/a-role-with-a-long-name", fields{"db_name": "cache"})
	a := w.Must(t, route.Read, "creds/a-role-with-a-long-name", nil)
	if name := a.Data["username"].(string); len(name) > 12 {
		t.Errorf("%q has %d bytes", name, len(name))
	}
	if _, err := w.Do(route.Write, "config/cache", fields{"username_template": "v-{{random 20}}"}); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("a template that makes 22 bytes: %v", err)
	}
}

// Statements come as a list, as a text, or as a text that is a list.
func TestStatementsInJSON(t *testing.T) {
	w, _ := hosted(t)
	w.Must(t, route.Write, "roles/a",
		fields{"db_name": "cache", "creation_statements": `["~*", "+@read"]`, "revocation_statements": "[not a list"})
	a := w.Must(t, route.Read, "roles/a", nil)
	if diff := cmp.Diff([]any{"~*", "+@read"}, a.Data["creation_statements"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{"[not a list"}, a.Data["revocation_statements"]); diff != "" {
		t.Error(diff)
	}
}
