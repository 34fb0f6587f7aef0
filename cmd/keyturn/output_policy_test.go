package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/cli"
)

// policyLines has a line for each command that calls a server. After a bar are lines that the root
// token runs first. A ~ at the end means that the line does not send its later requests in this
// test, so that a smaller policy may suffice.
var policyLines = []string{
	"read sys/mounts",
	"read sys/audit",
	"read -format=raw sys/health",
	"write cubbyhole/x a=b",
	"write sys/rotate a=b",
	"write secret/config max_versions=3",
	"patch rotation/keys/x rotation_period=720h",
	"list auth/token/accessors",
	"list database/roles",
	"list sys/leases/lookup/database",
	"delete database/roles/x",
	"path-help sys/mounts",
	"unwrap",
	"kv get secret/a | kv put secret/a x=1",
	"kv get -mount=secret a | kv put secret/a x=1",
	"kv get one/a | secrets enable -path=one -version=1 kv | kv put one/a x=1",
	"kv put secret/b x=1",
	"kv patch secret/a x=2 | kv put secret/a x=1",
	"kv patch -method=rw secret/a x=2 | kv put secret/a x=1",
	"kv list secret | kv put secret/a x=1",
	"kv list secret/dir | kv put secret/dir/a x=1",
	"kv delete secret/a | kv put secret/a x=1",
	"kv delete -versions=1 secret/a | kv put secret/a x=1",
	"kv undelete -versions=1 secret/a | kv put secret/a x=1",
	"kv destroy -versions=1 secret/a | kv put secret/a x=1",
	"kv rollback -version=1 secret/c | kv put secret/c x=1",
	"kv metadata get secret/a | kv put secret/a x=1",
	"kv metadata put -max-versions=5 secret/a",
	"kv metadata patch -max-versions=6 secret/a",
	"kv metadata delete secret/a | kv put secret/a x=1",
	"kv enable-versioning two | secrets enable -path=two -version=1 kv",
	"rotate now x", "rotate rollback x", "rotate pause x", "rotate resume x", "rotate plan x", "rotate history x",
	"rotate status x", "rotate orphans x", "rotate overdue", "rotate supply x key_id=1 api_key=x",
	"rotate confirm x", "recipe list", "recipe show http-demo",
	"rotate status ~", // no key exists
	"login token=TOKEN -no-store",
	"token create -ttl=1h",
	"token create -orphan -ttl=1h",
	"token create -role=x | write auth/token/roles/x orphan=true",
	"token lookup", "token lookup root", "token lookup -accessor none",
	"token renew", "token renew root", "token renew -accessor none",
	"token revoke none", "token revoke -accessor none", "token revoke -mode=orphan none",
	"token revoke -mode=path nothing",
	"token capabilities secret/a", "token capabilities none secret/a", "token capabilities -accessor none secret/a",
	"lease lookup none", "lease renew none", "lease revoke none", "lease revoke -sync -prefix database",
	"lease revoke -force -prefix database",
	"policy read default", "policy write p -", "policy list", "policy delete p",
	"secrets enable -path=three kv", "secrets list", "secrets list -detailed",
	"secrets tune -description=x three | secrets enable -path=three kv",
	"secrets move four five | secrets enable -path=four kv", "secrets disable three", "secrets disable -force three",
	"auth enable -path=x token", "auth list", "auth tune -description=x token", "auth move auth/x auth/y ~",
	"auth disable x", "auth help x/",
	"audit enable file file_path=LOG", "audit list", "audit disable file",
	"status", "operator init", "operator init -status", "operator unseal aGk=", "operator rotate",
	"operator key-status", "operator members", "version-history", "plugin list", "plugin info secret kv",
	"token revoke -self",
	"operator seal",
}

