package cli

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Answers that servers give.
const (
	invalidToken      = `403 {"errors":["permission denied: the token is not known, has expired or was revoked; log in again"]}`
	invalidTokenVault = `403 {"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`
	denied            = `403 {"errors":["1 error occurred:\n\t* permission denied\n\n"]}`
	noToken           = `403 {"errors":["permission denied: missing client token"]}`
	noTokenVault      = `400 {"errors":["missing client token"]}`
	preflight         = `403 {"errors":["permission denied: preflight capability check returned 403: the token may see nothing"]}`
	noMount           = `404 {"errors":["no handler for route \"x\": nothing is mounted there"]}`
	noKey             = `404 {"errors":["there is no rotation key \"x\"; list keys/"]}`
	empty             = `404 {"errors":[]}`
	sealed            = `503 {"errors":["the server is sealed; unseal it with keyturn operator unseal"]}`
	overloaded        = `503 {"errors":["too many requests; none of them was about what is sealed"]}`
	kv2               = `200 {"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`
	kv1               = `200 {"data":{"path":"secret/","type":"kv","options":{"version":"1"}}}`
	aws               = `200 {"data":{"path":"secret/","type":"aws","options":null}}`
	rotationServer    = `200 {"data":{"path":"rotation/","type":"rotation"}}`
)

