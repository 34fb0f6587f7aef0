//go:build integration

package system

import (
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
)

// canaries plants secrets in a server in every way in which secrets enter it, calls the whole API,
// in order and out of order, and looks for the secrets where they must not be: in errors, in
// answers to other callers, in the log at its most verbose level, in the audit log, in metrics,
// and in plain form in the store's files.
type canaries struct {
	t *testing.T
	s *harness.Server
	harness.Canaries
	root, weak, nobody *harness.Client
	pg                 *pgtest.Server
	keys               *keyserver.Server
	keysURL            string
	seen               map[string]bool // leaks already reported
}

func TestCanaries(t *testing.T) {
	t.Parallel()
	c := &canaries{t: t, pg: pgtest.Start(t, pgtest.Options{Settings: map[string]string{"log_statement": "all"}}),
		seen: map[string]bool{}}
	c.keys = keyserver.New(keyserver.Config{AdminToken: c.plant("the provider's admin token")})
	provider := httptest.NewServer(c.keys.Handler())
	t.Cleanup(provider.Close)
	c.keysURL = provider.URL
	c.s = harness.Ready(t, harness.Options{Level: "trace", Config: `outbound_allow = ["127.0.0.0/8", "::1/128"]`})
	c.root, c.nobody = c.s.Client(c.s.Root), c.s.Client("")
	c.Plant("root token", c.s.Root)
	audit := filepath.Join(c.s.Dir, "audit.log")
	c.good("PUT", "sys/audit/file", object{"type": "file", "options": object{"file_path": audit}})
	c.weak = c.s.Client(
		c.good("POST", "auth/token/create", object{"policies": []string{"default"}}).Text("auth", "client_token"))

	c.keyValues()
	c.tokens()
	c.wrapping()
	c.policies()
	c.database()
	c.databaseHistory()
	c.awsHistory()
	c.rotation()
	c.sweep()
	c.malformed()
	c.Plant("weak token", c.weak.Token) // only now, because its own answer shows it
	for _, path := range []string{"sys/metrics?format=prometheus", "sys/internal/ui/mounts", "sys/mounts",
		"sys/leases/count"} {
		c.clean("the answer to "+path, c.good("GET", path, nil).Body)
	}
	// After a kill, the store's log, which is not compressed, still has everything.
	c.s.Kill()
	c.files()
	c.s.StartServing(t)
	c.good("GET", "kv2/data/app", nil)
	c.s.Stop(t)
	c.files()
}

// plant plants a secret that is long enough to be found and contains characters that programs
// escape.
func (c *canaries) plant(what string) string { return c.Plant(what, "CANARY%"+rand.Text()+`"\é`) }

// plain plants a secret without characters that must be escaped.
func (c *canaries) plain(what string) string { return c.Plant(what, "CANARY"+rand.Text()) }

// clean reports each secret found in a text.
func (c *canaries) clean(where string, text []byte) {
	c.t.Helper()
	for _, what := range c.Found(text) {
		leak := where + ": " + what
		if c.seen[leak] {
			continue
		}
		c.seen[leak] = true
		for line := range strings.Lines(string(text)) {
			if slices.Contains(c.Found([]byte(line)), what) {
				c.t.Errorf("%s leaked into %s: %.4000s", what, where, line)
				break
			}
		}
	}
}

// files checks everything that the server has written.
func (c *canaries) files() {
	c.t.Helper()
	err := filepath.WalkDir(c.s.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.s.Dir, path)
		if err != nil {
			return err
		}
		c.clean(rel, text)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// good sends a request with the root token, which must succeed.
func (c *canaries) good(method, path string, body any) *harness.Answer {
	c.t.Helper()
	return c.root.Must(c.t, method, path, body)
}

// ask sends a request, which may fail. It checks the answer if it is an error, or if the caller
// may not see the secrets.
func (c *canaries) ask(who *harness.Client, method, path string, body any, head ...string) *harness.Answer {
	c.t.Helper()
	a, err := who.Do(method, path, body, head...)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return &harness.Answer{}
	}
	if a.Status >= 400 || who != c.root {
		c.clean(fmt.Sprintf("the answer (%d) to %s %s", a.Status, method, path), a.Body)
	}
	c.clean(fmt.Sprintf("the answer's headers to %s %s", method, path), fmt.Appendf(nil, "%v", a.Header))
	return a
}

