package inprocess_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// touched is a store that records the requested keys.
type touched struct {
	storage.Store
	mu   sync.Mutex
	keys []string
}

func (s *touched) note(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, keys...)
}

// since returns the keys since the last call.
func (s *touched) since() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.keys
	s.keys = nil
	return keys
}

func (s *touched) Get(ctx context.Context, key string) (storage.Entry, error) {
	s.note(key)
	return s.Store.Get(ctx, key)
}

func (s *touched) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	s.note(from)
	return s.Store.Scan(ctx, from, to)
}

func (s *touched) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	for _, op := range b.Ops {
		s.note(op.Key)
	}
	return s.Store.Commit(ctx, b)
}

// everyMount returns a server with one mount of each kind of engine, and their paths.
func everyMount(t *testing.T, st storage.Store) (*server, map[string]string) {
	t.Helper()
	s, _ := launch(t, core.Config{
		Store: st, StorageName: "memory", ClusterName: "test",
		Types: core.Types{Engines: append(slices.Clone(plugins.Engines), newOutside().issuerType()),
			Auths: plugins.AuthMethods},
	})
	at := map[string]string{"sys/": "sys/", "cubbyhole/": "cubbyhole/", "rotation/": "rotation/"}
	for _, m := range plugins.AuthMethods {
		at["auth/"+m.Name+"/"] = "auth/" + m.Name + "/"
	}
	for name, body := range map[string]string{"kv": `{"type":"kv"}`, "kv2": `{"type":"kv-v2"}`,
		"database": `{"type":"database"}`, "aws": `{"type":"aws"}`, "issuer": `{"type":"issuer"}`} {
		s.must(t, route.Write, "sys/mounts/"+name, s.root, body)
		at[name+"/"] = name + "/"
	}
	return s, at
}

// bodies are bodies that let a write reach the store, by the beginning of the route.
var bodies = []struct{ prefix, body string }{
	{"sys/policies/password", `{"policy":"length = 8 rule \"charset\" { charset = \"ab\" }"}`},
	{"sys/polic", `{"policy":"path \"x\" { capabilities = [\"read\"] }"}`},
	{"sys/mounts", `{"type":"kv"}`},
	{"sys/auth", `{"type":"approle"}`},
	{"sys/config/ui/headers", `{"values":["a"]}`},
	{"sys/audit", `{"type":"file","options":{"file_path":"/nowhere/a.log"}}`},
	{"auth/token/create", `{"policies":["default"]}`},
	{"auth/token/roles", `{"allowed_policies":["default"]}`},
	{"database/config",
		`{"plugin_name":"postgresql-database-plugin","connection_url":"postgresql://{{username}}:{{password}}@db.example.com/x","username":"a","password":"b","verify_connection":false}`},
	{"database/roles",
		`{"db_name":"db","creation_statements":"CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'"}`},
	{"database/static-roles",
		`{"db_name":"db","username":"u","rotation_period":"1h","skip_import_rotation":true,"password":"p"}`},
	{"aws/roles", `{"credential_type":"iam_user","policy_arns":["arn:aws:iam::aws:policy/ReadOnlyAccess"]}`},
	{"aws/static-roles", `{"username":"u","rotation_period":"24h"}`},
	{"rotation/keys", `{"recipe":"http-demo","path":"kv2/x"}`},
	{"rotation/recipes", `{"source":"x"}`},
	{"kv2/", `{"data":{"a":"b"},"versions":[1]}`},
	{"kv2/metadata", `{"max_versions":3}`},
	{"kv/", `{"a":"b"}`},
	{"cubbyhole/", `{"a":"b"}`},
}

func bodyFor(path string) string {
	body := "{}"
	for _, b := range bodies { // the last match is the most specific
		if strings.HasPrefix(path, b.prefix) {
			body = b.body
		}
	}
	return body
}

// TestEveryNameIsActedUponAsItWasJudged calls every route whose path has a name, with names that
// code might fold, trim or split. The handler must use exactly the text that the policy checked. A
// refused request reads nothing.
func TestEveryNameIsActedUponAsItWasJudged(t *testing.T) {
	st := &touched{Store: memory.Open()}
	s, at := everyMount(t, st)
	routes, requests, looked := 0, 0, map[string]bool{}
	tables := everyRoute(t, newOutside())
	tables["sys/"] = append(tables["sys/"], node.Routes(node.Config{})...)
	for mount, all := range tables {
		if at[mount] == "" {
			t.Errorf("%s is not mounted in this test: mount it in everyMount", mount)
			continue
		}
		for _, r := range all {
			if !strings.Contains(r.Pattern, "{") {
				continue
			}
			routes++
			for _, form := range []string{"zq%dxk", "ZQ%dXK", "Zq%dxK", "zq%dxk ", " zq%dxk", "zq%dxk,b", "a,zq%dxk",
				"zq%dxk.", "zq%dxk%%", "zq%dxk\u00a0", "zq%dxk-é"} {
				requests++
				name := fmt.Sprintf(form, requests)
				for _, key := range keysOf(t, s, st, at[mount], r, name, fmt.Sprintf("zq%dxk", requests)) {
					looked[string(r.Op)+" "+mount+r.Pattern] = true
					if !strings.Contains(key, name) {
						t.Errorf("%s %s%s with %q asked the store for %q", r.Op, mount, r.Pattern, name, key)
					}
				}
			}
		}
	}
	t.Logf("%d routes have names in their paths, %d of them look into the store by it here", routes, len(looked))
	if len(looked) < routes/2 {
		t.Errorf("of %d routes only %d came as far as the store: %v", routes, len(looked), looked)
	}
}

// keysOf sends one request and returns the requested keys that contain the stem of its name. Each
// request has its own stem, because jobs continue after it.
func keysOf(t *testing.T, s *server, st *touched, mount string, r route.Route, name, stem string) (keys []string) {
	t.Helper()
	var segs []string
	for seg := range strings.SplitSeq(r.Pattern, "/") {
		if strings.HasPrefix(seg, "{") {
			seg = name
		}
		segs = append(segs, seg)
	}
	path := route.Path(mount + strings.Join(segs, "/"))
	if r.Op == route.List {
		path += "/"
	}
	req := &route.Request{ID: core.NewRequestID(), Op: r.Op, Path: path, Token: secret.Text(s.root)}
	if r.Op == route.Write || r.Op == route.Patch {
		req.Body = []byte(bodyFor(string(path)))
	}
	st.since()
	_, err := s.Handle(t.Context(), req)
	if fault.Is(err, fault.Internal) {
		t.Errorf("%s %s: %v", r.Op, path, err)
	}
	for _, key := range st.since() {
		if strings.Contains(strings.ToLower(key), stem) {
			keys = append(keys, key)
		}
	}
	return keys
}
