package aws_test

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

type fields = map[string]any

// world is the engine and its AWS.
type world struct {
	*enginetest.World
	t   *testing.T
	aws *awstest.Server
	log *enginetest.Log
}

// rootWithoutPair keeps the pair that is stored, and all else of rootConfig.
var rootWithoutPair = with(rootConfig, fields{"access_key": nil, "secret_key": nil})

var rootConfig = fields{
	"access_key": awstest.ID, "secret_key": awstest.Secret, "region": "us-east-1", "iam_endpoint": awstest.URL,
	"sts_endpoint": awstest.URL,
}

func open(t *testing.T, o awstest.Options, c enginetest.Config) *world {
	t.Helper()
	w := &world{t: t, aws: awstest.Start(t, o), log: new(enginetest.Log)}
	c.Log = slog.New(slog.NewJSONHandler(w.log, nil))
	c.Host = func(h *engine.Host) { h.Dial = w.aws.Dial }
	w.World = enginetest.Open(t, aws.Type, c)
	w.Must(t, route.Write, "config/root", rootConfig)
	return w
}

func with(base, more fields) fields { return enginetest.With(base, more) }

const (
	policyARN = "arn:aws:iam::123456789012:policy/DeployAccess"
	document  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
)

// deploy is the guide's role.
var deploy = fields{"credential_type": "iam_user", "policy_arns": policyARN, "default_ttl": "1h", "max_ttl": "4h"}

// users are those at AWS besides the administrator.
func (w *world) users() (names []string) {
	for _, u := range w.aws.Users(awstest.Account) {
		if u != awstest.Admin {
			names = append(names, u)
		}
	}
	return names
}

func (w *world) issue(path string, body any) *enginetest.Answer {
	w.t.Helper()
	return w.Must(w.t, route.Write, path, body)
}

func TestGuideRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{KeyLag: 9 * time.Second, ListLag: 3 * time.Second}, enginetest.Config{})
		w.Must(t, route.Write, "roles/deploy-service", deploy)
		began := time.Now()
		a := w.Must(t, route.Read, "creds/deploy-service", nil)
		if took := time.Since(began); took < 14*time.Second || took > 20*time.Second {
			t.Errorf("it took %s: want the nine seconds until the key works, and five more", took)
		}
		id, secret := a.Data["access_key"].(string), a.Data["secret_key"].(string)
		if !w.aws.Works(id, secret) {
			t.Error("the key does not work when it is given out")
		}
		for _, name := range []string{"security_token", "session_token"} {
			if v, there := a.Data[name]; !there || v != nil {
				t.Errorf("%s is %v, want it there and null", name, v)
			}
		}
		if len(a.Data) != 4 || !a.Lease.Renewable || a.Lease.Expires.Sub(a.Lease.Issued) != time.Hour ||
			a.Lease.Max.Sub(a.Lease.Issued) != 4*time.Hour {
			t.Errorf("answer %s, lease %+v", a.Text, a.Lease)
		}
		user := w.users()[0]
		if h, _ := w.aws.Held(awstest.Account, user); !cmp.Equal(h.Attached, []string{policyARN}) ||
			!strings.HasPrefix(user, "vault-tester-deploy-service-") {
			t.Errorf("user %s has %+v", user, h)
		}
		w.aws.Attach(awstest.Account, user)
		time.Sleep(59 * time.Minute)
		if _, err := w.Renew(a.Lease.ID, 9*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if !w.aws.Works(id, secret) {
			t.Error("a renewed key does not work")
		}
		time.Sleep(time.Hour + 2*time.Minute)
		if w.aws.Works(id, secret) || len(w.users()) != 0 || len(w.IDs(t)) != 0 {
			t.Errorf("after max_ttl: users %q, leases %q", w.users(), w.IDs(t))
		}
		if strings.Contains(w.log.String(), secret) || strings.Contains(w.log.String(), awstest.Secret) {
			t.Error("the log holds a secret key")
		}
	})
}

