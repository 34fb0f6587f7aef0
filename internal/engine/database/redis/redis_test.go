package redis

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestReadReply(t *testing.T) {
	for in, want := range map[string]reply{
		"+OK\r\n":                       {kind: '+', text: "OK"},
		"-NOPERM no\r\n":                {kind: '-', text: "NOPERM no"},
		":-12\r\n":                      {kind: ':', text: "-12"},
		"$-1\r\n":                       {kind: '$', null: true},
		"*-1\r\n":                       {kind: '*', null: true},
		"$0\r\n\r\n":                    {kind: '$'},
		"$4\r\na\r\nb\r\n":              {kind: '$', text: "a\r\nb"},
		"*2\r\n$1\r\na\r\n*1\r\n:1\r\n": {kind: '*', list: []reply{{kind: '$', text: "a"}, {kind: '*', list: []reply{{kind: ':', text: "1"}}}}},
	} {
		got, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(reply{})); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", in, err, diff)
		}
	}
	for in, want := range map[string]error{
		"":                           io.EOF,
		"+OK":                        io.EOF,
		"+OK\n":                      errProtocol,
		"\r\n":                       errProtocol,
		"HTTP/1.1 400\r\n":           errProtocol,
		"$x\r\n":                     errProtocol,
		"$-2\r\n":                    errProtocol,
		"$3\r\nab":                   io.EOF,
		"$1\r\nabc":                  errProtocol,
		"$99999999999\r\n":           errProtocol,
		"*99999999\r\n":              errProtocol,
		strings.Repeat("*1\r\n", 20): errProtocol,
		strings.Repeat("+", 100<<10): errProtocol,
	} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, %v; want %v", in, got, err, want)
		}
	}
}

// TestLongestReply: the limits of a reply are those that are documented, to the byte and the value.
func TestLongestReply(t *testing.T) {
	values := func(n int) string { return fmt.Sprintf("*%d\r\n", n) + strings.Repeat(":1\r\n", n) }
	bulk := func(n int) string { return fmt.Sprintf("$%d\r\n", n) + strings.Repeat("a", n) + "\r\n" }
	for name, tt := range map[string]struct {
		in   string
		fine bool
	}{
		"line":           {"+" + strings.Repeat("a", longestLine-3) + "\r\n", true},
		"longer line":    {"+" + strings.Repeat("a", longestLine-2) + "\r\n", false},
		"bulk":           {bulk(longestBulk), true},
		"longer bulk":    {bulk(longestBulk + 1), false},
		"values":         {values(mostValues - 1), true},
		"more values":    {values(mostValues), false},
		"in two lists":   {"*2\r\n" + values(mostValues-3) + ":1\r\n", true},
		"more, in lists": {"*2\r\n" + values(mostValues-2) + ":1\r\n", false},
		"deep":           {strings.Repeat("*1\r\n", deepest) + ":1\r\n", true},
		"deeper":         {strings.Repeat("*1\r\n", deepest+1) + ":1\r\n", false},
	} {
		_, err := readReply(bufio.NewReader(strings.NewReader(tt.in)))
		if (err == nil) != tt.fine || !tt.fine && !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Commands are lists of texts in the protocol of replies, so that what was written reads back.
func FuzzReply(f *testing.F) {
	f.Add([]byte("*1\r\n$1\r\na\r\n"), "AUTH", "it's\r\n$3")
	f.Fuzz(func(t *testing.T, in []byte, a, b string) {
		_, _ = readReply(bufio.NewReader(bytes.NewReader(in)))
		got, err := readReply(bufio.NewReader(bytes.NewReader(appendCommand(nil, []string{a, b}))))
		if err != nil || len(got.list) != 2 || got.list[0].text != a || got.list[1].text != b {
			t.Errorf("%q %q became %v, %v", a, b, got, err)
		}
	})
}

func TestRules(t *testing.T) {
	for _, tt := range []struct{ in, want []string }{
		{[]string{`["~*", "+@read"]`}, []string{"~*", "+@read"}},
		{[]string{"~app:*", "+@read", "-keys"}, []string{"~app:*", "+@read", "-keys"}},
		{[]string{" ~app:*  +@read\n&news:* "}, []string{"~app:*", "+@read", "&news:*"}},
		{[]string{"+@read (+set ~tmp:*) +ping"}, []string{"+@read", "(+set ~tmp:*)", "+ping"}},
		{[]string{`["(+get\t~a)"]`}, []string{"(+get\t~a)"}},
		{[]string{"~app:(x)* ~{user}:*"}, []string{"~app:(x)*", "~{user}:*"}},
	} {
		got, err := rules(tt.in)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", tt.in, err, diff)
		}
	}
	for _, in := range []string{`["~*"`, `[1]`, `[""]`, "nopass", "~* NoPass", ">secret", "<secret", "#abc", "!abc", "reset", "off", "on", "resetpass", " ", `[]`, "a\x00b",
		// Redis writes these into its file of users, or may, and then does not start.
		"(~a) +get)", "(~a(b) +get)", `["(~a) +get)"]`, "(~a +get", "~a(b", "~a)", "()x(", `["~a b"]`, "[\"(+get\x7f)\"]", `["(+get\u0001)"]`, `["~a\u007f"]`, `["~a\nuser x on"]`, "~{{name}}:*"} {
		if got, err := rules([]string{in}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v; want Invalid", in, got, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add("~* +@read (x y)")
	f.Fuzz(func(t *testing.T, in string) {
		all, err := rules([]string{in})
		if err != nil {
			return
		}
		for _, rule := range all {
			if word := strings.ToLower(strings.TrimSpace(rule)); word == "nopass" || word == "off" || word == "" {
				t.Errorf("%q has the rule %q", in, rule)
			}
		}
	})
}

func FuzzRuleCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: database.MaxStatements, Parse: func(text string) error {
		_, err := checkStatements("creation_statements", []string{text})
		return err
	}}, costtest.Shape{Unit: "~a "}, costtest.Shape{Unit: "("}, costtest.Shape{Unit: "(~a) "}, costtest.Shape{Head: "[", Unit: `"~a",`, Tail: `"~b"]`}, costtest.Shape{Unit: "["})
}

