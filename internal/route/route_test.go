package route_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		in   string
		list bool
		want route.Path
		ok   bool
	}{
		{"secret/data/a", false, "secret/data/a", true},
		{"/secret/data/a/", false, "secret/data/a", true},
		{"secret/metadata", true, "secret/metadata/", true},
		{"secret/metadata/", true, "secret/metadata/", true},
		{"a%20b/c", false, "a b/c", true},
		{"a%2Fb", false, "a/b", true}, // an escaped slash is a slash, for router and policy alike
		{"100%25", false, "100%", true},
		{"", false, "", true},
		{"a//b", false, "", false},
		{"a/./b", false, "", false},
		{"a/../b", false, "", false},
		{"a/%2e%2e/b", false, "", false},
		{"a/%252e%252e/b", false, "", false},
		{"a/%25252e./b", false, "", false},
		{"a/..%2fb", false, "", false},
		{"a/%00", false, "", false},
		{"a/%2500", false, "", false},
		{"a/x%252fy", false, "", false},
		{"a/%zz", false, "", false},
		{"a/%ff", false, "", false},
		{"a/%0a", false, "", false},
		{strings.Repeat("a", 1025), false, "", false},
	} {
		got, err := route.ParsePath(tt.in, tt.list)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("ParsePath(%q, %v) = %q, %v; want %q, ok %v", tt.in, tt.list, got, err, tt.want, tt.ok)
		}
	}
}

// A canonical path is its own canonical form, whatever it came from, and has
// no segment that somebody who decodes again would read as another path.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a/b", "a/%2e%2e/b", "a//b", "%252f", "ü/%C3%BC", "a%"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, in string, list bool) {
		p, err := route.ParsePath(in, list)
		if err != nil || p == "" {
			return
		}
		again, err := route.ParsePath((&url.URL{Path: string(p)}).EscapedPath(), list)
		if err != nil || again != p {
			t.Fatalf("ParsePath(%q) = %q, whose own form is %q, %v", in, p, again, err)
		}
		if strings.HasSuffix(string(p), "/") != list {
			t.Fatalf("ParsePath(%q, %v) = %q", in, list, p)
		}
		for seg := range strings.SplitSeq(strings.TrimSuffix(string(p), "/"), "/") {
			for range 4 {
				if seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "/\x00") {
					t.Fatalf("ParsePath(%q) = %q hides %q", in, p, seg)
				}
				next, err := url.PathUnescape(seg)
				if err != nil {
					break
				}
				seg = next
			}
		}
	})
}

type in struct {
	Name string `path:"name"`
	N    int    `json:"n"`
}

type out struct {
	Got string `json:"got"`
}