// token creates a token and plants it.
func (c *canaries) token(what string, options object) string {
	c.t.Helper()
	token := c.good("POST", "auth/token/create", options).Text("auth", "client_token")
	return c.Plant(what, token)
}

func (c *canaries) keyValues() {
	c.good("POST", "sys/mounts/kv1", object{"type": "kv", "options": object{"version": "1"}})
	c.good("POST", "sys/mounts/kv2", object{"type": "kv", "options": object{"version": "2"}})
	c.good("PUT", "kv1/app", object{"password": c.plant("KV v1 value"),
		"deep": object{"list": []any{c.plant("KV v1 value in a list"), 1, true}}})
	c.good("PUT", "kv2/data/app",
		object{"data": object{"password": c.plant("KV v2 value"), "deep": object{"x": c.plain("KV v2 deep value")}}})
	c.good("PATCH", "kv2/data/app", object{"data": object{"more": c.plant("KV v2 patched value")}})
	c.good("PUT", "kv2/metadata/app", object{"custom_metadata": object{"note": c.plant("custom metadata")}})
	c.good("GET", "kv1/app", nil)
	c.good("GET", "kv2/data/app?version=1", nil)
	c.good("GET", "kv2/subkeys/app", nil)
	c.ask(c.root, "PUT", "kv2/data/app",
		object{"options": object{"cas": 7}, "data": object{"x": c.plant("value of a lost CAS")}})
	c.ask(c.root, "PUT", "kv2/data/app", object{"data": c.plant("value of the wrong type")})
	c.ask(c.root, "PUT", "kv2/data/app",
		object{"options": object{"cas": c.plant("CAS of the wrong type")}, "data": object{}})
	c.ask(c.root, "PUT", "kv2/data/app", object{"password": c.plant("value without data")})
	c.ask(c.root, "PUT", "kv2/metadata/app",
		object{"custom_metadata": object{"x": strings.Repeat(c.plain("long custom metadata"), 40)}})
	c.ask(c.root, "PUT", "kv2/metadata/app", object{"delete_version_after": c.plant("duration")})
	c.good("PUT", "cubbyhole/mine", object{"x": c.plant("cubbyhole value")})
}

func (c *canaries) tokens() {
	c.token("periodic token", object{"policies": []string{"default"}, "period": "1h"})
	batch := c.token("batch token", object{"policies": []string{"default"}, "type": "batch", "ttl": "1h"})
	chosen := c.token("chosen token id", object{"id": c.plain("chosen token id"), "policies": []string{"default"}})
	c.good("POST", "auth/token/lookup", object{"token": chosen})
	c.good("POST", "auth/token/renew", object{"token": chosen})
	c.good("POST", "sys/capabilities", object{"token": chosen, "paths": []string{"x"}})
	c.ask(c.root, "POST", "auth/token/renew", object{"token": batch})
	c.ask(c.root, "POST", "auth/token/revoke", object{"token": batch})
	for _, path := range []string{"lookup", "renew", "revoke", "revoke-orphan"} {
		c.ask(c.root, "POST", "auth/token/"+path, object{"token": c.plant("unknown token for " + path)})
		// In the path; see TestTokensInPaths for more.
		unknown := c.plain("unknown token in the path of " + path)
		for _, target := range []string{path + "/" + unknown, path + "/" + unknown + "/", path + "//" + unknown,
			strings.ToUpper(path) + "/" + unknown} {
			c.ask(c.weak, "POST", "auth/token/"+target, nil)
			c.ask(c.nobody, "GET", "auth/token/"+target, nil)
			c.ask(c.root, "PUT", "auth/token/"+target, object{"increment": "1h"})
		}
	}
	c.ask(c.root, "POST", "auth/token/create", object{"id": "hvs." + c.plain("bad token id")})
	c.ask(c.root, "POST", "auth/token/create", object{"id": c.plant("token id with bad characters")})
	c.ask(c.s.Client(c.plain("token of nobody")), "GET", "auth/token/lookup-self", nil)
	c.ask(c.s.Client(c.plain("token of nobody writing")), "PUT", "kv2/data/app",
		object{"data": object{"x": c.plant("value of nobody")}})
	c.ask(c.nobody, "GET", "kv2/data/app", nil, "Authorization", "Bearer "+c.plain("bearer"))
	c.ask(c.weak, "PUT", "kv2/data/app", object{"data": object{"x": c.plant("value of one who may not")}})
	c.good("POST", "auth/token/revoke", object{"token": chosen})
	c.ask(c.s.Client(chosen), "GET", "auth/token/lookup-self", nil)
}

