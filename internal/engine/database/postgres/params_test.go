package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestUnsupportedParameters checks that the error for an unsupported parameter names it and what
// to do.
func TestUnsupportedParameters(t *testing.T) {
	for key, advice := range unsupportedParams {
		c := database.Config{Username: "admin", Password: secret.Text("admin-password"),
			URL: secret.Text("postgresql://{{username}}:{{password}}@db/app?" + key + "=x")}
		err := Provider.Check(c)
		if got := fault.Message(err); !fault.Is(err, fault.Invalid) || !strings.Contains(got, key) ||
			hostSettings[key] == "" && !strings.Contains(got, advice) {
			t.Errorf("%s: %v, want it refused by its name, with %q", key, err, advice)
		}
		if _, used := neutral[key]; used {
			t.Errorf("%s is supported", key)
		}
	}
	for rest, want := range map[string]string{
		"target_session_attrs=readwrite": "target_session_attrs", "channel_binding=yes": "channel_binding",
		"connect_timeout=5s": "connect_timeout", "connect_timeout=-1": "connect_timeout", "sslsni=true": "sslsni",
	} {
		c := database.Config{Username: "admin", Password: secret.Text("admin-password"),
			URL: secret.Text("postgresql://{{username}}:{{password}}@a,b/app?" + rest)}
		if err := Provider.Check(c); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("%s: %v, want it refused by its name", rest, err)
		}
	}
	for pairs, fine := range map[string]bool{"host=a,b,c port=1": true, "host=a,b port=1,2": true,
		"host=a,b,c port=1,2": false, "host=a port=1,2": false, "host=a connect_timeout=0": true} {
		c := database.Config{Username: "admin", Password: secret.Text("admin-password"),
			URL: secret.Text("user={{username}} password={{password}} " + pairs)}
		if err := Provider.Check(c); (err == nil) != fine || !fine &&
			!strings.Contains(fault.Message(err), "not as many ports as hosts") {
			t.Errorf("%s: %v", pairs, err)
		}
	}
	ports := database.Config{Username: "admin", Password: secret.Text("admin-password"),
		URL: secret.Text("postgresql://{{username}}:{{password}}@a:1,b:2,c/app")}
	if err := Provider.Check(ports); err != nil {
		t.Errorf("a host without a port: %v", err)
	}
}

// TestPoolerFailure checks the messages for errors of a pooler, and that they are told from
// PostgreSQL's.
func TestPoolerFailure(t *testing.T) {
	p, err := prepare(database.Config{Username: "admin", Password: secret.Text("admin-password"),
		URL: secret.Text("postgresql://{{username}}:{{password}}@db/app?search_path=app")})
	if err != nil {
		t.Fatal(err)
	}
	k := p.call("Verify", "connecting")
	for says, want := range map[string]string{
		"unsupported startup parameter: search_path": "the parameter search_path of connection_url; remove that",
		"unsupported startup parameter: canary":      "ignore_startup_parameters",
		"no such database: canary":                   "[databases]", "SASL authentication failed": "auth_file",
		"no such user: canary": "auth_query", "server login failed: FATAL canary": "behind it",
		"pgbouncer cannot connect to server":                       "behind it",
		"query_wait_timeout":                                       "whether it reaches PostgreSQL, or raise default_pool_size",
		"no more connections allowed (max_client_conn)":            "max_client_conn",
		"transaction blocks not allowed in statement pooling mode": "statement mode", "canary": "its log",
	} {
		got := k.poolerFailure(&pgconn.PgError{Code: "08P01", Message: says})
		if !strings.Contains(got, want) || strings.Contains(got, "canary") {
			t.Errorf("%q: %q, want %q in it", says, got, want)
		}
	}
	own := &pgconn.PgError{Code: "28P01", Message: "password authentication failed", File: "auth.c",
		Routine: "auth_failed"}
	if fromPooler(own) {
		t.Error("PostgreSQL's own error was taken for a pooler's")
	}
}

// TestLastAttemptCounts checks that the last connection attempt that explains something counts.
func TestLastAttemptCounts(t *testing.T) {
	noTLS := errors.New("tls error: server refused TLS connection")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{noTLS, "has no TLS"},
		{errors.Join(noTLS, noTLS), "has no TLS"},
		{errors.Join(noTLS, errors.New("received unexpected message: x")), "does not speak"},
		{errors.Join(noTLS, errors.New("require_auth check failed: x")), "require_auth"},
		{errors.Join(errors.New("dial error: no such host"), noTLS), "cannot be resolved"},
	} {
		if got := unreachable(tt.err); !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
