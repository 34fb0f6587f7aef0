package aws_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// defaultTemplate is what the reference's documentation says that is shown where there is no
// template.
const defaultTemplate = `{{ if (eq .Type "STS") }}{{ printf "vault-%s-%s" (unix_time) (random 20) | truncate 32 }}{{ else }}{{ printf "vault-%s-%s-%s" (printf "%s-%s" (.DisplayName) (.PolicyName) | truncate 42) (unix_time) (random 20) | truncate 64 }}{{ end }}`

// TestRootReplaces: a write of config/root gives all that says how AWS is reached. HashiCorp's
// Terraform provider leaves out what is no longer in its configuration, and writes the template
// back that it has read.
func TestRootReplaces(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	full := with(rootConfig, fields{
		"region": "us-west-1", "sts_region": "eu-west-1", "sts_fallback_endpoints": []string{awstest.URL},
		"sts_fallback_regions": []string{"eu-west-2"},
		"max_retries":          4, "username_template": "v-{{random 20}}", "propagation_checks": 0,
		"rotation_period": "24h",
	})
	w.Must(t, route.Write, "config/root", full)
	own := fields{"propagation_checks": 0.0, "rotation_period": 86400.0}
	shown := func(want fields) {
		t.Helper()
		got := w.Must(t, route.Read, "config/root", nil).Data
		delete(got, "next_root_rotation")
		if d := cmp.Diff(with(want, own), got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
	all := fields{
		"access_key": awstest.ID, "region": "us-west-1", "iam_endpoint": awstest.URL, "sts_endpoint": awstest.URL,
		"sts_region":             "eu-west-1",
		"sts_fallback_endpoints": []any{awstest.URL}, "sts_fallback_regions": []any{"eu-west-2"}, "max_retries": 4.0,
		"username_template": "v-{{random 20}}",
	}
	shown(all)

	// Fields that the reference does not have are each written by themselves.
	if a := w.Must(t, route.Write, "config/root", fields{"rotation_period": "12h"}); len(a.Warnings) > 0 {
		t.Errorf("warnings %q", a.Warnings)
	}
	own["rotation_period"] = 43200.0
	shown(all)

	pair := fields{"access_key": awstest.ID, "secret_key": awstest.Secret}
	a := w.Must(t, route.Write, "config/root", with(pair, fields{"region": "us-west-1"}))
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "iam_endpoint, sts_endpoint, "+
		"sts_fallback_endpoints, sts_fallback_regions, sts_region, max_retries, username_template") {
		t.Errorf("warnings %q", a.Warnings)
	}
	bare := fields{"access_key": awstest.ID, "region": "us-west-1", "iam_endpoint": "", "sts_endpoint": "",
		"max_retries": -1.0, "username_template": defaultTemplate}
	shown(bare)
	if a := w.Must(t, route.Write, "config/root",
		with(pair, fields{"region": "us-west-1", "username_template": defaultTemplate})); len(a.Warnings) > 0 {
		t.Errorf("what was read is written: warnings %q", a.Warnings)
	}
	shown(bare)

	// The pair is kept where it is left out: after rotate-root nobody but the server knows it.
	w.Must(t, route.Write, "config/root", fields{"region": "eu-west-1"})
	bare["region"] = "eu-west-1"
	shown(bare)
	w.Must(t, route.Write, "config/root", with(full, pair))
	w.Refused(t, route.Write, "config/root", fields{"region": "us-west-1"}, fault.Invalid,
		`a field that is left out returns to its default`)
	own["rotation_period"] = 86400.0
	shown(all)
}

// TestDefaultTemplate: written or left out, it makes the names that are made by default.
func TestDefaultTemplate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.Must(t, route.Write, "roles/a-role-whose-name-is-longer-than-what-is-left-of-64",
			with(deploy, fields{"propagation_checks": 0}))
		for _, template := range []any{nil, defaultTemplate} {
			w.Must(t, route.Write, "config/root", with(rootConfig, fields{"username_template": template}))
			w.issue("creds/a-role-whose-name-is-longer-than-what-is-left-of-64", nil)
		}
		for _, name := range w.users() {
			if !strings.HasPrefix(name, "vault-a-role-whose-name-is-longer") || len(name) > 64 ||
				len(name[strings.LastIndex(name, "-")+1:]) != 20 {
				t.Errorf("the user is called %q", name)
			}
		}
	})
}

// TestTemplateWithoutRandom: it is taken with a warning, and a second user of its name is refused
// while the first lives.
func TestTemplateWithoutRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		a := w.Must(t, route.Write, "config/root", with(rootConfig, fields{"username_template": "svc-{{.RoleName}}"}))
		if len(a.Warnings) != 1 ||
			!strings.Contains(a.Warnings[0], `username_template makes the same name again, such as "svc-role"`) {
			t.Errorf("warnings %q", a.Warnings)
		}
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
		first := w.issue("creds/r", nil).Lease.ID
		if _, err := w.Do(route.Write, "creds/r", nil); err == nil {
			t.Error("two users have one name")
		}
		time.Sleep(10 * time.Minute)
		if users := w.users(); len(users) != 1 || users[0] != "svc-r" {
			t.Errorf("users %q", users)
		}
		if err := w.Revoke(first); err != nil {
			t.Fatal(err)
		}
		w.issue("creds/r", nil)
	})
}