// TestOutputPolicyIsEnough checks that a token with only the policy that -output-policy prints may
// run the command, and that with one capability less it may not.
func TestOutputPolicyIsEnough(t *testing.T) {
	if environment().Server == nil {
		t.Skip("this binary is built without a server: nothing here was tested")
	}
	address := developmentServer(t, os.Stderr)
	log := filepath.Join(t.TempDir(), "audit.log")
	tried := map[string]bool{}
	run := func(token, line string) (string, int) {
		line = strings.ReplaceAll(strings.ReplaceAll(line, "TOKEN", token), "LOG", log)
		var out bytes.Buffer
		env := map[string]string{"VAULT_ADDR": address, "VAULT_TOKEN": token}
		code := cli.Main(t.Context(), append([]string{"keyturn"}, strings.Fields(line)...), cli.Env{
			Stdin: strings.NewReader(`path "x" {}`), Stdout: &out, Stderr: &out,
			Getenv: func(name string) string { return env[name] },
		})
		return out.String(), code
	}
	tokenWith := func(policy string) string {
		write(t, address, "PUT", "sys/policies/acl/printed", fmt.Sprintf(`{"policy":%q}`, policy))
		_, token, ok := strings.Cut(
			write(t, address, "PUT", "auth/token/create", `{"policies":["printed"],"no_default_policy":true}`),
			`"client_token":"`)
		if !ok {
			t.Fatalf("no token for the policy\n%s", policy)
		}
		token, _, _ = strings.Cut(token, `"`)
		return token
	}
	for _, line := range policyLines {
		line, setup, _ := strings.Cut(line, " | ")
		line, partly := strings.CutSuffix(line, " ~")
		prepare := func() {
			for step := range strings.SplitSeq(setup, " | ") {
				if step != "" {
					run("root", step) // it fails if it is done already
				}
			}
		}
		tried[commandOf(line)] = true
		prepare()
		policy, code := run("root", line+" -output-policy")
		if code != 0 || !strings.Contains(policy, "path ") {
			t.Errorf("%s -output-policy: exit %d, %s", line, code, policy)
			continue
		}
		for _, less := range lessThan(policy) {
			if partly {
				break
			}
			prepare()
			if out, _ := run(tokenWith(less), line); !strings.Contains(out, "Code: 403") {
				t.Errorf("%s is allowed by less than the policy that is printed:\n%s\n%s", line, less, out)
			}
		}
		prepare()
		if out, _ := run(tokenWith(policy), line); strings.Contains(out, "Code: 403") {
			t.Errorf("%s is refused with the policy that is printed:\n%s\n%s", line, policy, out)
		}
	}
	for _, page := range cli.Pages(t.Context(), environment()) {
		if sends := strings.Contains(fmt.Sprint(page.Flags), "output-policy"); sends && !tried[page.Line] {
			t.Errorf("no line of policyLines is for %q", page.Line)
		}
	}
}

// commandOf returns the command of a line: its words up to the first that names none.
func commandOf(line string) string {
	best := ""
	for _, page := range cli.Pages(context.Background(), environment()) {
		if strings.HasPrefix(line+" ", page.Line+" ") && len(page.Line) > len(best) {
			best = page.Line
		}
	}
	return best
}

// granting matches a block of a printed policy.
var granting = regexp.MustCompile(`(?m)^(#.*\n)?path (".*") \{\n  capabilities = \[(.*)\]\n\}`)

// lessThan returns the policies that lack one capability, or both of a write. It ignores blocks
// that say that they are not needed.
func lessThan(policy string) []string {
	var all []string
	for _, block := range granting.FindAllStringSubmatch(policy, -1) {
		if strings.Contains(block[1], "eeds no token") || strings.Contains(block[1], "Every token") {
			continue
		}
		groups := strings.Split(strings.Replace(block[3], `"create", "update"`, `"create" "update"`, 1), ", ")
		for i := range groups {
			rest := slices.Delete(slices.Clone(groups), i, i+1)
			fewer := strings.ReplaceAll(strings.Join(rest, ", "), `" "`, `", "`)
			replacement := fmt.Sprintf("path %s {\n  capabilities = [%s]\n}", block[2], fewer)
			if len(rest) == 0 {
				replacement = `path "nothing" { capabilities = ["read"] }`
			}
			all = append(all, strings.Replace(policy, block[0], replacement, 1))
		}
	}
	return all
}

// developmentServer starts a development server and returns its address.
func developmentServer(t testing.TB, stderr io.Writer) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	t.Setenv("HOME", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		args := []string{"-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-dev-listen-address=" + address,
			"-log-level=error"}
		code := environment().Server(ctx, args, strings.NewReader(""), io.Discard, stderr)
		ended <- fmt.Errorf("exit code %d", code)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	if err := answers("http://"+address+"/v1/sys/health", ended); err != nil {
		t.Fatal(err)
	}
	return "http://" + address
}

// write sends a request with the root token and returns the body of the answer.
func write(t *testing.T, address, method, path, body string) string {
	t.Helper()
	status, answer := rawRequest(t, strings.TrimPrefix(address, "http://"), method, "/v1/"+path, "root", body)
	if status >= 300 {
		t.Fatalf("%s %s: status %d %s", method, path, status, answer)
	}
	return answer
}
