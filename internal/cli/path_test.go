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

// pathLines are command lines in which @ stands for a typed path or name, each with the request
// that carries it: the method and the path, or "body" and a field. slash means that the command
// accepts one slash at the end, and does not send it.
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
	{"rotate overdue -mount=@", "GET @/compliance", true},
	{"rotate history aws/static-roles/@", "GET aws/static-roles/@/history", false},
	{"rotate plan @", "GET rotation/keys/@/plan", false},
	{"rotate orphans @", "GET rotation/keys/@/orphans", false},
	{"rotate supply @ key_id=1 api_key=x", "PUT rotation/keys/@/supply", false},
	{"rotate confirm @", "PUT rotation/keys/@/confirm", false},
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

// TestEveryPathIsTyped checks that pathLines has each command whose argument is a path or a name.
func TestEveryPathIsTyped(t *testing.T) {
	isPath := regexp.MustCompile(`\b(PATH|NAME|FROM|TO|MOUNT|PREFIX|LEASE_ID|ROLE)\b`)
	eachCommand(tree(Env{}), "", func(line string, c *command) {
		line = strings.TrimSpace(line)
		if !isPath.MatchString(c.args) || c.local {
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

// TestPathsAreSentAsTyped checks that the server receives each byte of a typed path.
func TestPathsAreSentAsTyped(t *testing.T) {
	for _, typed := range []string{
		"x", "x ", " x", "\tx", "x\u00a0", "X", "Größe", "a/b", "a /b", "x%2f", "%2e%2e/x", "x?list=true", "x#y",
		"x,y", "x;y", "x:y=z", `x\y`, "x*", "+", "...", "x..", "team/PA",
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

// TestPathsThatWouldChange checks that a path that the API library would change is refused with
// the right form, and that nothing is sent.
func TestPathsThatWouldChange(t *testing.T) {
	for typed, canonical := range map[string]string{
		"a//b": "a/b", "a/./b": "a/b", "a/../b": "b", "../mounts": "mounts", "a/..": "", "a/b//": "a/b", "./a": "a",
		".": "", "..": "", "a/b/": "a/b", "/a/b": "a/b",
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
			if len(got) > 0 {
				t.Errorf("%s with %q: sent %q", p.line, typed, got)
			}
			if !strings.Contains(out, "exit 1") || !strings.Contains(out, "; write ") ||
				!strings.Contains(out, canonical) {
				t.Errorf("%s with %q: %s", p.line, typed, out)
			}
		}
	}
}

// TestMountFlagThatNamesNoMount checks that a -mount below a mount is refused with the right form.
func TestMountFlagThatNamesNoMount(t *testing.T) {
	got, out := sent(t, "kv put -mount=secret/@ y a=b", "team")
	if len(got) != 0 || !strings.Contains(out, "write -mount=secret team/y") || !strings.Contains(out, "exit 1") {
		t.Errorf("sent %q\n%s", got, out)
	}
}

// sent runs a line. It returns the requests that the server received, without the lookups of
// mounts, and the output.
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
		Stdin: strings.NewReader("path"), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string { return env[name] },
	})
	return requests, fmt.Sprintf("%s%sexit %d", &stdout, &stderr, code)
}

// hasRequest reports whether got has the request, or a body with the field and the text.
func hasRequest(got []string, want, typed string) bool {
	for _, request := range got {
		if request == want {
			return true
		}
		if field, ok := strings.CutPrefix(want, "body "); ok && strings.HasPrefix(request, "body "+field+" ") &&
			strings.Contains(request, fmt.Sprintf("%q", typed)[1:]) {
			return true
		}
	}
	return false
}

// TestTargetsAreMadeInOnePlace checks that only path.go converts a string to a target, and that
// only requests.go passes paths to the API library.
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
		{regexp.MustCompile(
			`\.Logical\(\)\.(Read|Write|List|Delete|JSONMergePatch|Patch)|\.NewRequest\(|\.HelpWithContext\(`),
			"requests.go"},
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
				t.Errorf("%s has %q; move it to %s", file, rule.found.Find(text), rule.home)
			}
		}
	}
}