// TestHints runs commands against servers for which a hint is true, and for which it is not. A
// text after an exclamation mark must not be printed.
func TestHints(t *testing.T) {
	_ = os.Remove(filepath.Join(os.Getenv("HOME"), ".vault-token")) // left by another test; it need not exist
	const (
		seen      = "sys/internal/ui/mounts/secret/x"
		mounted   = "nothing is mounted there, or no policy"
		versioned = `use "keyturn kv get secret/x"`
		upgrade   = "kv enable-versioning secret/"
		unset     = "VAULT_TOKEN has that token"
		logIn     = "no token was sent"
		method    = "no login method is enabled at"
		keys      = `"keyturn rotate status" lists the keys`
		noEngine  = "no rotation engine"
		noKeys    = "no key is rotated there yet"
	)
	status := func(fields string) string { return "200 {" + fields + "}" }
	for _, c := range []struct {
		line    string
		answers map[string]string // by path; all others: 404
		wants   []string
	}{
		// Errors of the lookup of the mount.
		{"kv get secret/x", map[string]string{seen: preflight}, []string{mounted, "!" + unset}},
		{"kv get secret/x", map[string]string{seen: invalidToken}, []string{unset, "!" + mounted}},
		{"kv get secret/x", map[string]string{seen: invalidTokenVault}, []string{unset, "!" + mounted}},
		{"kv get secret/x", map[string]string{seen: denied}, []string{"!Hint"}},
		// Errors about tokens.
		{"read secret/x", map[string]string{"secret/x": invalidToken}, []string{unset}},
		{"VAULT_TOKEN= read secret/x", map[string]string{"secret/x": noToken}, []string{logIn}},
		{"VAULT_TOKEN= read secret/x", map[string]string{"secret/x": noTokenVault}, []string{logIn}},
		{"VAULT_TOKEN= read secret/x", map[string]string{"secret/x": denied}, []string{logIn}},
		{"VAULT_TOKEN= VAULT_AGENT_ADDR=SERVER read secret/x", map[string]string{"secret/x": denied},
			[]string{"!Hint"}},
		{"read secret/x", map[string]string{"secret/x": denied}, []string{"!Hint"}},
		{"token lookup other",
			map[string]string{"auth/token/lookup": `403 {"errors":["bad token: it is not known, has expired or was revoked; log in again"]}`}, []string{"!Hint"}},
		{"login dead", map[string]string{"auth/token/lookup-self": invalidToken}, []string{"!Hint"}},
		// Login methods.
		{"login -method=userpass username=a password=b", map[string]string{"auth/userpass/login/a": noToken},
			[]string{method + " auth/userpass/login/a"}},
		{"login -method=userpass username=a password=b", map[string]string{"auth/userpass/login/a": noTokenVault},
			[]string{method}},
		{"login -method=userpass username=a password=b", map[string]string{"auth/userpass/login/a": noMount},
			[]string{method}},
		{"login -method=userpass username=a password=b",
			map[string]string{"auth/userpass/login/a": `400 {"errors":["invalid username or password"]}`},
			[]string{"!Hint"}},
		{"login -method=userpass username=a password=b",
			map[string]string{"auth/userpass/login/a": `404 {"errors":["there is no user"]}`}, []string{"!Hint"}},
		{"login -method=userpass username=a password=b", map[string]string{"auth/userpass/login/a": denied},
			[]string{"!Hint"}},
		// Versions of the key-value engine.
		{"read secret/x", map[string]string{seen: kv2}, []string{versioned}},
		{"read secret/x", map[string]string{seen: kv1}, []string{"!Hint"}},
		{"read secret/x", map[string]string{seen: preflight}, []string{"!Hint"}},
		{"read secret/data/x", map[string]string{"sys/internal/ui/mounts/secret/data/x": kv2}, []string{"!Hint"}},
		{"read secret", map[string]string{"sys/internal/ui/mounts/secret": kv2}, []string{"!Hint"}},
		{"list secret", map[string]string{"sys/internal/ui/mounts/secret": kv2},
			[]string{`use "keyturn kv list secret"`}},
		{"read secret/x", map[string]string{"secret/x": denied, seen: kv2}, []string{"!kv get"}},
		{"kv rollback -version=1 secret/x", map[string]string{seen: kv1}, []string{upgrade}},
		{"kv rollback -version=1 secret/x", map[string]string{seen: aws},
			[]string{"an engine of type aws is mounted", "!" + upgrade}},
		{"kv rollback -version=1 secret/x", map[string]string{}, []string{"the server does not say", "!" + upgrade}},
		// Seals.
		{"read x", map[string]string{"x": sealed,
			"sys/seal-status": status(`"type":"shamir","initialized":true,"sealed":true`)},
			[]string{`unseal the server with "keyturn operator unseal"`, "!operator init"}},
		{"read x", map[string]string{"x": sealed,
			"sys/seal-status": status(`"type":"shamir","initialized":false,"sealed":true`)},
			[]string{`set it up with "keyturn operator init"`, `!with "keyturn operator unseal"`}},
		{"read x", map[string]string{"x": sealed,
			"sys/seal-status": status(`"type":"static","initialized":true,"sealed":true,"recovery_seal":true`)},
			[]string{"the server unseals itself", `!with "keyturn operator`}},
		{"read x", map[string]string{"x": overloaded,
			"sys/seal-status": status(`"type":"shamir","initialized":true,"sealed":false`)}, []string{"!Hint"}},
		{"read x", map[string]string{"x": sealed}, []string{"!Hint"}},
		// Rotation engines and keys.
		{"rotate now x",
			map[string]string{"rotation/keys/x/rotate": noKey, "sys/internal/ui/mounts/rotation": rotationServer},
			[]string{keys, "!" + noEngine}},
		{"rotate status x", map[string]string{"sys/internal/ui/mounts/rotation": rotationServer},
			[]string{keys, "!" + noEngine}},
		{"rotate status -mount=secret x", map[string]string{"sys/internal/ui/mounts/secret": aws},
			[]string{"of type aws, not a rotation engine", "!" + keys}},
		{"rotate now x",
			map[string]string{"rotation/keys/x/rotate": noMount, "sys/internal/ui/mounts/rotation": preflight},
			[]string{noEngine + " is mounted at rotation/, or no policy", "!" + keys}},
		{"rotate history x", map[string]string{"sys/internal/ui/mounts/rotation": invalidToken},
			[]string{"!Hint: no rotation"}},
		{"rotate now x", map[string]string{"rotation/keys/x/rotate": invalidToken}, []string{unset, "!" + noEngine}},
		{"rotate status", map[string]string{"sys/internal/ui/mounts/rotation": rotationServer},
			[]string{noKeys, "!" + noEngine}},
		{"rotate status", map[string]string{"sys/internal/ui/mounts/rotation": preflight},
			[]string{noEngine, "!" + noKeys}},
		{"rotate status", nil, []string{"!Hint"}},
		// Mistakes on the command line.
		{"kv get -verson=1 secret/x", nil, []string{"did you mean -version?", "kv get -h"}},
		{"kv get -zzzzzzz=1 secret/x", nil, []string{"kv get -h", "!did you mean"}},
		{"write secret/x", nil, []string{"-force to write without data"}},
		{"auth help nonesuch", map[string]string{"sys/auth": `200 {"data":{}}`},
			[]string{`"keyturn auth list" lists the enabled methods`}},
		{"VAULT_TOKEN= print token", nil, []string{`log in with "keyturn login"`}},
		{"VAULT_ADDR=127.0.0.1:1 status", nil, []string{"an address begins with https://"}},
		{"VAULT_ADDR=localhost:1 status", nil, []string{"as in VAULT_ADDR=https://localhost:1."}},
		{"VAULT_ADDR=http://%zz status", nil, []string{"!begins with"}},
	} {
		out := hintsOf(t, c.line, c.answers)
		for _, want := range c.wants {
			unwanted, not := strings.CutPrefix(want, "!")
			if not == strings.Contains(out, strings.TrimPrefix(want, "!")) {
				t.Errorf("%s with %v: want %q (unwanted: %q, %t) in\n%s", c.line, c.answers, want, unwanted, not, out)
			}
		}
	}
}