func (c *canaries) wrapping() {
	wrap := func(what string, body object) string {
		a, err := c.root.Do("POST", "sys/wrapping/wrap", body, "X-Vault-Wrap-TTL", "5m")
		if err != nil || a.Status != 200 {
			c.t.Fatalf("wrapping: %v %v", a, err)
		}
		return c.Plant("wrapping token "+what, a.Text("wrap_info", "token"))
	}
	one := wrap("one", object{"x": c.plant("wrapped value")})
	c.good("POST", "sys/wrapping/lookup", object{"token": one})
	two := c.Plant("rewrapped token",
		c.good("POST", "sys/wrapping/rewrap", object{"token": one}).Text("wrap_info", "token"))
	c.ask(c.root, "POST", "sys/wrapping/unwrap", object{"token": one})
	c.good("POST", "sys/wrapping/unwrap", object{"token": two})
	c.ask(c.root, "POST", "sys/wrapping/unwrap", object{"token": two})
	c.ask(c.nobody, "POST", "sys/wrapping/unwrap", object{"token": c.plant("unknown wrapping token")})
	three := wrap("three", object{"y": c.plant("wrapped and left")})
	c.ask(c.s.Client(three), "GET", "auth/token/lookup-self", nil)
	a := c.ask(c.root, "GET", "kv2/data/app", nil, "X-Vault-Wrap-TTL", "1m")
	c.Plant("token of a wrapped read", a.Text("wrap_info", "token"))
	c.clean("the answer to a wrapped read",
		[]byte(strings.ReplaceAll(string(a.Body), a.Text("wrap_info", "token"), "")))
	c.good("POST", "sys/tools/hash", object{"input": "Q0FOQVJZ"})
	c.ask(c.root, "POST", "sys/tools/hash", object{"input": c.plant("input to hash, no base64")})
	c.Plant("random bytes", c.good("POST", "sys/tools/random/64", nil).Text("data", "random_bytes"))
}

func (c *canaries) policies() {
	c.good("PUT", "sys/policies/acl/secretive",
		object{"policy": "# " + c.plant("comment in a policy") + "\npath \"x\" { capabilities = [\"read\"] }"})
	c.good("PUT", "sys/policies/acl/parameters", object{"policy": `path "y" { capabilities = ["update"]
		allowed_parameters = { "p" = ["` + c.plain("allowed parameter") + `"] } }`})
	for i, text := range []string{
		`path "x" { capabilities = ["fly"] } # ` + c.plain("comment in a broken policy"),
		`path "` + c.plain("path in a broken policy") + `" {`,
		`word = 1`, `{"path": "` + c.plain("JSON in a broken policy") + `"`,
	} {
		// The author of the policy gets the error with the text, nobody else.
		c.root.Must(c.t, "PUT", fmt.Sprintf("sys/policies/acl/broken%d", i), object{"policy": text}, 400)
	}
	c.good("PUT", "sys/policies/password/long", object{"policy": `length = 30
		rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" }`})
	c.Plant("generated password", c.good("GET", "sys/policies/password/long/generate", nil).Text("data", "password"))
	c.ask(c.root, "PUT", "sys/policies/password/broken",
		object{"policy": `length = "` + c.plain("password policy") + `"`})
	c.good("POST", "sys/audit-hash/file", object{"input": c.plant("input to an audit hash")})
}

