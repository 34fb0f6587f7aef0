package inprocess_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestRotating: one list shows what every engine rotates, as far as the caller may read it; a mount that a key is published to is not
// disabled unasked; and a deleted key names what lives on.
func TestRotating(t *testing.T) {
	w := startEverything(t)
	for mount, typ := range map[string]string{"aws": "aws", "database": "database"} {
		w.must(t, route.Write, "sys/mounts/"+mount, w.root, `{"type":"`+typ+`"}`)
	}
	w.must(t, route.Write, "sys/mounts/static", w.root, `{"type":"kv-v2"}`)
	w.must(t, route.Write, "rotation/keys/stripe", w.root, `{"recipe":"http-demo","params":{"url":"http://127.0.0.1:1"},"admin":{"token":"t"},
		"path":"static/stripe/production","skip_import_rotation":true,"current_key_id":"key_1"}`)
	w.db.AddUser("app", "password-of-app")
	w.must(t, route.Write, "database/config/db", w.root, `{"plugin_name":"fake-database-plugin","connection_url":"fake://{{username}}:{{password}}@db","username":"`+databasetest.FakeAdmin+`","password":"`+databasetest.FakePassword+`","allowed_roles":"*"}`)
	w.must(t, route.Write, "database/static-roles/app", w.root, `{"db_name":"db","username":"app","rotation_period":"24h"}`)
	paths := func(token string) (all []string) {
		for _, r := range w.must(t, route.Read, "rotation/status", token, "").Data["records"].([]any) {
			all = append(all, r.(map[string]any)["path"].(string))
		}
		return all
	}
	if got := strings.Join(paths(w.root), " "); got != "database/static-roles/app rotation/keys/stripe" {
		t.Errorf("the list for root is %q", got)
	}
	w.must(t, route.Write, "sys/policies/acl/dba", w.root, `{"policy":"path \"rotation/status\" { capabilities = [\"read\"] } path \"database/static-roles/*\" { capabilities = [\"read\"] }"}`)
	dba := w.must(t, route.Write, "auth/token/create", w.root, `{"policies":["dba"]}`).Auth["client_token"].(string)
	if got := strings.Join(paths(dba), " "); got != "database/static-roles/app" {
		t.Errorf("the list for who may read static roles alone is %q", got)
	}
	if _, err := w.ask(t, route.Delete, "sys/mounts/static", w.root, ""); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "rotation/keys/stripe is published at \"static/stripe/production\"") {
		t.Errorf("disabling a mount that a key is published to: %v", err)
	}
	a := w.must(t, route.Delete, "rotation/keys/stripe", w.root, "")
	if got := strings.Join(a.Warnings, " "); !strings.Contains(got, "key_1") {
		t.Errorf("deleting a key warns of %q", got)
	}
	w.must(t, route.Delete, "sys/mounts/static", w.root, "")
}
