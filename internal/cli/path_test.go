package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pathLines are command lines in which @ stands for a path or a name that is
// typed, each with the request by which the server learns of it: the method and
// the path, or "body" and a field. slash says that one slash at the end is the
// form in which the API prints it, and is left out.
var pathLines = []struct {
	line, request string
	slash         bool
}{
	{"read @", "GET @", false},
	{"read -format=raw @", "GET @", false},
	{"write @ a=b", "PUT @", false},
	{"patch @ a=b", "PATCH @", false},
	{"delete @", "DELETE @", false},
	{"list @", "LIST @", true},
	{"path-help @", "GET @", true},
	{"kv get secret/@", "GET secret/data/@", false},
	{"kv get -mount=secret @", "GET secret/data/@", false},
	{"kv get -mount=@ x", "GET sys/internal/ui/mounts/@", true},
	{"kv put secret/@ a=b", "PUT secret/data/@", false},
	{"kv put -mount=secret @ a=b", "PUT secret/data/@", false},
	{"kv patch secret/@ a=b", "PATCH secret/data/@", false},
	{"kv patch -method=rw secret/@ a=b", "GET secret/data/@", false},
	{"kv list secret/@", "LIST secret/metadata/@", true},
	{"kv list -mount=secret @", "LIST secret/metadata/@", true},
	{"kv delete secret/@", "DELETE secret/data/@", false},
	{"kv delete -versions=1 secret/@", "PUT secret/delete/@", false},
	{"kv undelete -versions=1 secret/@", "PUT secret/undelete/@", false},
	{"kv destroy -versions=1 secret/@", "PUT secret/destroy/@", false},
	{"kv rollback -version=1 secret/@", "GET secret/data/@", false},
	{"kv metadata get secret/@", "GET secret/metadata/@", false},
	{"kv metadata put secret/@", "PUT secret/metadata/@", false},
	{"kv metadata patch secret/@", "PATCH secret/metadata/@", false},
	{"kv metadata delete secret/@", "DELETE secret/metadata/@", false},
	{"kv metadata delete -mount=secret @", "DELETE secret/metadata/@", false},
	{"kv enable-versioning @", "PUT sys/mounts/@/tune", true},
	{"rotate now @", "PUT rotation/keys/@/rotate", false},
	{"rotate rollback @", "PUT rotation/keys/@/rollback", false},
	{"rotate pause @", "PUT rotation/keys/@/pause", false},
	{"rotate resume @", "PUT rotation/keys/@/resume", false},
	{"rotate resume -mount=@ x", "PUT @/keys/x/resume", true},
	{"rotate status @", "GET rotation/keys/@", false},
	{"rotate status -mount=@", "GET @/status", true},
	{"rotate history @", "GET rotation/keys/@/history", false},
	{"rotate plan @", "GET rotation/keys/@/plan", false},
	{"rotate orphans @", "GET rotation/keys/@/orphans", false},
	{"recipe show @", "GET rotation/recipes/@", false},
	{"recipe list -mount=@", "LIST @/recipes", true},
	{"login -method=userpass username=@ password=p", "PUT auth/userpass/login/@", false},
	{"login -method=approle -path=@ role_id=x", "PUT auth/@/login", true},
	{"token create -role=@", "PUT auth/token/create/@", false},
	{"token create -policy=@", "body policies", false},
	{"token capabilities @", "body path", false},
	{"token revoke -mode=path @", "PUT sys/leases/revoke-prefix/@", true},
	{"lease lookup @", "body lease_id", false},
	{"lease renew @", "body lease_id", false},
	{"lease revoke @", "body lease_id", false},
	{"lease revoke -prefix @", "PUT sys/leases/revoke-prefix/@", true},
	{"lease revoke -prefix -force @", "PUT sys/leases/revoke-force/@", true},
	{"policy read @", "GET sys/policies/acl/@", false},
	{"policy write @ -", "PUT sys/policies/acl/@", false},
	{"policy delete @", "DELETE sys/policies/acl/@", false},
	{"plugin info database @", "GET sys/plugins/catalog/database/@", false},
	{"secrets enable -path=@ kv", "PUT sys/mounts/@", true},
	{"secrets disable @", "DELETE sys/mounts/@", true},
	{"secrets tune -description=x @", "PUT sys/mounts/@/tune", true},
	{"secrets move @ y", "body from", true},
	{"secrets move x @", "body to", true},
	{"auth enable -path=@ approle", "PUT sys/auth/@", true},
	{"auth disable @", "DELETE sys/auth/@", true},
	{"auth tune -description=x @", "PUT sys/auth/@/tune", true},
	{"auth help @", "GET sys/auth", true},
	{"auth move auth/@ auth/y", "body from", true},
	{"auth move auth/x auth/@", "body to", true},
	{"audit enable -path=@ file", "PUT sys/audit/@", true},
	{"audit disable @", "DELETE sys/audit/@", true},
}

// TestEveryPathIsTyped: each command that takes a path or a name has a line.
func TestEveryPathIsTyped(t *testing.T) {
	taken := regexp.MustCompile(`\b(PATH|NAME|FROM|TO|MOUNT|PREFIX|LEASE_ID|ROLE)\b`)
	leaves(tree(Env{}), "", func(line string, c *command) {
		line = strings.TrimSpace(line)
		if !taken.MatchString(c.args) || c.local {
			return
		}
		for _, p := range pathLines {
			if strings.HasPrefix(p.line, line+" ") {
				return
			}
		}
		t.Errorf("%s takes %s: add a line to pathLines", line, c.args)
	})
}

