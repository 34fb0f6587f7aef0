package redis

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestScan: what is a reply in the protocol's version 2, however its bytes are cut, and what is
// none.
func TestScan(t *testing.T) {
	scan := func(in string, piece int) error {
		var s scanner
		for part := range slices.Chunk([]byte(in), piece) {
			if err := s.scan(part); err != nil {
				return err
			}
		}
		if len(s.line) > 0 || s.bulk > 0 || s.after || len(s.open) > 0 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
		for _, in := range []string{
			"+OK\r\n", "-NOPERM no\r\n", ":-12\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "$0\r\n\r\n", "$4\r\na\r\nb\r\n",
			"+OK\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n$1\r\nb\r\n", "",
		} {
			if err := scan(in, piece); err != nil {
				t.Errorf("%q in pieces of %d: %v", in, piece, err)
			}
		}
		for in, want := range map[string]error{
			"+OK":                        io.ErrUnexpectedEOF,
			"*1\r\n":                     io.ErrUnexpectedEOF,
			"$3\r\nab":                   io.ErrUnexpectedEOF,
			"+OK\n":                      errProtocol,
			"\r\n":                       errProtocol,
			"HTTP/1.1 400\r\n":           errProtocol,
			"$x\r\n":                     errProtocol,
			"$-2\r\n":                    errProtocol,
			"$1\r\nabc\r\n":              errProtocol,
			"$99999999999\r\n":           errProtocol,
			"*99999999\r\n":              errProtocol,
			"%1\r\n+a\r\n+b\r\n":         errProtocol, // of version 3
			strings.Repeat("*1\r\n", 20): errProtocol,
			strings.Repeat("+", 100<<10): errProtocol,
		} {
			if err := scan(in, piece); !errors.Is(err, want) {
				t.Errorf("%.20q in pieces of %d: %v; want %v", in, piece, err, want)
			}
		}
	}
}

// TestLongestReply: the limits of a reply are those that are documented, to the byte and the
// value.
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
		var s scanner
		err := s.scan([]byte(tt.in))
		if (err == nil) != tt.fine || !tt.fine && !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzScan: a reply is judged the same however its bytes are cut, and what the library makes of
// one that is let through needs no more room than the limits leave.
func FuzzScan(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:1\r\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		var whole, cut scanner
		want := whole.scan(in)
		var got error
		for part := range slices.Chunk(in, max(1, piece%1000)) {
			if got = cut.scan(part); got != nil {
				break
			}
		}
		if got != want {
			t.Errorf("%q: %v in pieces, %v as a whole", in, got, want)
		}
		if want == nil && (whole.values >= mostValues || whole.bulk > longestBulk || len(whole.open) > deepest) {
			t.Errorf("%q: %+v", in, whole)
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
	for _, in := range []string{`["~*"`, `[1]`, `[""]`, "nopass", "~* NoPass", ">secret", "<secret", "#abc", "!abc",
		"reset", "off", "on", "resetpass", " ", `[]`, "a\x00b",
		// Redis writes these into its file of users, or may, and then does not start.
		"(~a) +get)", "(~a(b) +get)", `["(~a) +get)"]`, "(~a +get", "~a(b", "~a)", "()x(", `["~a b"]`,
		"[\"(+get\x7f)\"]", `["(+get\u0001)"]`, `["~a\u007f"]`, `["~a\nuser x on"]`, "~{{name}}:*"} {
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
	}}, costtest.Shape{Unit: "~a "}, costtest.Shape{Unit: "("}, costtest.Shape{Unit: "(~a) "},
		costtest.Shape{Head: "[", Unit: `"~a",`, Tail: `"~b"]`}, costtest.Shape{Unit: "["})
}

func TestNamed(t *testing.T) {
	const list = "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:2 name=keyturn-a user=x cmd=client|list\nid=4 " +
		"addr=127.0.0.1:3 name=keyturn-ab user=name=keyturn-a\nid=5 name= user=default\nid=6 name=keyturn-a\n"
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
		return database.Config{Extra: map[string]string{"host": "redis.example.com"}, Username: "keyturn",
			Password: secret.Text("Canary")}
	}
	if err := Provider.Check(good()); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*database.Config){
		"host is empty":       func(c *database.Config) { c.Extra["host"] = "" },
		"without a scheme":    func(c *database.Config) { c.Extra["host"] = "redis://x" },
		"port":                func(c *database.Config) { c.Extra["port"] = "70000" },
		"has several servers": func(c *database.Config) { c.Extra["host"] = "a,b" },
		"has a port in it":    func(c *database.Config) { c.Extra["host"] = "a:1" },
		"are both given": func(c *database.Config) {
			c.Extra["cluster"],
				c.Extra["sentinel_master_name"] = "true", "m"
		},
		"without sentinel_master_name": func(c *database.Config) { c.Extra["sentinel_username"] = "u" },
		"sentinel_password is given": func(c *database.Config) {
			c.Hidden = map[string]secret.Value{"sentinel_password": secret.Text("Canary")}
		},
		"sentinel_password is empty": func(c *database.Config) {
			c.Extra["sentinel_master_name"],
				c.Extra["sentinel_username"] = "m", "u"
		},
		"without spaces":               func(c *database.Config) { c.Extra["sentinel_master_name"] = "a b" },
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
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) ||
			strings.Contains(err.Error(), "Canary") {
			t.Errorf("got %v, want Invalid with %q", err, want)
		}
	}
	for _, field := range []string{"revocation_statements", "renew_statements", "rollback_statements"} {
		if _, err := Provider.CheckStatements(field, []string{"x"}); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
