package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// completions returns the candidates for a line, in fish's format without descriptions.
func completions(t *testing.T, address, line string) []string {
	t.Helper()
	var words []string
	for text := range strings.Lines(shellOutput(t,
		map[string]string{"VAULT_ADDR": address, "VAULT_TOKEN": "root", "COMP_LINE": line, completeIn: "fish"})) {
		word, _, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\t")
		words = append(words, word)
	}
	return words
}

// shellOutput returns what the program prints for a shell. args are those that bash adds.
func shellOutput(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), append([]string{"/usr/bin/keyturn"}, args...), Env{
		Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return env[name] },
		Server: func(_ context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) int {
			io.WriteString(stdout, "Usage: x\n\n  -config path\n    \tfiles\n  -dev\n    \ttry\n")
			return 0
		},
	})
	if code != exitOK || stderr.Len() > 0 {
		t.Errorf("%v: exit %d, %s", env, code, &stderr)
	}
	return stdout.String()
}

// serverWithMounts returns the address of a server with mounts and names to complete.
func serverWithMounts(t *testing.T) string {
	lists := map[string]string{
		"secret/metadata": `"app/","top"`, "secret/metadata/app": `"one","we ird$(x)","line\nfeed"`, "one/": `"plain"`,
		"one":            `"plain"`,
		"database/roles": `"reader"`, "rotation/keys": `"stripe"`, "rotation/recipes": `"http-demo"`,
		"sys/policies/acl": `"default","root"`, "auth/token/roles": `"ci"`,
		"sys/leases/lookup": `"database/"`, "sys/leases/lookup/database/creds/reader": `"abc"`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/v1/")
		switch names, known := lists[path]; {
		case r.Header.Get("X-Vault-Wrap-Ttl") != "":
			t.Errorf("%s is wrapped", path)
		case path == "sys/internal/ui/mounts":
			io.WriteString(w, `{"data":{"auth":{"token/":{"type":"token"},"people/":{"type":"ldap"}},"secret":{
				"secret/":{"type":"kv","options":{"version":"2"}},"one/":{"type":"kv"},"database/":{"type":"database"},"team/db/":{"type":"database"},
				"rotation/":{"type":"rotation"},"other/":{"type":"unknown"},"sys/":{"type":"system"},"cubbyhole/":{"type":"cubbyhole"}}}}`)
		case path == "sys/audit":
			io.WriteString(w, `{"data":{"file/":{"type":"file"}}}`)
		case known && r.URL.Query().Get("list") == "true":
			fmt.Fprintf(w, `{"data":{"keys":[%s]}}`, names)
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"errors":[]}`)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestComplete completes commands, flags, values of flags, mounts, paths and names.
func TestComplete(t *testing.T) {
	address := serverWithMounts(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "policy.hcl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ line, want string }{
		{"keyturn pr", "print"},
		{"keyturn kv metadata ", "delete get patch put"},
		{"keyturn nonesuch ", ""},
		{"keyturn kv get -fi", "-field="},
		{"keyturn kv get --fi", "--field="},
		{"keyturn kv get x -tls-sk", "-tls-skip-verify"},
		{"keyturn -tls-sk", "-tls-skip-verify"},
		{"keyturn -format ", "json raw table yaml"},
		{"keyturn -format=y", "-format=yaml"},
		{"keyturn kv -mount s", "secret"},
		{"keyturn kv get -mount=", "-mount=one -mount=secret"},
		{"keyturn kv get ", "cubbyhole/ one/ secret/"},
		{"keyturn kv get secret/", "secret/app/ secret/top"},
		{"keyturn kv get secret/app/o", "secret/app/one"},
		{"keyturn kv get secret/app/", "secret/app/one secret/app/we ird$(x)"},
		{"keyturn kv get -mount=secret app/o", "app/one"},
		{"keyturn kv -mount secret get app/o", "app/one"},
		{"keyturn kv get one/", "one/plain"},
		{"keyturn kv get database/", ""},
		{"keyturn kv get secret/top ", ""},
		{"keyturn kv list secret/", "secret/app/"},
		{"keyturn kv enable-versioning ", "one secret"},
		{"keyturn read ", "auth/people/ auth/token/ cubbyhole/ database/ one/ other/ rotation/ secret/ sys/ team/db/"},
		{"keyturn read -wrap-ttl=5m d", "database/"},
		{"keyturn read database/creds/", "database/creds/reader"},
		{"keyturn read team/", "team/db/"},
		{"keyturn read team/db/cr", "team/db/creds/"},
		{"keyturn read secret/", "secret/config secret/data/ secret/metadata/ secret/subkeys/"},
		{"keyturn read secret/data/app/o", "secret/data/app/one"},
		{"keyturn list secret/", "secret/metadata/"},
		{"keyturn list secret/metadata/", "secret/metadata/app/"},
		{"keyturn list auth/token/a", "auth/token/accessors"},
		{"keyturn write rotation/keys/stripe/r", "rotation/keys/stripe/rebind rotation/keys/stripe/resume " +
			"rotation/keys/stripe/rollback rotation/keys/stripe/rotate"},
		{"keyturn read rotation/keys/s", "rotation/keys/stripe"},
		{"keyturn write sys/se", "sys/seal"},
		{"keyturn read sys/mounts/t", "sys/mounts/team/db"},
		{"keyturn rotate now ", "stripe"},
		{"keyturn rotate now stripe ", ""},
		{"keyturn policy read ", "default root"},
		{"keyturn policy write x " + folder + "/", folder + "/policy.hcl"},
		{"keyturn policy write x " + folder[:len(folder)-1], folder + "/"},
		{"keyturn write x a=@" + folder + "/", "a=@" + folder + "/policy.hcl"},
		{"keyturn write x @" + folder + "/p", "@" + folder + "/policy.hcl"},
		{"keyturn write x a=", ""},
		{"keyturn token create -policy=d", "-policy=default"},
		{"keyturn token create -role ", "ci"},
		{"keyturn token create -type ", "batch service"},
		{"keyturn token revoke -mode=path d", "database/"},
		{"keyturn token revoke d", ""},
		{"keyturn token capabilities da", "database/"},
		{"keyturn lease revoke -prefix database/creds/reader/", "database/creds/reader/abc"},
		{"keyturn secrets enable d", "database"},
		{"keyturn secrets disable t", "team/db/"},
		{"keyturn auth disable ", "people/ token/"},
		{"keyturn auth help p", "people/"},
		{"keyturn auth enable ", "token"},
		{"keyturn audit enable ", "file"},
		{"keyturn audit disable ", "file/"},
		{"keyturn login -method=ku", "-method=kubernetes"},
		{"keyturn login -path ", "people/ token/"},
		{"keyturn server -", "-config= -dev"},
		{"keyturn server -config=" + folder + "/", "-config=" + folder + "/policy.hcl"},
		{"keyturn server -config " + folder + "/", folder + "/policy.hcl"},
		{"keyturn server ", ""},
		{"keyturn kv get -- -", ""},
		{"keyt", ""},
	} {
		got := strings.Join(completions(t, address, c.line), " ")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
	}
}

// TestCompleteEveryPath checks that each command whose argument is a path or a stored name offers
// candidates.
func TestCompleteEveryPath(t *testing.T) {
	address := serverWithMounts(t)
	eachCommand(tree(Env{}), "keyturn", func(line string, c *command) {
		if c.local || !strings.Contains(c.args, "PATH") && !strings.Contains(c.args, "MOUNT") &&
			!strings.HasPrefix(c.args, "NAME") && !strings.HasPrefix(c.args, "LEASE") &&
			!strings.HasPrefix(c.args, "FROM") {
			return
		}
		if c.name == "revoke" {
			line += " -mode=path"
			if strings.Contains(line, "lease") {
				line = "keyturn lease revoke"
			}
		}
		if len(completions(t, address, line+" ")) == 0 {
			t.Errorf("nothing is offered behind %q, which takes %s", line, c.args)
		}
	})
}

// TestCompleteForShells checks that special characters are quoted for each shell.
func TestCompleteForShells(t *testing.T) {
	address := serverWithMounts(t)
	for _, c := range []struct{ shell, line, word, want string }{
		{"bash", "keyturn kv get secret/app/", "secret/app/", "secret/app/one \nsecret/app/we\\ ird\\$\\(x\\) \n"},
		{"bash", `keyturn kv get secret/app/we\ i`, `secret/app/we\ i`, "secret/app/we\\ ird\\$\\(x\\) \n"},
		{"bash", `keyturn kv get "secret/app/we i`, `secret/app/we i`, "secret/app/we ird\\$(x)\n"},
		{"bash", `keyturn kv get 'secret/app/we i`, `secret/app/we i`, "secret/app/we ird$(x)\n"},
		{"bash", "keyturn kv get -mount=s", "s", "secret \n"},
		{"bash", "keyturn kv g", "g", "get \n"},
		{"bash", "keyturn kv get -fi", "-fi", "-field=\n"},
		{"", "keyturn kv g", "g", "get\n"}, // installed by Vault's command line
		{"", "keyturn kv get secret/app/", "secret/app/", "secret/app/one\nsecret/app/we\\ ird\\$\\(x\\)\n"},
		{"zsh", "keyturn kv get -mount=s", "", "-mount=secret\t \n"},
		{"zsh", "keyturn kv get secret/", "", "secret/app/\t\nsecret/top\t \n"},
		{"fish", "keyturn kv g", "", "get\tRead a secret\n"},
		{"", "keyturn kv get secret/app/", "(none)", "secret/app/one\n"}, // a name that cannot be quoted is left out
	} {
		env := map[string]string{"VAULT_ADDR": address, "VAULT_TOKEN": "root", "VAULT_WRAP_TTL": "1m",
			"COMP_LINE": c.line + " and more", "COMP_POINT": fmt.Sprint(len(c.line)), completeIn: c.shell}
		args := []string{"keyturn", c.word, "before"}
		if c.shell == "zsh" || c.shell == "fish" || c.word == "(none)" {
			args = nil
		}
		if got := shellOutput(t, env, args...); got != c.want {
			t.Errorf("%s: %q: %q, want %q", c.shell, c.line, got, c.want)
		}
	}
}

