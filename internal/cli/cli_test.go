package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// eachCommand calls do with each command that runs, and the path to it.
func eachCommand(c *command, line string, do func(line string, c *command)) {
	for _, sub := range c.sub {
		eachCommand(sub, line+" "+sub.name, do)
	}
	if len(c.sub) == 0 {
		do(line, c)
	}
}

// TestHelp checks that every command has a description and examples, and that each example parses.
func TestHelp(t *testing.T) {
	root := tree(Env{})
	eachCommand(root, "keyturn", func(line string, c *command) {
		if c.short == "" {
			t.Errorf("%s: no short text", line)
		}
		if c.hook != nil {
			return
		}
		if c.long == "" || len(c.examples) == 0 {
			t.Errorf("%s: no long text or no examples", line)
		}
		found := false
		for _, e := range c.examples {
			words := exampleWords(t, e.line)
			if words == nil {
				continue
			}
			found = true
			path, rest, err := tree(Env{}).find(words[1:])
			if err != nil || lineOf("keyturn", path) != line {
				t.Errorf("%s: the example %q is for %q (%v)", line, e.line, lineOf("keyturn", path), err)
				continue
			}
			s := &session{line: line, env: Env{Getenv: func(string) string { return "" }}}
			leaf := path[len(path)-1]
			s.flags = newFlags(leaf, s)
			if _, err := s.prepare(leaf, rest); err != nil {
				t.Errorf("%s: the example %q: %v", line, e.line, err)
			}
		}
		if !found {
			t.Errorf("%s: no example calls it", line)
		}
	})
}

// exampleWords returns the words of our command in an example.
func exampleWords(t *testing.T, line string) []string {
	t.Helper()
	at := strings.Index(line, "keyturn ")
	if at < 0 {
		return nil
	}
	rest := line[at:]
	if at >= 2 && line[at-2:at] == "$(" {
		rest, _, _ = strings.Cut(rest, ")")
	}
	rest, _, _ = strings.Cut(rest, " >")
	return split(t, rest)
}

// TestHelpOutput checks that -h, --help and help print the usage to standard output and succeed,
// and that the usage says vault when the program is started under that name.
func TestHelpOutput(t *testing.T) {
	for _, line := range []string{"keyturn -h", "keyturn help", "keyturn kv --help", "keyturn help kv get",
		"keyturn kv get -h", "/usr/bin/vault kv get x -help"} {
		var stdout, stderr bytes.Buffer
		words := strings.Fields(line)
		code := Main(t.Context(), words, Env{Stdout: &stdout, Stderr: &stderr})
		name := "keyturn"
		if strings.Contains(line, "vault") {
			name = "vault"
		}
		if code != 0 || stderr.Len() > 0 {
			t.Errorf("%s: exit %d, standard error %q", line, code, stderr.String())
		}
		if !strings.HasPrefix(stdout.String(), "Usage: "+name+" ") {
			t.Errorf("%s: %q is not the usage", line, stdout.String())
		}
		if name == "vault" && strings.Contains(stdout.String(), "$ keyturn") {
			t.Errorf("%s: an example says keyturn:\n%s", line, stdout.String())
		}
	}
}

// TestHooks checks that server and demo get their arguments unchanged and set the exit code.
func TestHooks(t *testing.T) {
	var got []string
	hook := func(_ context.Context, args []string, stdin io.Reader, stdout, _ io.Writer) int {
		got = args
		io.Copy(stdout, stdin)
		return 7
	}
	var stdout bytes.Buffer
	env := Env{Stdin: strings.NewReader("in"), Stdout: &stdout, Stderr: io.Discard, Server: hook}
	code := Main(t.Context(), []string{"keyturn", "server", "-dev", "-h", "x"}, env)
	if code != 7 {
		t.Errorf("exit %d, want 7", code)
	}
	if fmt.Sprint(got) != "[-dev -h x]" {
		t.Errorf("arguments %q", got)
	}
	if stdout.String() != "in" {
		t.Errorf("output %q", stdout.String())
	}
}

// TestOutputCannotBeWritten checks that a failed write of the output is an error.
func TestOutputCannotBeWritten(t *testing.T) {
	for _, line := range []string{"keyturn version", "keyturn version -format=json", "keyturn version -h",
		"keyturn -h"} {
		var stderr bytes.Buffer
		code := Main(t.Context(), strings.Fields(line), Env{Stdout: brokenWriter{}, Stderr: &stderr})
		if code != exitLocal {
			t.Errorf("%s: exit %d", line, code)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the pipe is closed") }

func TestHumanDuration(t *testing.T) {
	for seconds, want := range map[int64]string{
		0: "0s", 57: "57s", 60: "1m", 90: "1m30s", 1800: "30m", 3600: "1h", 3660: "1h1m", 3601: "1h0m1s",
		2764800: "768h", 2764799: "767h59m59s", 36000: "10h", 600: "10m", 1 << 62: "4611686018427387904s",
	} {
		if got := humanDuration(seconds); got != want {
			t.Errorf("humanDuration(%d) = %q, want %q", seconds, got, want)
		}
	}
}

func TestDurationFields(t *testing.T) {
	for field, want := range map[string]bool{
		"ttl": true, "max_ttl": true, "rotation_period": true, "rotation_window": true, "lease_duration": true,
		"version": false, "window": false, "rotation_schedule": false,
	} {
		if got := isDuration(field); got != want {
			t.Errorf("isDuration(%q) = %t, want %t", field, got, want)
		}
	}
}

func TestYAML(t *testing.T) {
	const in = `{"empty":{},"list":[],"nested":[[1,[2]],{"a":"x","b":["c: d"]}],"no":"yes","number":"12","text":"a\nb","t":true,"n":null,"key: odd":"# x","one":1.50,"":""}`
	const want = `"": ""
empty: {}
"key: odd": "# x"
list: []
"n": null
nested:
- - 1
  - - 2
- a: x
  b:
  - "c: d"
"no": "yes"
number: "12"
one: 1.50
t: true
text: "a\nb"
`
	got, err := toYAML([]byte(in))
	if err != nil || string(got) != want {
		t.Errorf("got (%v):\n%s\nwant:\n%s", err, got, want)
	}
}

func TestFlagsAnywhere(t *testing.T) {
	for _, c := range []struct{ line, rest, field string }{
		{"a b -field=x", "a b", "x"},
		{"-field x a b", "a b", "x"},
		{"a --field x b", "a b", "x"},
		{"a - b", "a - b", ""},
		{"a -- -field=x", "a -field=x", ""},
		{"-- -field=x -- b", "-field=x -- b", ""},
		{"-field=x -- a -field=y", "a -field=y", "x"},
		{"-field=x -field=y a", "a", "y"},
	} {
		s := &session{}
		f := newFlags(&command{name: "test", fields: true}, s)
		rest, err := f.parse(strings.Fields(c.line))
		if err != nil || strings.Join(rest, " ") != c.rest || s.out.field != c.field {
			t.Errorf("%q: %q, field %q (%v); want %q, %q", c.line, rest, s.out.field, err, c.rest, c.field)
		}
	}
}