// TestShortLease: a five-second lease that begins after the wait ends on its own time.
func TestShortLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.Must(t, route.Write, "roles/short", with(deploy, fields{"default_ttl": "5s"}))
		w.issue("creds/short", nil)
		time.Sleep(6 * time.Second)
		if len(w.users()) != 0 {
			t.Errorf("users %q", w.users())
		}
		a := w.issue("creds/short", nil)
		if err := w.Revoke(a.Lease.ID); err != nil || len(w.users()) != 0 {
			t.Errorf("revoked: %v, users %q", err, w.users())
		}
		// Someone else has removed it.
		w.issue("creds/short", nil)
		w.aws.DropUser(awstest.Account, w.users()[0])
		time.Sleep(6 * time.Second)
		if len(w.IDs(t)) != 0 {
			t.Errorf("leases %q", w.IDs(t))
		}
	})
}

func TestTTLPrecedence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		role := fields{"credential_type": "iam_user", "policy_document": document, "propagation_checks": 0}
		w.Must(t, route.Write, "roles/r", role)
		ttl := func() [2]time.Duration {
			l := w.issue("creds/r", nil).Lease
			return [2]time.Duration{l.Expires.Sub(l.Issued), l.Max.Sub(l.Issued)}
		}
		if got := ttl(); got != [2]time.Duration{768 * time.Hour, 768 * time.Hour} {
			t.Errorf("by the mount: %v", got)
		}
		w.Must(t, route.Write, "config/lease", fields{"lease": "2h", "lease_max": "8h"})
		if got := ttl(); got != [2]time.Duration{2 * time.Hour, 8 * time.Hour} {
			t.Errorf("by config/lease: %v", got)
		}
		w.Must(t, route.Write, "roles/r", fields{"default_ttl": "1h", "max_ttl": "4h"})
		if got := ttl(); got != [2]time.Duration{time.Hour, 4 * time.Hour} {
			t.Errorf("by the role: %v", got)
		}
		for _, bad := range []fields{{"lease": "x", "lease_max": "1h"}, {"lease": "2h", "lease_max": "1h"},
			{"lease": "1h"}, {"lease": "0s", "lease_max": "1h"}} {
			w.Refused(t, route.Write, "config/lease", bad, fault.Invalid, "lease")
		}
		if a := w.Must(t, route.Read, "config/lease", nil); a.Data["lease"] != "2h0m0s" ||
			a.Data["lease_max"] != "8h0m0s" {
			t.Errorf("config/lease reads %s", a.Text)
		}
	})
}

func TestRootConfig(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	want := fields{"access_key": awstest.ID, "region": "us-east-1", "iam_endpoint": awstest.URL,
		"sts_endpoint": awstest.URL, "max_retries": float64(-1), "username_template": defaultTemplate}
	if d := cmp.Diff(want, w.Must(t, route.Read, "config/root", nil).Data); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, tt := range []struct {
		body fields
		want string
	}{
		{fields{"access_key": "", "secret_key": "s"}, `field "access_key" is empty and secret_key is not`},
		{fields{"access_key": "AKIA", "secret_key": ""}, `field "secret_key" is empty and access_key is not`},
		{fields{"access_key": "AKIA"}, `field "secret_key" is empty`},
		{fields{"iam_endpoint": "not a url"}, `field "iam_endpoint"`},
		{fields{"sts_endpoint": "https://user:pass@sts"}, `field "sts_endpoint"`},
		{fields{"sts_endpoint": "user:pass@sts.example"}, `field "sts_endpoint"`},
		{fields{"sts_fallback_endpoints": "https://a.test,https://b.test", "sts_fallback_regions": "x"},
			`field "sts_fallback_regions"`},
		{fields{"max_retries": 1000}, `field "max_retries"`},
		{fields{"username_template": "{{.Nope}}{{random 20}}"}, `field "username_template"`},
		{fields{"propagation_checks": 1000}, `field "propagation_checks"`},
		{fields{"propagation_settle": "1h"}, `field "propagation_settle"`},
		{fields{"role_arn": "arn:aws:iam::1:role/x"}, `field "role_arn": it is not implemented yet`},
	} {
		w.Refused(t, route.Write, "config/root", tt.body, fault.Invalid, tt.want)
	}
	if d := cmp.Diff(want, w.Must(t, route.Read, "config/root", nil).Data); d != "" {
		t.Errorf("after refusals (-want +got)\n%s", d)
	}
	a := w.Must(t, route.Write, "config/root", fields{"access_key": "", "secret_key": ""})
	if len(a.Warnings) != 2 || !strings.Contains(a.Warnings[0], "iam_endpoint, sts_endpoint, region") ||
		!strings.Contains(a.Warnings[1], "environment") {
		t.Errorf("both empty: warnings %q", a.Warnings)
	}
}

