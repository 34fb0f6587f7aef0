package route

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestRedact: of a path without a known route, nothing is shown that may be a token.
func TestRedact(t *testing.T) {
	for path, want := range map[string]string{
		"auth/token/lookup/tok":                        "auth/token/lookup/[token]",
		"/v1/auth/token/renew/tok":                     "/v1/auth/token/renew/[token]",
		"auth/token/revoke/tok/":                       "auth/token/revoke/[token]",
		"auth/token/revoke-orphan/tok":                 "auth/token/revoke-orphan/[token]",
		"auth/token/lookup/tok/more/tok":               "auth/token/lookup/[token]",
		"auth/token/lookup//tok":                       "auth/token/lookup/[token]",
		"auth//token/./lookup/../tok":                  "auth//token/./lookup/[token]",
		"auth/token/Lookup/tok":                        "auth/token/Lookup/[token]",
		"AUTH/TOKEN/LOOKUP/tok":                        "AUTH/TOKEN/LOOKUP/[token]",
		"auth/token/lookup-self/tok":                   "auth/token/lookup-self/[token]",
		"auth/token/ lookup /tok":                      "auth/token/ lookup /[token]",
		"auth/token/lokup/tok":                         "auth/token/lokup/[token]",
		"auth/tokens/lookup/tok":                       "auth/tokens/lookup/[token]",
		"auth/other/revoke/tok":                        "auth/other/revoke/[token]",
		"team/auth/token/lookup/tok":                   "team/auth/token/lookup/[token]",
		"token/lookup/tok":                             "token/lookup/[token]",
		`auth\token\lookup\tok`:                        `auth\token\lookup/[token]`,
		"auth%2Ftoken%2flookup%2Ftok":                  "auth/token/lookup/[token]",
		"auth%252Ftoken%25252Flookup%252Ftok":          "auth/token/lookup/[token]",
		"auth/token/l%6Fokup/tok%zz":                   "auth/token/lookup/[token]",
		"auth/token/create/hvs.tok":                    "auth/token/create/[token]",
		"auth/token/hvs.tok":                           "auth/token/[token]",
		"secret/data/hvb.tok/more":                     "secret/data/[token]",
		"nothing/x=HVS.tok":                            "nothing/[token]",
		"nothing/s.abcdefghijklmnopqrstuvwx":           "nothing/[token]",
		"sys/internal/ui/mounts/auth/token/lookup/tok": "sys/internal/ui/mounts/auth/token/lookup/[token]",
		"auth/token/lookup":                            "auth/token/lookup",
		"auth/token/lookup/":                           "auth/token/lookup/",
		"auth/token/create/role":                       "auth/token/create/role",
		"auth/token/roles/role":                        "auth/token/roles/role",
		"auth/userpass/login/ann":                      "auth/userpass/login/ann",
		"sys/leases/lookup/database/creds/app":         "sys/leases/lookup/database/creds/app",
		"sys/leases/revoke-prefix/auth/userpass":       "sys/leases/revoke-prefix/auth/userpass",
		"secret/data/50%25":                            "secret/data/50%25",
		"secret/data/s.txt":                            "secret/data/s.txt",
		"":                                             "",
	} {
		if got := Redact(path); got != want {
			t.Errorf("Redact(%q) = %q, want %q", path, got, want)
		}
	}
}