// TestCompleteWithoutServer checks that a server that is down or hangs costs a moment and prints
// no error, and that candidates that need no server are offered.
func TestCompleteWithoutServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, address := range []string{"http://127.0.0.1:1", "http://" + silent.Addr().String(), "::no address",
		"https://" + silent.Addr().String()} {
		began := time.Now()
		for line, want := range map[string]string{"keyturn kv get ": "", "keyturn policy read ": "",
			"keyturn read s": "sys/", "keyturn kv p": "patch put"} {
			if got := strings.Join(completions(t, address, line), " "); got != want {
				t.Errorf("%s: %q: %q, want %q", address, line, got, want)
			}
		}
		// each line sends at most one such request; machines are busy
		if took := time.Since(began); took > 4*completionTime+10*time.Second {
			t.Errorf("%s: it took %s", address, took)
		}
	}
}

func TestShellWords(t *testing.T) {
	for _, c := range []struct {
		line, words, text, typed string
		quote                    rune
	}{
		{"a b", "a", "b", "b", 0},
		{"a b ", "a|b", "", "", 0},
		{`a 'b c' "d e`, "a|b c", "d e", `"d e`, '"'},
		{`a b\ c\`, "a", "b c", `b\ c\`, 0},
		{`a "b\"c`, "a", `b"c`, `"b\"c`, '"'},
		{`a 'b\`, "a", `b\`, `'b\`, '\''},
		{`a ""`, "a", "", `""`, 0},
		{`a "" b`, "a|", "b", "b", 0},
		{"", "", "", "", 0},
		{"  ", "", "", "", 0},
	} {
		words, last := shellWords(c.line)
		if strings.Join(words, "|") != c.words || last.text != c.text || last.typed != c.typed ||
			last.quote != c.quote {
			t.Errorf("%q: %q, %+v", c.line, words, last)
		}
	}
}

// FuzzShellWords checks that no line panics, and that a quoted name is read back unchanged.
func FuzzShellWords(f *testing.F) {
	f.Add("keyturn kv get 'x", "we ird$(x)")
	f.Fuzz(func(t *testing.T, line, name string) {
		shellWords(line)
		if strings.ContainsAny(name, "\n\x00") {
			return
		}
		name = strings.ToValidUTF8(name, "")
		if words, last := shellWords("x " + quotedForShell(name)); last.text != name &&
			(name != "" || len(words) != 1) {
			t.Errorf("%q is quoted %s, which means %q", name, quotedForShell(name), last.text)
		}
	})
}