// TestEndpointWithoutScheme: old configurations name the host alone, and read what
// they wrote.
func TestEndpointWithoutScheme(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	const host = "iam.eu-west-1.example"
	w.Must(t, route.Write, "config/root",
		fields{"access_key": awstest.ID, "secret_key": awstest.Secret, "iam_endpoint": host, "sts_endpoint": host,
			"sts_fallback_endpoints": host})
	a := w.Must(t, route.Read, "config/root", nil).Data
	if a["iam_endpoint"] != host || a["sts_endpoint"] != host {
		t.Errorf("config/root reads %v", a)
	}
}

func TestRolesRefused(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	assumed := fields{"credential_type": "assumed_role", "role_arns": "arn:aws:iam::123456789012:role/ci"}
	for _, tt := range []struct {
		body fields
		want string
	}{
		{fields{}, `field "credential_type" is required`},
		{fields{"credential_type": "nonsense"}, `there is no "nonsense"`},
		{with(deploy, fields{"role_arns": "arn:aws:iam::123456789012:role/x"}),
			`field "role_arns" cannot be used with credential_type iam_user`},
		{with(deploy, fields{"policy_document": "{not json"}), `field "policy_document"`},
		{with(deploy, fields{"default_ttl": "5h"}), `field "default_ttl": 5h0m0s is above max_ttl, 4h0m0s`},
		{with(deploy, fields{"default_sts_ttl": "1h"}), `use default_ttl`},
		{with(deploy, fields{"user_path": "svc"}), `field "user_path"`},
		{with(deploy, fields{"policy_arns": "DeployAccess"}), `field "policy_arns": "DeployAccess" is not an ARN`},
		{with(deploy, fields{"iam_tags": "nothing"}), `field "iam_tags"`},
		{with(assumed, fields{"default_ttl": "1h"}), `default_sts_ttl`},
		{with(assumed, fields{"default_sts_ttl": "2m"}), `field "default_sts_ttl": 2m0s is outside AWS's limits`},
		{with(assumed, fields{"max_sts_ttl": "13h"}), `field "max_sts_ttl"`},
		{with(assumed, fields{"default_sts_ttl": "2h", "max_sts_ttl": "1h"}), `above max_sts_ttl`},
		{fields{"credential_type": "session_token", "iam_groups": "g"}, `field "iam_groups"`},
		{with(assumed, fields{"user_path": "/x/"}), `field "user_path"`},
		{with(assumed, fields{"role_session_name": "a b"}), `field "role_session_name"`},
		{fields{"credential_type": "federation_token"}, `"policy_document" or "policy_arns" is required`},
		{fields{"credential_type": "session_token", "policy_arns": policyARN}, `field "policy_arns"`},
		{fields{"arn": policyARN, "policy_arns": policyARN}, `exclude`},
		{fields{"arn": policyARN, "policy": document}, `exclude each other`},
	} {
		w.Refused(t, route.Write, "roles/bad", tt.body, fault.Invalid, tt.want)
	}
	if _, err := w.Do(route.Read, "roles/bad", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("after refusals: %v", err)
	}
	w.Refused(t, route.Read, "creds/none", nil, fault.Invalid, "unknown role")
}