// hintsOf runs a line against a server with these answers, and returns the standard error.
func hintsOf(t *testing.T, line string, answers map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := answers[strings.TrimPrefix(r.URL.Path, "/v1/")]
		if answer == "" {
			answer = empty
		}
		var code int
		if _, err := fmt.Sscan(answer, &code); err != nil {
			t.Error(err)
		}
		w.WriteHeader(code)
		io.WriteString(w, answer[4:])
	}))
	defer server.Close()
	env := map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "held"}
	words := strings.Fields(line)
	for strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-") {
		name, value, _ := strings.Cut(words[0], "=")
		env[name], words = strings.ReplaceAll(value, "SERVER", server.URL), words[1:]
	}
	var stderr bytes.Buffer
	Main(t.Context(), append([]string{"keyturn"}, words...),
		Env{Stdout: io.Discard, Stderr: &stderr, Getenv: func(name string) string { return env[name] }})
	return stderr.String()
}

// TestHintsOfConnections checks the hints for requests without an answer. A path that contains the
// text of an error must not give a hint.
func TestHintsOfConnections(t *testing.T) {
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hangs := "http://" + silent.Addr().String()
	reset := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Close()
		}
	}))
	defer reset.Close()
	for _, c := range []struct {
		address string
		flags   []string
		want    string // empty: no hint
	}{
		{"http://127.0.0.1:1", nil, "no server is reachable at http://127.0.0.1:1"},
		{strings.Replace(plain.URL, "http:", "https:", 1), nil, "the server speaks plain http"},
		{secure.URL, nil, "-ca-cert or VAULT_CACERT"},
		{secure.URL, []string{"-ca-cert=" + authority, "-tls-server-name=other.test"}, "does not fit its address"},
		{strings.Replace(secure.URL, "https:", "http:", 1), nil, "the server speaks https"},
		{hangs, nil, "did not answer in time; set VAULT_CLIENT_TIMEOUT"},
		{reset.URL, nil, ""},
	} {
		t.Setenv("VAULT_CLIENT_TIMEOUT", "60s")
		if c.address == hangs {
			t.Setenv("VAULT_CLIENT_TIMEOUT", "1s")
		}
		for _, path := range []string{"x", "refused/x509:/no such host/certificate signed by unknown authority"} {
			var stderr bytes.Buffer
			env := map[string]string{"VAULT_ADDR": c.address, "VAULT_TOKEN": "x"}
			args := append([]string{"keyturn", "read", path}, c.flags...)
			Main(t.Context(), args,
				Env{Stdout: io.Discard, Stderr: &stderr, Getenv: func(name string) string { return env[name] }})
			if strings.Count(stderr.String(), "Hint: ") != min(1, len(c.want)) ||
				!strings.Contains(stderr.String(), c.want) {
				t.Errorf("%s %v %s: want %q in\n%s", c.address, c.flags, path, c.want, &stderr)
			}
		}
	}
}

// TestHintOfExpiredCertificate checks hints for errors that a test server cannot cause.
func TestHintOfExpiredCertificate(t *testing.T) {
	for reason, want := range map[x509.InvalidReason]string{x509.Expired: "has expired or is not valid yet",
		x509.NotAuthorizedToSign: ""} {
		got := connectionHint(
			&url.Error{Op: "Get", URL: "https://h/x", Err: x509.CertificateInvalidError{Reason: reason}}, "https://h")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("reason %d: %q, want %q", reason, got, want)
		}
	}
	unknown := &net.OpError{Op: "dial", Err: &net.DNSError{Name: "h", IsNotFound: true}}
	if got := connectionHint(&url.Error{Op: "Get", URL: "https://h/x", Err: unknown},
		"https://h"); !strings.Contains(got, "there is no host h") {
		t.Errorf("a name that is not known: %q", got)
	}
	if got := connectionHint(
		&url.Error{Op: "Get", URL: "https://h/x", Err: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}},
		"https://h"); !strings.Contains(got, "does a firewall") {
		t.Errorf("no answer to dialling: %q", got)
	}
}