// TestPathsAreSentAsTyped: what was typed arrives as it is, byte for byte.
func TestPathsAreSentAsTyped(t *testing.T) {
	for _, typed := range []string{
		"x", "x ", " x", "\tx", "x\u00a0", "X", "Größe", "a/b", "a /b", "x%2f", "%2e%2e/x", "x?list=true", "x#y", "x,y", "x;y", "x:y=z", `x\y`, "x*", "+", "...", "x..", "team/PA",
	} {
		for _, p := range pathLines {
			want := strings.ReplaceAll(p.request, "@", typed)
			if got, out := sent(t, p.line, typed); !hasRequest(got, want, typed) {
				t.Errorf("%s with %q: sent %q, want %q\n%s", p.line, typed, got, want, out)
			}
			if !p.slash {
				continue
			}
			if got, out := sent(t, p.line, typed+"/"); !hasRequest(got, want, typed) {
				t.Errorf("%s with %q: sent %q, want %q\n%s", p.line, typed+"/", got, want, out)
			}
		}
	}
}

// TestPathsThatWouldChange: what would not arrive as it was typed is refused
// with the form that would, and nothing is sent.
func TestPathsThatWouldChange(t *testing.T) {
	for typed, canonical := range map[string]string{
		"a//b": "a/b", "a/./b": "a/b", "a/../b": "b", "../mounts": "mounts", "a/..": "", "a/b//": "a/b", "./a": "a", ".": "", "..": "", "a/b/": "a/b", "/a/b": "a/b",
	} {
		for _, p := range pathLines {
			kind, _, _ := strings.Cut(p.request, " ")
			if kind == "body" && !p.slash || p.slash && typed == "a/b/" {
				continue // a body carries everything
			}
			if at := strings.Index(p.line, "@"); p.line[at-1] == '/' && strings.HasPrefix(typed, "..") {
				continue // the right form depends on what stands before it
			}
			got, out := sent(t, p.line, typed)
			if len(got) > 0 || !strings.Contains(out, "exit 1") || !strings.Contains(out, "; write ") || !strings.Contains(out, canonical) {
				t.Errorf("%s with %q: sent %q\n%s", p.line, typed, got, out)
			}
		}
	}
}

// TestMountOfAnother: a -mount that is no mount is not cut off what is sent.
func TestMountOfAnother(t *testing.T) {
	got, out := sent(t, "kv put -mount=secret/@ y a=b", "team")
	if len(got) != 0 || !strings.Contains(out, "write -mount=secret team/y") || !strings.Contains(out, "exit 1") {
		t.Errorf("sent %q\n%s", got, out)
	}
}

// sent types a line and returns the requests that came, but for those that find
// the mount of another path, and what was printed.
func sent(t *testing.T, line, typed string) (requests []string, out string) {
	t.Helper()
	var args []string
	for _, word := range strings.Fields(line) {
		args = append(args, strings.ReplaceAll(word, "@", typed))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/v1/")
		if mount, ok := strings.CutPrefix(path, "sys/internal/ui/mounts/"); ok {
			if mount == "secret" || strings.HasPrefix(mount, "secret/") {
				io.WriteString(w, `{"data":{"path":"secret/","options":{"version":"2"}}}`)
				return
			}
		}
		method := r.Method
		if r.URL.Query().Get("list") == "true" {
			method = "LIST"
		}
		requests = append(requests, method+" "+path)
		var body map[string]any
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			for key, value := range body {
				requests = append(requests, fmt.Sprintf("body %s %q", key, value))
			}
		}
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errors":[]}`)
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	env := map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "root"}
	code := Main(t.Context(), append([]string{"keyturn"}, args...), Env{
		Stdin: strings.NewReader("path"), Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return env[name] },
	})
	return requests, fmt.Sprintf("%s%sexit %d", &stdout, &stderr, code)
}

// hasRequest finds the one that is wanted: exactly, or a field with the text.
func hasRequest(got []string, want, typed string) bool {
	for _, request := range got {
		if request == want {
			return true
		}
		if field, ok := strings.CutPrefix(want, "body "); ok && strings.HasPrefix(request, "body "+field+" ") && strings.Contains(request, fmt.Sprintf("%q", typed)[1:]) {
			return true
		}
	}
	return false
}

// TestTargetsAreMadeInOnePlace: only path.go makes a target of what is not a
// constant, and only requests.go hands paths to the API library.
func TestTargetsAreMadeInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := []struct {
		found *regexp.Regexp
		home  string
	}{
		{regexp.MustCompile(`\btarget\(`), "path.go"},
		{regexp.MustCompile(`\.Logical\(\)\.(Read|Write|List|Delete|JSONMergePatch|Patch)|\.NewRequest\(|\.HelpWithContext\(`), "requests.go"},
		{regexp.MustCompile(`"strings"[\s\S]*strings\.Trim(Space|Left|Right)?\(s\.args`), "prompt.go"},
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			if file != rule.home && rule.found.Match(text) {
				t.Errorf("%s has %q; that belongs into %s", file, rule.found.Find(text), rule.home)
			}
		}
	}
}