func (c *canaries) database() {
	c.good("POST", "sys/mounts/database", object{"type": "database"})
	password := c.plain("database administrator's password")
	c.pg.Exec(c.t, "postgres", "CREATE ROLE admin SUPERUSER LOGIN PASSWORD '"+password+"'")
	config := func(over object) object {
		all := object{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "admin",
			"password":       password,
			"connection_url": "postgresql://{{username}}:{{password}}@" + c.pg.Addr() + "/postgres",
		}
		for name, v := range over {
			all[name] = v
		}
		return all
	}
	c.good("POST", "database/config/good", config(nil))
	for what, over := range map[string]object{
		"wrong password":     {"password": c.plain("wrong password")},
		"wrong odd password": {"password": c.plant("wrong odd password")},
		"password in the URL": {"connection_url": "postgresql://admin:" + c.plain("wrong password in the URL") +
			"@" + c.pg.Addr() + "/postgres"},
		"URL that cannot be": {"connection_url": "postgresql://admin:" + c.plain("password in a bad URL") +
			"%zz@" + c.pg.Addr() + "/postgres"},
		"host that is none": {"connection_url": "postgresql://admin:" + c.plain("password to no host") +
			"@no-such-host.invalid/postgres"},
		"port that is closed":    {"connection_url": "postgresql://{{username}}:{{password}}@127.0.0.1:1/postgres"},
		"key that is none":       {"private_key": c.plant("private key")},
		"words":                  {"connection_url": "host=" + c.pg.Host + " password=" + c.plain("password in words") + " port=x"},
		"unescaped odd password": {"disable_escaping": true, "password": c.plant("unescaped password")},
	} {
		c.ask(c.root, "POST", "database/config/"+strings.ReplaceAll(what, " ", "-"), config(over))
	}
	c.good("GET", "database/config/good", nil)
	// PostgreSQL refuses these statements and quotes the password.
	for role, sql := range map[string]string{
		"good":     `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'`,
		"unquoted": `CREATE ROLE "{{name}}" LOGIN PASSWORD {{password}}`,
		"cast":     `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'; SELECT '{{password}}'::int`,
		"raise":    `DO $$ BEGIN RAISE EXCEPTION 'no: {{password}} of {{name}}'; END $$`,
		"relation": `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}'; GRANT SELECT ON "{{password}}" TO "{{name}}"`,
	} {
		c.good("POST", "database/roles/"+role,
			object{"db_name": "good", "creation_statements": sql, "default_ttl": "1h"})
		a := c.ask(c.root, "GET", "database/creds/"+role, nil)
		if role == "good" {
			c.Plant("database password", a.Text("data", "password"))
			c.good("PUT", "sys/leases/lookup", object{"lease_id": a.Text("lease_id")})
		} else if a.Status < 400 {
			c.t.Errorf("creds/%s: status %d, want an error", role, a.Status)
		}
	}
	// PostgreSQL's own log contains passwords that no client has received.
	found := regexp.MustCompile(`(?:PASSWORD '?|no: |SELECT ')([A-Za-z0-9-]{16,})`).FindAllStringSubmatch(
		c.pg.LogTail(1<<20), -1)
	for i, m := range found {
		if m[1] != password {
			c.Plant(fmt.Sprintf("generated database password %d", i), m[1])
		}
	}
	if len(found) < 5 {
		c.t.Errorf("only %d passwords are in PostgreSQL's log: this tests nothing", len(found))
	}
	c.keyPairs()
}