// TestRedactDisguised: whatever is done to the way to a token, the token is not shown.
func TestRedactDisguised(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	for range 20_000 {
		var b strings.Builder
		for _, seg := range []string{"v1", "auth", "token", one("lookup", "renew", "revoke", "revoke-orphan")} {
			for _, c := range seg {
				b.WriteString(one(string(c), string(c), strings.ToUpper(string(c))))
			}
			b.WriteString(one("/", "/", "//", "/./", `\`, " /", ";/", "/%20/", "%zz/"))
		}
		path := b.String() + "canary" + one("", "/", "//", "/more", "?x=y", "%zz")
		for range rng.IntN(4) {
			path = strings.ReplaceAll(url.PathEscape(path), "%2F", one("/", "%2F", "%2f"))
		}
		if got := Redact(path); strings.Contains(got, "canary") {
			t.Fatalf("Redact(%q) = %q", path, got)
		}
	}
}

type tokenPath struct {
	Token secret.Value `path:"token" doc:"Whose."`
	Other string       `path:"other"`
}

func shownTable(t *testing.T, got *string) *Table {
	t.Helper()
	table, err := NewTable([]Route{
		On(Write, "own/{other}/by/{token}", func(_ context.Context, _ *Request, in tokenPath) (None, error) {
			*got = in.Token.RevealString() + " " + in.Other
			return None{}, nil
		}),
		On(Read, "rest/{other}/{token...}",
			func(context.Context, *Request, tokenPath) (None, error) { return None{}, nil }).WithLeaf(),
		On(Read, "auth/token/{name...}", func(context.Context, *Request, None) (None, error) { return None{}, nil }),
		On(Read, "ask/{path...}", func(context.Context, *Request, None) (None, error) { return None{}, nil }).
			WithRequestPath("path"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestShown: a route whose request type takes a segment as a secret hides that segment, wherever
// it is mounted, and no other.
func TestShown(t *testing.T) {
	var got string
	table := shownTable(t, &got)
	for _, tt := range []struct {
		op                 Op
		rest, shown, given string
	}{
		{Write, "own/a/by/canary", "m/own/a/by/[token]", "canary"},
		{Read, "rest/a/canary/canary", "m/rest/a/[token]", "canary/canary"},
		// a name like any other: nobody hides behind it in the audit log
		{Read, "auth/token/lookup/x", "m/auth/token/lookup/x", ""},
		{Read, "ask/auth/token/lookup/canary", "m/ask/auth/token/lookup/[token]", ""},
		{Read, "ask/secret/a", "m/ask/secret/a", ""},
	} {
		r := &Request{Op: tt.op, Path: Path("m/" + tt.rest), Rest: tt.rest, Mount: Mount{Path: "m/"}}
		found, err := table.Find(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := found.Serve(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		name, value := r.Secret()
		if r.Shown() != tt.shown || value.RevealString() != tt.given || (name == "token") != (tt.given != "") {
			t.Errorf("%s: shown as %q with the secret %q of %q, want %q with %q", tt.rest, r.Shown(),
				value.RevealString(), name, tt.shown, tt.given)
		}
	}
	if got != "canary a" {
		t.Errorf("the handler got %q", got)
	}
}

// TestShownWithoutRoute: what no route serves is redacted, also in the error.
func TestShownWithoutRoute(t *testing.T) {
	table := shownTable(t, new(string))
	for _, r := range []*Request{
		{Op: Read, Rest: "nothing/hvs.canary"}, {Op: Delete, Rest: "own/a/by/hvs.canary"},
		{Op: Help, Rest: "own/a/by/hvs.canary"},
		{Op: Read, Rest: "rest/a/canary", Folder: true},
	} {
		r.Mount.Path, r.Path = "m/", Path("m/"+r.Rest)
		r.shown = string(r.Path) // of an earlier search
		_, err := table.Find(r)
		if fe, ok := errors.AsType[*fault.Error](err); !ok || strings.Contains(fe.Error(), "canary") {
			t.Errorf("%s %s: %v", r.Op, r.Rest, err)
		}
		if strings.Contains(r.Shown(), "canary") {
			t.Errorf("%s %s: shown as %q", r.Op, r.Rest, r.Shown())
		}
	}
}

// TestSecretInPath: two secrets are one too many, and the description says which parameter is one.
func TestSecretInPath(t *testing.T) {
	type two struct {
		A secret.Value `path:"a"`
		B secret.Value `path:"b"`
	}
	_, err := NewTable([]Route{
		On(Read, "{a}/{b}", func(context.Context, *Request, two) (None, error) { return None{}, nil }),
	})
	if err == nil {
		t.Error("a route with two secrets in its path was taken")
	}
	r := On(Read, "{other}/{token}", func(context.Context, *Request, tokenPath) (None, error) { return None{}, nil })
	if p := r.Params(); len(p) != 2 || p[0].Secret || !p[1].Secret || p[1].Doc != "Whose." {
		t.Errorf("parameters %+v", p)
	}
}