func TestNamed(t *testing.T) {
	const list = "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 name=keyturn-a user=x cmd=client|list\nid=4 addr=127.0.0.1:3 name=keyturn-ab user=name=keyturn-a\nid=5 name= user=default\nid=6 name=keyturn-a\n"
	if diff := cmp.Diff([]string{"3", "6"}, named(list, "keyturn-a")); diff != "" {
		t.Error(diff)
	}
}

// Only a line that names the session has its id in the answer.
func FuzzNamed(f *testing.F) {
	f.Add("id=3 name=x\nid=4")
	f.Fuzz(func(t *testing.T, list string) {
		if ids := named(list, "keyturn-a"); len(ids) > 0 && !strings.Contains(list, "name=keyturn-a") {
			t.Errorf("%q has %q", list, ids)
		}
	})
}

func TestCheck(t *testing.T) {
	good := func() database.Config {
		return database.Config{Extra: map[string]string{"host": "redis.example.com"}, Username: "keyturn", Password: secret.Text("Canary")}
	}
	if err := Provider.Check(good()); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*database.Config){
		"host is empty":                func(c *database.Config) { c.Extra["host"] = "" },
		"without a scheme":             func(c *database.Config) { c.Extra["host"] = "redis://x" },
		"port":                         func(c *database.Config) { c.Extra["port"] = "70000" },
		"connection_url is not":        func(c *database.Config) { c.URL = secret.Text("redis://x:Canary@y") },
		"persistence_mode":             func(c *database.Config) { c.Extra["persistence_mode"] = "RDB" },
		"password is empty":            func(c *database.Config) { c.Password = secret.Value{} },
		"tls is not true":              func(c *database.Config) { c.Extra["insecure_tls"] = "true" },
		"ca_cert has no certificate":   func(c *database.Config) { c.Extra["tls"], c.Extra["ca_cert"] = "true", "x" },
		"tls_certificate and private_": func(c *database.Config) { c.Extra["tls"], c.TLSCertificate = "true", "x" },
		"max_connection_lifetime":      func(c *database.Config) { c.ConnLifetime = -time.Second },
		"password_authentication":      func(c *database.Config) { c.PasswordAuthentication = "scram-sha-256" },
	} {
		c := good()
		edit(&c)
		err := Provider.Check(c)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) || strings.Contains(err.Error(), "Canary") {
			t.Errorf("got %v, want Invalid with %q", err, want)
		}
	}
	for _, field := range []string{"revocation_statements", "renew_statements", "rollback_statements"} {
		if _, err := Provider.CheckStatements(field, []string{"x"}); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