func (c *canaries) rotation() {
	mounts := c.good("GET", "sys/mounts", nil)
	if mounts.Get("data", "rotation/") == nil {
		c.good("POST", "sys/mounts/rotation", object{"type": "rotation"})
	}
	admin := c.plain("wrong admin token of a provider")
	key := func(token, url string) object {
		return object{
			"recipe": "http-demo", "params": object{"url": url}, "admin": object{"token": token}, "path": "kv2/turned",
			"rotation_period": "1h", "settle_successes": 1, "settle_interval": "1s", "read_ttl": "1s",
			"grace_period": "10s",
		}
	}
	// The planted token has bytes that no header may contain; the provider's token has not.
	c.ask(c.root, "POST", "rotation/keys/odd", key(c.plant("odd admin token"), c.keysURL))
	c.ask(c.root, "POST", "rotation/keys/wrong", key(admin, c.keysURL))
	c.ask(c.root, "POST", "rotation/keys/wrong/rotate", nil)
	c.ask(c.root, "POST", "rotation/keys/url", key(c.plain("admin token to a closed port"), "http://127.0.0.1:1"))
	c.ask(c.root, "POST", "rotation/keys/url/rotate", nil)
	c.ask(c.root, "PUT", "rotation/recipes/broken", object{"recipe": `name = "` + c.plain("word in a broken recipe")})
	for _, path := range []string{"rotation/keys/wrong", "rotation/keys/wrong/history?steps=true&rotation=1",
		"rotation/keys/url/history?steps=true", "rotation/keys/wrong/plan"} {
		c.clean("the answer to "+path, c.ask(c.root, "GET", path, nil).Body)
	}
}

// sweep sends each request of the API with secrets in all its fields, as callers that may and that
// may not.
func (c *canaries) sweep() {
	value := c.plant("value of every field")
	fields := []string{
		"data", "options", "policy", "rules", "token", "lease_id", "id", "accessor", "path", "paths", "type",
		"description", "config", "input",
		"format", "bytes", "ttl", "increment", "period", "policies", "meta", "role_name", "from", "to", "max_versions",
		"cas_required",
		"custom_metadata", "versions", "password", "connection_url", "plugin_name", "creation_statements", "db_name",
		"admin", "params", "provider",
		"recipe", "fields", "leaked", "reason", "brake", "key", "secret_shares", "unknown_field",
	}
	texts, lists, objects, deep := object{}, object{}, object{}, object{}
	for _, f := range fields {
		texts[f], lists[f], objects[f], deep[f] = value, []any{value,
			1}, object{"x": value}, []any{object{"x": []any{value}}}
	}
	bodies := []any{
		nil, texts, lists, objects, deep, `{"data":{"x":"` + c.plain("broken JSON") + `"`,
		`["` + c.plain("a list as a body") + `"]`,
		`{"data":{"x":"` + c.plain("a key twice") + `","x":"2"}}`, `data=` + c.plain("a form"),
	}
	for _, path := range sweepPaths {
		for _, method := range []string{"GET", "LIST", "POST", "PATCH", "DELETE"} {
			for _, body := range bodies {
				if body != nil && method != "POST" && method != "PATCH" {
					continue
				}
				for _, who := range []*harness.Client{c.weak, c.nobody, c.root} {
					c.ask(who, method, path, body)
				}
			}
		}
	}
	for _, query := range []string{"list", "version", "depth", "limit", "after", "format", "help", "x"} {
		c.ask(c.root, "GET", "kv2/data/app?"+query+"="+c.plain("query parameter "+query), nil)
	}
	for _, name := range []string{"X-Vault-Wrap-TTL", "X-Vault-Namespace", "X-Vault-Wrap-Format", "Content-Type",
		"Cookie", "X-Forwarded-For", "Authorization"} {
		c.ask(c.root, "GET", "kv2/data/app-none", nil, name, c.plain("header "+name))
		c.ask(c.weak, "PATCH", "kv2/data/app", object{"data": object{}}, name, c.plain("header of PATCH "+name))
	}
}

