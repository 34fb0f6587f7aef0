package inprocess_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/barrier/barriertest"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// rescues are the only routes that work while no audit device can write.
var rescues = []string{"delete sys/audit/{path...}", "update sys/seal"}

// everyRoute returns the routes of each mount of a server with all engines.
func everyRoute(t *testing.T, out *outside) map[string][]route.Route {
	t.Helper()
	ctx, b := t.Context(), barriertest.Open(t, memory.Open())
	log := slog.New(slog.DiscardHandler)
	all := map[string][]route.Route{"sys/": slices.Concat(sys.Routes(sys.Config{}), node.Routes(node.Config{}))}
	for _, m := range plugins.AuthMethods {
		a, err := m.Open(ctx,
			&auth.Mount{Store: b.View("a/"), Log: log, Settings: func() auth.Settings { return auth.Settings{} }})
		if err != nil {
			t.Fatal(err)
		}
		all["auth/"+m.Name+"/"] = a.Routes()
	}
	for _, e := range append(slices.Clone(plugins.Engines), out.issuerType(),
		engine.Type{Name: "kv2", Open: kvOpen()}) {
		m := &engine.Mount{UUID: e.Name, Type: e.Name, Store: b.View("mount/" + e.Name + "/"), Log: log}
		m.Settings = func() engine.Settings { return engine.Settings{Path: e.Name + "/"} }
		if e.Name == "kv2" {
			m.Settings = func() engine.Settings {
				return engine.Settings{Path: "kv2/", Options: map[string]string{"version": "2"}}
			}
		}
		opened, err := e.Open(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name+"/"] = opened.Routes()
	}
	return all
}

func kvOpen() func(context.Context, *engine.Mount) (engine.Engine, error) {
	return plugins.Engines[slices.IndexFunc(plugins.Engines, func(e engine.Type) bool { return e.Name == "kv" })].Open
}

// lasting returns the rows of a store that only requests change.
func lasting(t *testing.T, st storage.Store) map[string]storage.Version {
	t.Helper()
	kept := map[string]storage.Version{}
	for key, e := range rows(t, st) {
		if !strings.HasPrefix(key, "count/") && !strings.HasPrefix(key, "core/clock") &&
			!strings.HasPrefix(key, "core/audit-position") {
			kept[key] = e.Version
		}
	}
	return kept
}

// TestFailClosed calls every route of every mount, with and without a token, wrapped, and for
// help, while no audit device can write. No route answers or has an effect, except those that an
// operator needs then.
func TestFailClosed(t *testing.T) {
	st, out := memory.Open(), newOutside()
	s, _ := launch(t, core.Config{
		Store: st, Audits: []audit.Type{out.tape.Type()},
		Metrics: func(context.Context, string, string) ([]byte, string, error) {
			return []byte("metric 1\n"), "text/plain", nil
		},
		Types: core.Types{Engines: append(slices.Clone(plugins.Engines), out.issuerType()),
			Auths: plugins.AuthMethods},
	})
	all := everyRoute(t, out)
	s.must(t, route.Write, "sys/mounts/kv2", s.root, `{"type":"kv","options":{"version":"2"}}`)
	for _, kind := range []string{"kv", "database", "issuer"} {
		s.must(t, route.Write, "sys/mounts/"+kind, s.root, fmt.Sprintf(`{"type":%q}`, kind))
	}
	for _, path := range []string{"kv/x", "kv/x/x", "cubbyhole/x", "kv2/data/x", "sys/policies/password/x"} {
		s.must(t, route.Write, path, s.root,
			`{"data":{"x":"y"},"policy":"length = 8 rule \"charset\" { charset = \"ab\" }"}`)
	}
	wrapped, err := s.askWrapped(t, route.Read, "kv/x", s.root, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.must(t, route.Write, "sys/audit/tape", s.root, `{"type":"tape"}`)
	out.tape.Fail(true)
	before := lasting(t, st)
	body := fmt.Sprintf(
		`{"data":{"a":"b"},"token":%q,"type":"kv","policy":"path \"a\" {}","versions":[1],"from":"kv","to":"moved","input":"eA==","paths":["a"]}`, wrapped.Wrap["token"])
	asked := 0
	for _, mount := range slices.Sorted(maps.Keys(all)) {
		for _, r := range all[mount] {
			if name := string(r.Op) + " " + mount + r.Pattern; r.Rescue {
				if !slices.Contains(rescues, name) {
					t.Errorf("%s is a rescue, and not in the list", name)
				}
				continue
			}
			path := strings.TrimSuffix(mount+r.Pattern, "/")
			for seg := range strings.SplitSeq(r.Pattern, "/") {
				if strings.HasPrefix(seg, "{") {
					path = strings.Replace(path, seg, "x", 1)
				}
			}
			for _, tok := range []string{s.root, "", "hvs.nobody", wrapped.Wrap["token"].(string)} {
				for _, wrap := range []time.Duration{0, time.Minute} {
					for _, op := range []route.Op{r.Op, route.Help} {
						text := ""
						if op == route.Write || op == route.Patch {
							text = body
						}
						asked++
						if a, err := s.askWrapped(t, op, path, tok, text, wrap); !fault.Is(err, fault.Unavailable) {
							t.Errorf("%s %s (token %.10s, wrapped %s) answered %+v, %v", op, path, tok, wrap, a, err)
						}
					}
				}
			}
		}
	}
	if d := cmp.Diff(before, lasting(t, st)); d != "" {
		t.Errorf("what is stored has changed (-before +after):\n%s", d)
	}
	if len(out.Attempts()) > 0 {
		t.Errorf("outside there are %v", out.Attempts())
	}
	t.Logf("%d requests", asked)
	for _, tok := range []string{"", "hvs.nobody"} {
		if _, err := s.ask(t, route.Write, "sys/seal", tok, ""); err == nil {
			t.Errorf("a rescue is served to %q", tok)
		}
	}
	s.must(t, route.Delete, "sys/audit/tape", s.root, "")
	s.must(t, route.Read, "kv/x", s.root, "")
}
