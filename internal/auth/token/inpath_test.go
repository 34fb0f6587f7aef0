package token

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestInPath: the routes with the token in the path work like those with the token in the body,
// and warn.
func TestInPath(t *testing.T) {
	w := open(t)
	create := func(by secret.Value) secret.Value {
		return w.must(by, route.Write, "create", `{"policies":["a"],"ttl":"1h"}`).auth.ClientToken
	}
	warned := func(got reply, form string) {
		t.Helper()
		if len(got.warnings) != 1 || !strings.Contains(got.warnings[0], "deprecated") ||
			!strings.HasSuffix(got.warnings[0], "a POST to auth/token/"+form) {
			t.Errorf("%s warns %q", form, got.warnings)
		}
	}
	tok := create(w.root)
	in := tok.RevealString()
	for _, op := range []route.Op{route.Read, route.Write} {
		got := w.must(w.root, op, "lookup/"+in, "")
		warned(got, "lookup")
		want := w.lookup(tok)
		delete(got.data, "ttl")
		delete(want, "ttl")
		if d := cmp.Diff(want, got.data); d != "" {
			t.Error(d)
		}
	}
	got := w.must(w.root, route.Write, "renew/"+in, `{"increment":"30m"}`)
	warned(got, "renew")
	if got.auth.LeaseDuration.Minutes() != 30 || got.auth.ClientToken.RevealString() != in {
		t.Errorf("renewed: %+v", got.auth)
	}
	// A token in the body is an unknown parameter; the one in the path is used.
	other := create(w.root)
	got = w.must(w.root, route.Write, "lookup/"+in, `{"token":"`+other.RevealString()+`"}`)
	if got.data["id"] != in || len(got.warnings) != 2 ||
		!strings.Contains(strings.Join(got.warnings, "\n"), `unknown parameter "token"`) {
		t.Errorf("with two tokens: %v, %q", got.data, got.warnings)
	}

	child := create(tok)
	warned(w.must(w.root, route.Write, "revoke-orphan/"+in, ""), "revoke-orphan")
	w.refused(w.root, route.Read, "lookup/"+in, "", fault.Denied, "bad token")
	if got := w.lookup(child); got["orphan"] != true {
		t.Errorf("the child of a token that was revoked alone: %v", got)
	}
	grandchild := create(child)
	warned(w.must(w.root, route.Write, "revoke/"+child.RevealString(), ""), "revoke")
	for _, gone := range []secret.Value{child, grandchild} {
		w.refused(w.root, route.Write, "renew/"+gone.RevealString(), "", fault.Denied, "bad token")
	}
	if len(w.waited) != 1 {
		t.Errorf("waited for the leases of %q, want those of one token", w.waited)
	}
	batch := w.must(w.root, route.Write, "create", `{"policies":["a"],"type":"batch"}`).auth.ClientToken.RevealString()
	for _, form := range []string{"renew", "revoke", "revoke-orphan"} {
		w.refused(w.root, route.Write, form+"/"+batch, "", fault.Invalid, "batch tokens cannot")
	}
}

// TestInPathRoutes: revoke-orphan needs sudo, as usual, and every route hides the token.
func TestInPathRoutes(t *testing.T) {
	w := open(t)
	n := 0
	for _, r := range w.table.Routes() {
		if !strings.Contains(r.Pattern, "{token}") {
			continue
		}
		n++
		if !r.Deprecated || r.Sudo != strings.HasPrefix(r.Pattern, "revoke-orphan") {
			t.Errorf("%s %s: deprecated %t, sudo %t", r.Op, r.Pattern, r.Deprecated, r.Sudo)
		}
		if p := r.Params()[0]; p.Name != "token" || !p.Secret {
			t.Errorf("%s %s: %+v", r.Op, r.Pattern, p)
		}
	}
	if n != 5 {
		t.Errorf("%d routes, want 5", n)
	}
}