var sweepPaths = []string{
	"kv1/app", "kv1/x", "kv2/config", "kv2/data/x", "kv2/delete/x", "kv2/undelete/x", "kv2/destroy/x", "kv2/subkeys/x",
	"kv2/metadata/x", "kv2/metadata",
	"kv2/nothing/x", "cubbyhole/x", "database/config/x", "database/config", "database/roles/x", "database/roles",
	"database/creds/x", "database/reset/x",
	"database/creds/unquoted", "database/static-roles/x", "database/rotate-root/good", "rotation/keys/x",
	"rotation/keys", "rotation/keys/wrong",
	"rotation/keys/x/rotate", "rotation/keys/x/rollback", "rotation/keys/x/pause", "rotation/keys/x/resume",
	"rotation/keys/x/history", "rotation/keys/x/plan",
	"rotation/keys/x/rebind", "rotation/recipes", "rotation/recipes/x", "rotation/recipes/http-demo",
	"rotation/config",
	"auth/token/create", "auth/token/create-orphan", "auth/token/create/x", "auth/token/lookup",
	"auth/token/lookup-self", "auth/token/lookup-accessor",
	"auth/token/renew", "auth/token/renew-accessor", "auth/token/revoke", "auth/token/revoke-accessor",
	"auth/token/revoke-orphan", "auth/token/roles/x",
	"auth/token/roles", "auth/token/accessors", "auth/token/tidy", "auth/nothing/login",
	"sys/health", "sys/seal-status", "sys/leader", "sys/init", "sys/unseal", "sys/auth", "sys/auth/x",
	"sys/auth/token/tune", "sys/mounts", "sys/mounts/x",
	"sys/mounts/kv2/tune", "sys/remount", "sys/policies/acl", "sys/policies/acl/x", "sys/policy", "sys/policy/x",
	"sys/policies/password",
	"sys/policies/password/x", "sys/policies/password/x/generate", "sys/capabilities-accessor",
	"sys/leases/lookup", "sys/leases/lookup/x", "sys/leases/renew", "sys/leases/revoke", "sys/leases/revoke-prefix/x",
	"sys/leases/revoke-force/x",
	"sys/leases/tidy", "sys/leases/count", "sys/renew/x", "sys/revoke/x", "sys/wrapping/wrap", "sys/wrapping/unwrap",
	"sys/wrapping/lookup",
	"sys/wrapping/rewrap", "sys/tools/random", "sys/tools/random/x", "sys/tools/hash", "sys/tools/hash/x", "sys/audit",
	"sys/audit/x", "sys/audit-hash/file",
	"sys/audit-hash/x", "sys/internal/ui/mounts", "sys/internal/ui/mounts/x", "sys/internal/ui/resultant-acl",
	"sys/metrics", "sys/rotate", "sys/nothing", "nothing/x",
}

// malformed sends invalid requests.
func (c *canaries) malformed() {
	for what, raw := range map[string]string{
		"no version": "GET /v1/" + c.plain("target without a version") + "\r\n\r\n",
		"bad header": "GET /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\n" + c.plain("header without a colon") + "\r\n\r\n",
		"space in a header": "GET /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nX-Vault Token: " +
			c.plain("header with a space") + "\r\n\r\n",
		"bad length": "POST /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nContent-Length: " + c.plain("length") + "\r\n\r\n",
		"cut body": "POST /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + c.s.Root +
			"\r\nConnection: close\r\nContent-Length: 4\r\n\r\n{\"a\"" + c.plain("body behind its length"),
		"bad chunk": "POST /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Vault-Token: " +
			c.s.Root + "\r\nTransfer-Encoding: chunked\r\n\r\n" + c.plain("chunk") + "\r\n",
		"control character": "GET /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nX-Vault-Token: \x01" +
			c.plain("token with a control character") + "\r\n\r\n",
		"no method": c.plain("method") + " /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"TLS":       "\x16\x03\x01\x02\x00" + c.plain("no handshake") + "\r\n\r\n",
		"bad escape": "GET /v1/kv2/data/%zz?token=" + c.plain("behind a bad escape") +
			" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"bad host": "GET /v1/kv2/data/app HTTP/1.1\r\nHost: " + c.plain("host") + "@/\r\nConnection: close\r\n\r\n",
		"huge header": "GET /v1/kv2/data/app HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " +
			strings.Repeat(c.plain("huge token"), 4000) + "\r\n\r\n",
	} {
		answer, err := harness.Raw(c.s.Address, raw, await.Patience)
		if err == nil {
			c.clean("the answer to "+what, []byte(answer))
		}
	}
}