func TestRolesReadBack(t *testing.T) {
	w := open(t, awstest.Options{}, enginetest.Config{})
	base := fields{
		"default_sts_ttl": float64(0), "iam_groups": nil, "iam_tags": nil, "max_sts_ttl": float64(0),
		"permissions_boundary_arn": "",
		"policy_arns":              nil, "policy_document": "", "role_arns": nil, "user_path": "",
	}
	over := func(more fields) fields {
		out := fields{}
		for _, m := range []fields{base, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for name, tt := range map[string]struct{ body, want fields }{
		"deploy": {deploy,
			over(fields{"credential_type": "iam_user", "policy_arns": []any{policyARN}, "default_ttl": float64(3600),
				"max_ttl": float64(14400)})},
		"full": {
			fields{"credential_type": "iam_user", "policy_document": document,
				"iam_tags": []string{"team=payments", "env=prod"}, "user_path": "/svc/",
				"iam_groups": []string{"z", "a"}, "permissions_boundary_arn": policyARN,
				"policy_arns": []string{policyARN + "2", policyARN + "1"}, "default_sts_ttl": 0,
				"role_arns": []string{}},
			over(fields{"credential_type": "iam_user", "policy_document": document,
				"iam_tags": fields{"team": "payments", "env": "prod"}, "user_path": "/svc/",
				"iam_groups": []any{"z", "a"}, "permissions_boundary_arn": policyARN,
				"policy_arns": []any{policyARN + "2", policyARN + "1"}}),
		},
		"ci": {
			fields{"credential_type": "assumed_role", "role_arns": "arn:aws:iam::123456789012:role/ci",
				"default_sts_ttl": "15m", "max_sts_ttl": "1h", "external_id": "x", "session_tags": fields{"a": "b"}},
			over(fields{"credential_type": "assumed_role", "role_arns": []any{"arn:aws:iam::123456789012:role/ci"},
				"default_sts_ttl": float64(900), "max_sts_ttl": float64(3600), "external_id": "x",
				"session_tags": fields{"a": "b"}}),
		},
		"settled": {with(deploy, fields{"propagation_checks": 0, "propagation_settle": "2s"}),
			over(fields{"credential_type": "iam_user", "policy_arns": []any{policyARN}, "default_ttl": float64(3600),
				"max_ttl": float64(14400), "propagation_checks": float64(0), "propagation_settle": float64(2)})},
		"mfa": {fields{"credential_type": "session_token", "mfa_serial_number": "arn:aws:iam::1:mfa/x"},
			over(fields{"credential_type": "session_token", "mfa_serial_number": "arn:aws:iam::1:mfa/x"})},
		"mfa-user": {with(deploy, fields{"mfa_serial_number": "arn:aws:iam::1:mfa/x"}),
			over(fields{"credential_type": "iam_user", "policy_arns": []any{policyARN}, "default_ttl": float64(3600),
				"max_ttl": float64(14400), "mfa_serial_number": "arn:aws:iam::1:mfa/x"})},
		"old-arn": {fields{"arn": policyARN},
			over(fields{"credential_type": "iam_user", "policy_arns": []any{policyARN}})},
		"old-role": {fields{"arn": "arn:aws:iam::123456789012:role/x"},
			over(fields{"credential_type": "assumed_role", "role_arns": []any{"arn:aws:iam::123456789012:role/x"}})},
		"old-policy": {fields{"policy": document},
			over(fields{"credential_type": "iam_user", "policy_document": document})},
	} {
		w.Must(t, route.Write, "roles/"+name, tt.body)
		if d := cmp.Diff(tt.want, w.Must(t, route.Read, "roles/"+name, nil).Data); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
	if a := w.Must(t, route.List, "roles", nil); len(a.Data["keys"].([]any)) != 9 {
		t.Errorf("list %s", a.Text)
	}
	w.Must(t, route.Delete, "roles/ci", nil)
	w.Must(t, route.Delete, "roles/ci", nil)
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.aws.AddRole(awstest.Account, awstest.Role{Name: "ci"})
		w.aws.AddRole(awstest.Account, awstest.Role{Name: "other"})
		arn := "arn:aws:iam::123456789012:role/"
		w.Must(t, route.Write, "roles/ci",
			fields{"credential_type": "assumed_role", "role_arns": []string{arn + "ci", arn + "other"},
				"default_sts_ttl": "15m", "max_sts_ttl": "1h"})
		w.Refused(t, route.Write, "sts/ci", nil, fault.Invalid, `field "role_arn" is required`)
		w.Refused(t, route.Write, "sts/ci", fields{"role_arn": arn + "x"}, fault.Invalid, `not one of`)
		w.Refused(t, route.Write, "sts/ci", fields{"role_arn": arn + "ci", "ttl": "5m"}, fault.Invalid,
			"outside AWS's limits")
		w.Refused(t, route.Write, "sts/ci", fields{"role_arn": arn + "ci", "role_session_name": "a b"}, fault.Invalid,
			"role_session_name")
		a := w.issue("sts/ci", fields{"role_arn": arn + "other", "ttl": "20m", "role_session_name": "me"})
		if a.Data["arn"] != "arn:aws:sts::123456789012:assumed-role/other/me" || a.Data["ttl"] != float64(1200) ||
			a.Data["session_token"] == nil || a.Data["session_token"] != a.Data["security_token"] {
			t.Errorf("answer %s", a.Text)
		}
		if a.Lease.Renewable || a.Lease.Expires.Sub(a.Lease.Issued) != 20*time.Minute ||
			!w.aws.Works(a.Data["access_key"].(string), a.Data["secret_key"].(string)) {
			t.Errorf("lease %+v", a.Lease)
		}
		if a := w.issue("creds/ci",
			fields{"role_arn": arn + "ci", "ttl": "3h"}); a.Lease.Expires.Sub(a.Lease.Issued) != time.Hour ||
			len(a.Warnings) != 1 {
			t.Errorf("above max_sts_ttl: %+v, %q", a.Lease, a.Warnings)
		}
		w.Must(t, route.Write, "roles/fed", fields{"credential_type": "federation_token", "policy_document": document})
		if a := w.issue("creds/fed", nil); a.Lease.Expires.Sub(a.Lease.Issued) != time.Hour ||
			!strings.Contains(a.Data["arn"].(string), "federated-user/vault-") {
			t.Errorf("federation token: %s", a.Text)
		}
		w.Must(t, route.Write, "roles/sess", fields{"credential_type": "session_token"})
		w.issue("creds/sess", nil)
		w.aws.Attach(awstest.Account, awstest.Admin)
		w.Must(t, route.Write, "roles/mfa",
			fields{"credential_type": "session_token", "mfa_serial_number": "arn:aws:iam::123456789012:mfa/keyturn"})
		w.Refused(t, route.Write, "creds/mfa", nil, fault.Invalid, `field "mfa_code" is required`)
		w.issue("creds/mfa", fields{"mfa_code": "123456"})
		w.Refused(t, route.Write, "creds/mfa", fields{"mfa_code": "1"}, fault.Upstream,
			"mfa_code that was sent: AWS answers AccessDenied")
		time.Sleep(2 * time.Hour)
		if ids := w.IDs(t); len(ids) != 0 {
			t.Errorf("leases %q", ids)
		}
	})
}

// TestRotateRoot with one key, with a second one that is unused, and with one in use.
//
// https://github.com/redhat-cop/vault-config-operator/issues/131
func TestRotateRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{KeyLag: 4 * time.Second, ListLag: 4 * time.Second}, enginetest.Config{})
		w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
		a := w.Must(t, route.Write, "config/rotate-root", nil)
		first := a.Data["access_key"].(string)
		if first == awstest.ID || w.aws.Works(awstest.ID, awstest.Secret) || len(a.Warnings) != 0 {
			t.Errorf("answer %s, %q; the old key works: %v", a.Text, a.Warnings,
				w.aws.Works(awstest.ID, awstest.Secret))
		}
		w.issue("creds/r", nil)
		w.Refused(t, route.Write, "config/root", rootConfig, fault.Invalid, "rotate-root has replaced")
		w.Must(t, route.Write, "config/root", rootWithoutPair)

		unused, _ := w.aws.AddKey(awstest.Account, awstest.Admin)
		a = w.Must(t, route.Write, "config/rotate-root", nil)
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], unused) ||
			!strings.Contains(a.Warnings[0], "never used") {
			t.Errorf("warnings %q", a.Warnings)
		}
		second := a.Data["access_key"].(string)
		used, _ := w.aws.AddKey(awstest.Account, awstest.Admin)
		w.aws.Use(used)
		w.Refused(t, route.Write, "config/rotate-root", nil, fault.Invalid, "replace_key="+used)
		if got := w.Must(t, route.Read, "config/root", nil).Data["access_key"]; got != second {
			t.Errorf("after a refusal the key is %v", got)
		}
		w.Must(t, route.Write, "config/rotate-root", fields{"replace_key": used})
		if keys := w.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 1 {
			t.Errorf("keys %+v", keys)
		}
		w.issue("creds/r", nil)
		time.Sleep(time.Minute) // until lists do not show the deleted key any more
		if n := w.Work(t); n != 0 {
			t.Errorf("%d due items are left", n)
		}
		if strings.Contains(w.log.String(), awstest.Secret) {
			t.Error("the log holds a secret key")
		}
	})
}
