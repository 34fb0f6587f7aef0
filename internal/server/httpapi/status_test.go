package httpapi

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/seal"
)

func TestHealth(t *testing.T) {
	active := core.Health{Initialized: true}
	for _, tt := range []struct {
		health core.Health
		query  string
		want   int
	}{
		{active, "", 200},
		{active, "?activecode=299", 299},
		{active, "?standbyok=true&sealedcode=299", 200},
		{core.Health{Initialized: true, Sealed: true}, "", 503},
		{core.Health{Initialized: true, Sealed: true}, "?sealedcode=200", 200},
		{core.Health{Sealed: true}, "", 501},
		{core.Health{Sealed: true}, "?uninitcode=200&sealedcode=201", 200},
		{active, "?sealedcode=x", 400},
		{active, "?sealedcode=99", 400},
		{active, "?activecode=1000", 400},
		{active, "?standbyok&standbycode=210&perfstandbyok=true", 200},
	} {
		b := &backend{health: tt.health}
		for _, method := range []string{"GET", "HEAD"} {
			if w := ask(New(b.config()), method, "/v1/sys/health"+tt.query, ""); w.Code != tt.want {
				t.Errorf("%s %+v %s: status %d, want %d", method, tt.health, tt.query, w.Code, tt.want)
			}
		}
	}
}

func TestHealthBody(t *testing.T) {
	b := &backend{
		health: core.Health{Initialized: true, ClusterName: "c", ClusterID: "i", Now: time.Unix(1700000000, 5)},
	}
	var got map[string]any
	if err := json.Unmarshal(ask(New(b.config()), "GET", "/v1/sys/health", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"initialized": true, "sealed": false, "standby": false, "performance_standby": false,
		"replication_performance_mode": "disabled", "replication_dr_mode": "disabled", "server_time_utc": 1700000000.0,
		"version": APIVersion, "keyturn_version": "0.0.1", "enterprise": false, "cluster_name": "c", "cluster_id": "i",
		"echo_duration_ms": 0.0, "clock_skew_ms": 0.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPages(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "sys/seal-status", "", 200, `"type":"shamir"`},
		{"HEAD", "sys/seal-status", "", 200, ``},
		{"PUT", "sys/seal-status", "", 405, "not supported"},
		{"GET", "sys/leader", "", 200, `"ha_enabled":false`},
		{"DELETE", "sys/leader", "", 405, ""},
		{"LIST", "sys/health", "", 200, ""}, // its canonical path is another one: core answers
		{"PUT", "sys/health", "", 405, ""},
		{"GET", "sys/init", "", 200, `{"initialized":false}`},
		{"DELETE", "sys/init", "", 405, ""},
		{"PUT", "sys/init", `{"secret_shares":5,"secret_threshold":3}`, 200,
			`{"keys":["01ff"],"keys_base64":["Af8="],"root_token":"hvs.root"}`},
		{"POST", "sys/init", `{"secret_shares":"many"}`, 400, "secret_shares"},
		{"POST", "sys/init", `{"pgp_keys":["x"]}`, 400, "pgp_keys"},
		{"POST", "sys/init", `{"shares":1}`, 400, "shares"},
		{"PUT", "sys/unseal", `{"key":"Af8="}`, 200, `"progress":1`},
		{"PUT", "sys/unseal", `{}`, 400, "key"},
		{"PUT", "sys/unseal", ``, 400, "key"},
		{"PUT", "sys/unseal", `{"migrate":true,"key":"01ff"}`, 400, "migrate"},
		{"GET", "sys/unseal", ``, 405, ""},
	} {
		b := &backend{}
		w := ask(New(b.config()), tt.method, "/v1/"+tt.path, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s %s %s: status %d %s, want %d %s", tt.method, tt.path, tt.body, w.Code, w.Body, tt.status,
				tt.says)
		}
	}
}

func TestInitRequest(t *testing.T) {
	b := &backend{}
	ask(New(b.config()), "PUT", "/v1/sys/init",
		`{"secret_shares":5,"secret_threshold":"3","stored_shares":1,"recovery_shares":2,"recovery_threshold":1,"pgp_keys":null}`)
	if want := (seal.Split{Shares: 5, Threshold: 3}); b.init.Split != want {
		t.Errorf("got %+v, want %+v", b.init.Split, want)
	}
	if !b.init.RootToken.Empty() || b.init.Mounts != nil {
		t.Error("a client chose more than the shares")
	}
	b.auto = true
	ask(New(b.config()), "PUT", "/v1/sys/init", `{"secret_shares":5,"secret_threshold":3}`)
	if want := (seal.Split{}); b.init.Split != want {
		t.Errorf("a seal that opens by itself was asked for %+v", b.init.Split)
	}
}

func TestUnsealKeys(t *testing.T) {
	b := &backend{}
	ask(New(b.config()), "PUT", "/v1/sys/unseal", `{"key":"Af8="}`)
	if b.key.RevealString() != "Af8=" || b.reset {
		t.Errorf("a key of %d bytes, reset %v", b.key.Len(), b.reset)
	}
	if w := ask(New(b.config()), "PUT", "/v1/sys/unseal", `{"reset":true}`); w.Code != 200 || !b.reset {
		t.Errorf("reset: status %d, %v", w.Code, b.reset)
	}
}

// TestPagesFail: an error of a page has the form and the status of any other.
func TestPagesFail(t *testing.T) {
	for _, path := range []string{"sys/health", "sys/seal-status", "sys/init"} {
		b := &backend{err: errors.New("CANARY")}
		w := ask(New(b.config()), "GET", "/v1/"+path, "")
		if w.Code != 500 || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: status %d %s", path, w.Code, w.Body)
		}
	}
}

func TestOpenMetrics(t *testing.T) {
	b := &backend{}
	cfg := b.config()
	if w := ask(New(cfg), "GET", "/v1/sys/metrics?format=prometheus", ""); b.seen == nil {
		t.Errorf("answered without asking core: %s", w.Body)
	}
	b.seen, cfg.Settings.OpenMetrics = nil, true
	if w := ask(New(cfg), "GET", "/v1/sys/metrics?format=prometheus", ""); b.seen != nil ||
		w.Body.String() != "prometheus up 1\n" || w.Header().Get("Content-Type") != "text/plain" {
		t.Errorf("status %d %s", w.Code, w.Body)
	}
	ask(New(cfg), "PUT", "/v1/sys/metrics", "")
	if b.seen == nil {
		t.Error("a write was taken for a read")
	}
}
