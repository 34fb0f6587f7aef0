package inprocess_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestRotating checks that one list shows everything that rotates in all engines and that the
// caller may read, that a mount to which a key is published is not disabled without force, and
// that deleting a key names what stays valid.
func TestRotating(t *testing.T) {
	w := startEverything(t)
	for mount, typ := range map[string]string{"aws": "aws", "database": "database"} {
		w.must(t, route.Write, "sys/mounts/"+mount, w.root, `{"type":"`+typ+`"}`)
	}
	w.must(t, route.Write, "sys/mounts/static", w.root, `{"type":"kv-v2"}`)
	w.must(t, route.Write, "rotation/keys/stripe", w.root, `{"recipe":"http-demo","params":{"url":"http://127.0.0.1:1"},"admin":{"token":"t"},
		"path":"static/stripe/production","skip_import_rotation":true,"current_key_id":"key_1"}`)
	w.db.AddUser("app", "password-of-app")
	w.must(t, route.Write, "database/config/db", w.root,
		`{"plugin_name":"fake-database-plugin","connection_url":"fake://{{username}}:{{password}}@db","username":"`+
			databasetest.FakeAdmin+`","password":"`+databasetest.FakePassword+`","allowed_roles":"*"}`)
	w.must(t, route.Write, "database/static-roles/app", w.root,
		`{"db_name":"db","username":"app","rotation_period":"24h"}`)
	paths := func(token string) (all []string) {
		for _, r := range w.must(t, route.Read, "rotation/status", token, "").Data["records"].([]any) {
			all = append(all, r.(map[string]any)["path"].(string))
		}
		return all
	}
	if got := strings.Join(paths(w.root), " "); got != "database/static-roles/app rotation/keys/stripe" {
		t.Errorf("the list for root is %q", got)
	}
	w.must(t, route.Write, "sys/policies/acl/dba", w.root,
		`{"policy":"path \"rotation/status\" { capabilities = [\"read\"] } path \"database/static-roles/*\" { capabilities = [\"read\"] }"}`)
	dba := w.must(t, route.Write, "auth/token/create", w.root, `{"policies":["dba"]}`).Auth["client_token"].(string)
	if got := strings.Join(paths(dba), " "); got != "database/static-roles/app" {
		t.Errorf("the list for who may read static roles alone is %q", got)
	}
	if _, err := w.ask(t, route.Delete, "sys/mounts/static", w.root, ""); !fault.Is(err, fault.Conflict) ||
		!strings.Contains(fault.Message(err), "rotation/keys/stripe is published at \"static/stripe/production\"") {
		t.Errorf("disabling a mount that a key is published to: %v", err)
	}
	// After a move, writes by hand to the secret would not be checked, and the next rotation could
	// not be published.
	if _, err := w.ask(t, route.Write, "sys/remount", w.root, `{"from":"static","to":"elsewhere"}`); !fault.Is(err,
		fault.Conflict) || !strings.Contains(fault.Message(err), "rotation/keys/stripe is published at") {
		t.Errorf("moving a mount that a key is published to: %v", err)
	}
	a := w.must(t, route.Delete, "rotation/keys/stripe", w.root, "")
	if got := strings.Join(a.Warnings, " "); !strings.Contains(got, "key_1") {
		t.Errorf("deleting a key warns of %q", got)
	}
	w.must(t, route.Delete, "sys/mounts/static", w.root, "")
}

// TestRotationMetrics checks that each of the five kinds of rotating objects has its series, and
// loses them when it is deleted.
func TestRotationMetrics(t *testing.T) {
	w := startEverything(t)
	for mount, typ := range map[string]string{"aws": "aws", "database": "database", "static": "kv-v2"} {
		w.must(t, route.Write, "sys/mounts/"+mount, w.root, `{"type":"`+typ+`"}`)
	}
	w.must(t, route.Write, "rotation/keys/stripe", w.root, `{"recipe":"http-demo","params":{"url":"http://127.0.0.1:1"},"admin":{"token":"t"},
		"path":"static/stripe/production","skip_import_rotation":true,"current_key_id":"key_1"}`)
	w.db.AddUser("app", "password-of-app")
	w.must(t, route.Write, "database/config/db", w.root, `{"plugin_name":"fake-database-plugin","connection_url":"fake://{{username}}:{{password}}@db","username":"`+databasetest.FakeAdmin+`",
		"password":"`+databasetest.FakePassword+`","allowed_roles":"*","rotation_period":"24h"}`)
	w.must(t, route.Write, "database/static-roles/app", w.root,
		`{"db_name":"db","username":"app","rotation_period":"24h"}`)
	w.aws.AddUser(awstest.Account, "ci")
	w.must(t, route.Write, "aws/config/root", w.root,
		`{"access_key":"`+awstest.ID+`","secret_key":"`+awstest.Secret+`","region":"us-east-1","iam_endpoint":"`+
			awstest.URL+`","sts_endpoint":"`+awstest.URL+`","rotation_period":"24h"}`)
	w.must(t, route.Write, "aws/static-roles/ci", w.root,
		`{"username":"ci","rotation_period":"24h","propagation_checks":0}`)
	tallies := func(most int) (listed []string, counted int64) {
		for _, t := range w.Rotations(most) {
			counted += t.Records()
			for _, s := range t.Standings {
				listed = append(listed, s.Path)
			}
		}
		slices.Sort(listed)
		return listed, counted
	}
	want := []string{"aws/config/root", "aws/static-roles/ci", "database/config/db", "database/static-roles/app",
		"rotation/keys/stripe"}
	if got, n := tallies(10); !slices.Equal(got, want) || n != 5 {
		t.Errorf("%d records, %q; want %q", n, got, want)
	}
	if got, n := tallies(2); len(got) != 2 || n != 5 {
		t.Errorf("with a limit of 2, %d records, and %q are listed", n, got)
	}
	w.must(t, route.Write, "rotation/config", w.root, `{"brake":true}`)
	for _, tally := range w.Rotations(10) {
		if tally.Braked != (tally.Mount == "rotation/") {
			t.Errorf("under the brake of rotation/, %s is braked: %t", tally.Mount, tally.Braked)
		}
	}
	w.must(t, route.Delete, "database/static-roles/app", w.root, "")
	w.must(t, route.Delete, "rotation/keys/stripe", w.root, "")
	w.must(t, route.Delete, "sys/mounts/aws", w.root, "")
	if got, n := tallies(10); !slices.Equal(got, []string{"database/config/db"}) || n != 1 {
		t.Errorf("after most were deleted: %d records, %q", n, got)
	}
}
