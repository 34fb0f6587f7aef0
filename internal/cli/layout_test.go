package cli

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// hostile has sequences that control a terminal: colours, the title, the clipboard, the position
// in the line, and the direction of text.
const hostile = "a\x1b]52;c;Y3VybA==\x07b\u009b2Jc\rd\x7fe\u202ef\u2066\bg"

// TestTerminalControlIsEscaped checks that no text of a server controls the terminal or adds a row
// to a table, in any layout.
func TestTerminalControlIsEscaped(t *testing.T) {
	const hostile = "a \x1b[2Jb\u202e c"
	var out, errors strings.Builder
	p := &printer{stdout: &out, stderr: &errors, format: "table"}
	if err := p.showTree(&api.Secret{Warnings: []string{hostile}, Data: map[string]any{
		"plain": hostile, "steps": []any{hostile}, "rows": []any{map[string]any{hostile: hostile}}, hostile: "x",
		"b" + hostile: []any{hostile},
	}}); err != nil {
		t.Fatal(err)
	}
	out.WriteString(historyTable(
		[]map[string]any{{"rotation": "1", "by": hostile, "rolled_back_because": hostile, "key_id": hostile}}))
	if text := out.String() + errors.String(); strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("printed: %q", text)
	}
	table := historyTable(
		[]map[string]any{{"rotation": "1", "reason": "manual\n2 done", "rolled_back_because": "x\n3 done"}})
	if n := strings.Count(table, "\n"); n != 3 {
		t.Errorf("one rotation has %d lines:\n%s", n-2, table)
	}
	if got := troubleOf(map[string]any{"pause_reason": "x\nrotation/keys/other  scheduled"},
		time.Now()); strings.Contains(got, "\n") {
		t.Errorf("a pause has several lines: %q", got)
	}
}

// TestPrintable prints hostile values, names, warnings and errors.
func TestPrintable(t *testing.T) {
	const want = `a\x1b]52;c;Y3VybA==\ab\u009b2Jc\rd\x7fe\u202ef\u2066\bg`
	if got := printable(hostile); got != want {
		t.Errorf("harmless: %q, want %q", got, want)
	}
	const plain = "schön\tund\nzwei — Zeilen ✓"
	if got := printable(plain); got != plain {
		t.Errorf("plain text became %q", got)
	}
	var stdout, stderr bytes.Buffer
	out := &printer{stdout: &stdout, stderr: &stderr, format: "table"}
	s := &session{out: *out, env: Env{Stderr: &stderr}}
	sec := &api.Secret{Warnings: []string{hostile}, Data: map[string]any{hostile: hostile, "list": []any{hostile}}}
	if err := errors.Join(out.show(sec), out.say("%s", hostile), out.write(keyTable([]string{hostile}))); err != nil {
		t.Fatal(err)
	}
	if code := s.report(t.Context(),
		remote(&api.ResponseError{Errors: []string{hostile}, StatusCode: 400}, "reading %s",
			hostile)); code != exitRemote {
		t.Errorf("code %d", code)
	}
	for name, text := range map[string]string{"standard output": stdout.String(), "standard error": stderr.String()} {
		if strings.ContainsAny(text, "\x1b\r\x07\b\x7f\u009b\u202e\u2066") || !strings.Contains(text, want) {
			t.Errorf("%s: %q", name, text)
		}
	}
	// A program gets the text unchanged.
	stdout.Reset()
	out.field = "x"
	if err := out.show(&api.Secret{Data: map[string]any{"x": hostile}}); err != nil || stdout.String() != hostile {
		t.Errorf("-field to a program: %q, %v", stdout.String(), err)
	}
}

// TestCVE_2026_55102 checks that no error shows the token, or the password of the address.
func TestCVE_2026_55102(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, address := range []string{
		"http://user:CANARY@" + host, "http://:CANARY@" + host, "http://user:CANARY@127.0.0.1:1",
		"http://user:CANARY@%zz", "http://user:CAN CANARY@" + host,
		"https://user:CANARY@" + host, "http://user:CAN:CANARY@" + host,
	} {
		for _, command := range [][]string{{"read", "a/b"}, {"status"}, {"write", "a/b", "c=CANARY"},
			{"kv", "put", "a/b", "c=CANARY"}, {"login", "CANARY"}, {"token", "lookup"}, {"list", "a"},
			{"unwrap", "CANARY"}} {
			var stdout, stderr bytes.Buffer
			env := map[string]string{"VAULT_ADDR": address, "VAULT_TOKEN": "CANARY"}
			code := Main(t.Context(), append([]string{"keyturn"}, command...),
				Env{Stdout: &stdout, Stderr: &stderr, Getenv: func(name string) string { return env[name] }})
			if code == exitOK || stderr.Len() == 0 || strings.Contains(stdout.String()+stderr.String(), "CANARY") {
				t.Errorf("%s with %s: code %d\n%s%s", command, address, code, &stdout, &stderr)
			}
		}
	}
}