func table(t *testing.T) *route.Table {
	t.Helper()
	h := func(tag string) func(context.Context, *route.Request, route.None) (out, error) {
		return func(_ context.Context, r *route.Request, _ route.None) (out, error) {
			return out{tag + ":" + r.Param("name") + ":" + r.Param("path")}, nil
		}
	}
	tab, err := route.NewTable([]route.Route{
		route.On(route.Read, "roles/{name}", h("role")),
		route.On(route.List, "roles", h("roles")),
		route.On(route.Read, "roles/special", h("special")),
		route.On(route.Write, "data/{path...}", h("data")),
		route.On(route.List, "data/{path...}", h("datalist")),
		route.On(route.Read, "roles/{name}/generate", h("generate")),
		route.On(route.Write, "n/{name}", func(_ context.Context, _ *route.Request, i in) (out, error) {
			return out{i.Name + strings.Repeat("!", i.N)}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestFind(t *testing.T) {
	tab := table(t)
	for _, tt := range []struct {
		op   route.Op
		rest string
		want string
		kind fault.Kind
	}{
		{route.Read, "roles/a", "role:a:", 0},
		{route.Read, "roles/special", "special::", 0},
		{route.Read, "roles/a/generate", "generate:a:", 0},
		{route.List, "roles/", "roles::", 0},
		{route.Create, "data/a/b", "data::a/b", 0},
		{route.List, "data/", "datalist::", 0},
		{route.List, "data/x/", "datalist::x", 0},
		{route.Write, "data", "", fault.Unsupported},
		{route.Delete, "roles/a", "", fault.Unsupported},
		{route.Read, "nope", "", fault.NotFound},
		{route.Read, "roles/a/b/c", "", fault.NotFound},
	} {
		r := &route.Request{Op: tt.op, Rest: tt.rest}
		ro, err := tab.Find(r)
		if err != nil {
			if tt.want != "" || !fault.Is(err, tt.kind) {
				t.Errorf("Find(%s %s): %v", tt.op, tt.rest, err)
			}
			continue
		}
		got, err := ro.Serve(t.Context(), r)
		if err != nil || got.(out).Got != tt.want {
			t.Errorf("%s %s served %v, %v; want %q", tt.op, tt.rest, got, err, tt.want)
		}
	}
}

func TestDecodeRequest(t *testing.T) {
	tab := table(t)
	r := &route.Request{Op: route.Write, Rest: "n/x", Body: []byte(`{"n":"2","odd":1}`)}
	ro, err := tab.Find(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ro.Serve(t.Context(), r)
	if err != nil || got.(out).Got != "x!!" {
		t.Errorf("served %v, %v", got, err)
	}
	if w := r.Reply().Warnings; len(w) != 1 || !strings.Contains(w[0], "odd") {
		t.Errorf("warnings = %q, want one that names odd", w)
	}
}

func TestNewTableRefuses(t *testing.T) {
	h := func(context.Context, *route.Request, in) (out, error) { return out{}, nil }
	if _, err := route.NewTable([]route.Route{route.On(route.Read, "a", h)}); err == nil {
		t.Error("a path tag without a name in the pattern was accepted")
	}
	if _, err := route.NewTable([]route.Route{
		route.On(route.Read, "{name}", h), route.On(route.Read, "{name}", h),
	}); err == nil {
		t.Error("two routes for one pattern were accepted")
	}
}

type described struct {
	Name   string       `path:"name" doc:"The name."`
	TTL    *int         `json:"ttl" default:"1" doc:"How long."`
	Token  secret.Value `json:"token" doc:"The token."`
	Hidden string       `json:"-"`
	Lists  []string     `json:"lists" doc:"Lists."`
	embedded
}

type embedded struct {
	Inner map[string]string `json:"inner" doc:"Inner."`
}

func TestParams(t *testing.T) {
	r := route.On(route.Write, "a/{name}/{other...}",
		func(context.Context, *route.Request, described) (out, error) { return out{}, nil }).
		WithParam("other", "The rest.").WithParam("inner", "Another inner.")
	want := []route.Param{
		{Name: "name", In: "path", Type: "string", Doc: "The name."},
		{Name: "other", In: "path", Type: "string", Doc: "The rest."},
		{Name: "ttl", In: "body", Type: "integer", Default: "1", Doc: "How long."},
		{Name: "token", In: "body", Type: "string", Doc: "The token.", Secret: true},
		{Name: "lists", In: "body", Type: "list of strings", Doc: "Lists."},
		{Name: "inner", In: "body", Type: "map of strings", Doc: "Another inner."},
	}
	if d := cmp.Diff(want, r.Params()); d != "" {
		t.Error(d)
	}
}

func TestHelp(t *testing.T) {
	tab, err := route.NewTable([]route.Route{
		route.On(route.Read, "roles/{name}", func(context.Context, *route.Request, described) (out, error) {
			return out{}, nil
		}).WithHelp("Reads one."),
		route.On(route.Delete, "roles/{name}", func(context.Context, *route.Request, route.None) (out, error) {
			return out{}, nil
		}).WithSudo().WithHelp("Deletes one."),
		route.On(route.List, "roles/{name...}", func(context.Context, *route.Request, route.None) (out, error) {
			return out{}, nil
		}).WithHelp("Lists them."),
		route.On(route.Read, "other",
			func(context.Context, *route.Request, route.None) (out, error) { return out{}, nil }).WithHelp("Another."),
	})
	if err != nil {
		t.Fatal(err)
	}
	for rest, want := range map[string][]string{
		"roles/a": {"read m/roles/{name}\n    Reads one.", "Deletes one.", "capability sudo",
			"ttl (integer, in the query, 1 by default)\n        How long.", "token (string, in the query, secret)"},
		"roles":     {"list m/roles/{name...}"},
		"":          {`"kv" serves these paths`, "Reads one.", "Another."},
		"elsewhere": {`"kv" serves these paths`},
	} {
		r := &route.Request{Op: route.Help, Rest: rest, Mount: route.Mount{Path: "m/", Type: "kv"}}
		h := tab.HelpOn(r)
		got, err := h.Serve(t.Context(), r)
		if err != nil || !h.Own || r.Reply().Shape != route.Bare {
			t.Fatalf("%q: %v, own %v, shape %v", rest, err, h.Own, r.Reply().Shape)
		}
		for _, part := range want {
			if text := got.(*route.HelpText).Help; !strings.Contains(text, part) {
				t.Errorf("help on %q:\n%s\nwants %q", rest, text, part)
			}
		}
	}
	r := &route.Request{Rest: "other", Mount: route.Mount{Path: "m/"}}
	got, _ := tab.HelpOn(r).Serve(t.Context(), r)
	if text := got.(*route.HelpText).Help; strings.Contains(text, "roles") {
		t.Errorf("help on one path tells of others:\n%s", text)
	}
}

// TestCVE_2026_3605: a path with dot segments, however they are escaped, reaches
// neither the policies nor the engine, and nor does one that hides a slash.
func TestCVE_2026_3605(t *testing.T) {
	for _, dots := range []string{
		".", "..", "%2e", "%2E%2e", ".%2e", "%2e.", "%252e%252e", "%25252e%25252e", "%2525252e.", "%252e", "..%252f",
		"%252e%252e%255c", "a%252fb", "a%255cb", "a%2500",
	} {
		for _, form := range []string{
			"secret/data/%s/a", "%s/secret/data/a", "secret/data/a/%s", "secret/delete/%s/%s/metadata/a",
			"secret%%2f%s%%2fa",
		} {
			for _, list := range []bool{false, true} {
				escaped := strings.ReplaceAll(strings.ReplaceAll(form, "%%", "%"), "%s", dots)
				if p, err := route.ParsePath(escaped, list); !fault.Is(err, fault.Invalid) {
					t.Errorf("ParsePath(%q) = %q, %v", escaped, p, err)
				}
			}
		}
	}
	for _, names := range []string{"a..b", "...", "..a", "a.", "%2e%2e%2e", "100%25", "a%252", "%25zz"} {
		if _, err := route.ParsePath("secret/data/"+names, false); err != nil {
			t.Errorf("ParsePath(%q): %v", names, err)
		}
	}
}
