package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the transcripts")

// TestMain removes Vault's variables and replaces the home folder, because the API client reads
// the environment of the process, and the token helper the home folder.
func TestMain(m *testing.M) {
	flag.Parse()
	home, err := os.MkdirTemp("", "keyturn-cli-")
	if err != nil {
		panic(err)
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "VAULT_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("HOME", home)
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// TestSessions runs the commands of each testdata/*.session against a fake server and compares the
// results with the transcript. A session is a txtar archive. Its file routes has lines of method,
// path, status and body. Its file session has command lines that begin with a dollar sign, each
// followed by the requests that the server received (→), standard output, standard error (!) and
// an exit code other than 0. <<< gives standard input; NAME=value before the command sets a
// variable. Commands can read the other files by their names.
func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.session")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".session"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			playSession(t, file, archive)
		})
	}
}

func playSession(t *testing.T, file string, archive *txtar.Archive) {
	_ = os.Remove(filepath.Join(os.Getenv("HOME"), ".vault-token")) // left by another session; it need not exist
	fake := &fakeServer{t: t}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	folder := t.TempDir()
	for i, f := range archive.Files {
		switch f.Name {
		case "routes":
			fake.load(string(f.Data))
		case "session":
			var b strings.Builder
			for line := range strings.Lines(string(f.Data)) {
				if command, ok := strings.CutPrefix(line, "$ "); ok {
					command = strings.TrimSpace(command)
					fmt.Fprintf(&b, "$ %s\n", command)
					out := runLine(t, fake, server.URL, folder, command)
					out = strings.ReplaceAll(out, folder, "FOLDER")
					out = strings.ReplaceAll(out, strings.TrimPrefix(server.URL, "http://"), "SERVER")
					b.WriteString(out + "\n")
				}
			}
			if *update {
				archive.Files[i].Data = []byte(b.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(f.Data), b.String()); diff != "" {
				t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
			}
		default:
			if err := os.WriteFile(filepath.Join(folder, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// runLine runs one command line and describes the result.
func runLine(t *testing.T, fake *fakeServer, url, folder, line string) string {
	t.Helper()
	line, stdin, _ := strings.Cut(line, " <<< ")
	words := split(t, strings.ReplaceAll(line, "FOLDER", folder))
	environment := map[string]string{"VAULT_ADDR": url, "VAULT_TOKEN": "root"}
	for strings.Contains(first(words), "=") {
		name, value, _ := strings.Cut(words[0], "=")
		environment[name], words = strings.ReplaceAll(value, "SERVER", strings.TrimPrefix(url, "http://")), words[1:]
	}
	var stdout, stderr bytes.Buffer
	fake.seen = nil
	code := Main(t.Context(), words, Env{
		Stdin: strings.NewReader(strings.ReplaceAll(stdin, `\n`, "\n")), Stdout: &stdout, Stderr: &stderr, Layout: 1,
		Implements: "1.21.0",
		Getenv:     func(name string) string { return environment[name] },
	})
	var b strings.Builder
	for _, request := range fake.seen {
		fmt.Fprintf(&b, "→ %s\n", request)
	}
	b.WriteString(stdout.String())
	if stdout.Len() > 0 && !strings.HasSuffix(stdout.String(), "\n") {
		b.WriteString("(no line's end)\n")
	}
	for text := range strings.Lines(stderr.String()) {
		b.WriteString(strings.TrimSuffix("! "+strings.TrimSuffix(text, "\n"), " ") + "\n")
	}
	if code != 0 {
		fmt.Fprintf(&b, "(exit %d)\n", code)
	}
	return b.String()
}

// split splits a line at spaces outside quotes.
func split(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range line {
		switch {
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		t.Fatalf("a quote is not closed: %s", line)
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// A fakeServer answers by its routes and records the requests.
type fakeServer struct {
	t      *testing.T
	routes map[string]fakeAnswer
	seen   []string
}

type fakeAnswer struct {
	status int
	body   string
}

// load reads lines of method, path, status and body. Indented lines continue a body.
func (f *fakeServer) load(text string) {
	f.routes = map[string]fakeAnswer{}
	var last string
	for line := range strings.Lines(text) {
		if more, ok := strings.CutPrefix(line, "  "); ok {
			f.routes[last] = fakeAnswer{status: f.routes[last].status, body: f.routes[last].body + more}
			continue
		}
		parts := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(parts) < 3 {
			continue
		}
		answer := fakeAnswer{}
		if _, err := fmt.Sscan(parts[2], &answer.status); err != nil {
			f.t.Fatalf("route %q: %v", line, err)
		}
		if len(parts) == 4 {
			answer.body = parts[3]
		}
		last = parts[0] + " " + parts[1]
		f.routes[last] = answer
	}
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Errorf("reading a request: %v", err)
	}
	name := strings.TrimPrefix(r.URL.RequestURI(), "/v1/")
	method := r.Method
	if r.URL.Query().Get("list") == "true" {
		method, name = "LIST", strings.TrimPrefix(r.URL.Path, "/v1/")
	}
	note := method + " " + name
	if len(body) > 0 {
		note += " " + compact(body)
	}
	for _, pair := range [][2]string{{"X-Vault-Wrap-Ttl", "wrap"}, {"X-Vault-Namespace", "namespace"},
		{"X-Extra", "extra"}} {
		header, label := pair[0], pair[1]
		if v := r.Header.Get(header); v != "" {
			note += fmt.Sprintf(" [%s %s]", label, v)
		}
	}
	if v := r.Header.Get("X-Vault-Token"); v != "root" {
		note += fmt.Sprintf(" [token %q]", v)
	}
	f.seen = append(f.seen, note)
	answer, ok := f.routes[method+" "+name]
	if wrapped, found := f.routes["WRAPPED "+name]; found && r.Header.Get("X-Vault-Wrap-Ttl") != "" {
		answer, ok = wrapped, true
	}
	if !ok {
		answer = fakeAnswer{status: http.StatusNotFound, body: `{"errors":[]}`}
	}
	w.WriteHeader(answer.status)
	io.WriteString(w, answer.body)
}

func compact(body []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, body) != nil {
		return string(body)
	}
	return b.String()
}
