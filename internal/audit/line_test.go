package audit

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC)

func appToken() *Auth {
	return &Auth{
		Token: secret.Text("hvs.CAESIexampleexampleexample"), Accessor: "9wFz1dYpQ2mRkLx0aBcDeFgH",
		DisplayName: "approle",
		Policies:    []string{"app", "default"}, TokenPolicies: []string{"app", "default"},
		Metadata: map[string]string{"role_name": "app"},
		EntityID: "f1c2d3e4-0000-4000-8000-1234567890ab", TokenType: "service", TTL: time.Hour,
		Issued: noon.Add(-time.Minute),
	}
}

var (
	database = Mount{Point: "database/", Type: "database", Accessor: "database_9f3c1a2b", Class: "secret"}
	userpass = Mount{Point: "auth/userpass/", Type: "userpass", Accessor: "auth_userpass_1b2c3d4e", Class: "auth"}
	rotation = Mount{Point: "rotation/", Type: "rotation", Accessor: "rotation_5e6f7a8b", Class: "secret"}
	client   = netip.MustParseAddrPort("10.1.2.3:45678")
)

// pairs are the operations in the golden file.
func pairs() map[string][2]*Entry {
	all := map[string][2]*Entry{}
	add := func(name string, q *Entry, r *Response, errText string) {
		all[name] = [2]*Entry{q, q.Answered(q.Time.Add(3*time.Millisecond), r, errText)}
	}
	add("failed-login", &Entry{
		Kind: KindRequest, Time: noon, Decision: &Decision{Allowed: true},
		Request: &Request{
			ID: "11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Operation: "update", Path: "auth/userpass/login/ann",
			Mount: userpass, Remote: client,
			Data: Data{V: wire.RawOf([]byte(`{"password": "hunter2"}`))},
		},
	}, nil, ErrorText("invalid username or password"))
	denied := &Entry{
		Kind: KindRequest, Time: noon, Auth: appToken(), Decision: &Decision{}, Error: ErrorText("permission denied"),
		Request: &Request{
			ID: "22222222-aaaa-4aaa-8aaa-aaaaaaaaaaaa", ClientID: "f1c2d3e4-0000-4000-8000-1234567890ab",
			Operation: "read",
			Path:      "database/creds/admin", Mount: database, Remote: client,
		},
	}
	add("permission-denied", denied, nil, denied.Error)
	add("credentials-issued", &Entry{
		Kind: KindRequest, Time: noon, Auth: appToken(), Decision: &Decision{Allowed: true, Granting: []string{"app"}},
		Request: &Request{
			ID: "33333333-aaaa-4aaa-8aaa-aaaaaaaaaaaa", ClientID: "f1c2d3e4-0000-4000-8000-1234567890ab",
			Operation: "read",
			Path:      "database/creds/app-readonly", Mount: database, Remote: client,
			Headers: []Header{{Name: "user-agent", Values: []string{"curl/8.5"}}},
		},
	}, &Response{
		LeaseID: "database/creds/app-readonly/rVnR2mXyZ0aBcDeFgHiJkLmN",
		Data: Data{V: map[string]secret.Value{
			"username": secret.Text("v-approle-app-read-x1"), "password": secret.Text("p4ssw0rd"),
		}},
	}, "")
	expiry := Expiry("44444444-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "database/creds/app-readonly/rVnR2mXyZ0aBcDeFgHiJkLmN",
		database)
	add("automatic-expiry", expiry.Request(noon), &Response{LeaseID: expiry.Path}, "")
	turn := Turn("55555555-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "rotation/keys/stripe", "turn-7", "publish", rotation)
	add("automatic-rotation", turn.Request(noon), &Response{Data: Detail{"version": "8", "key_id": "key_2"}}, "")
	add("login-wrapped", &Entry{
		Kind: KindRequest, Time: noon, Decision: &Decision{Allowed: true},
		Request: &Request{
			ID: "66666666-aaaa-4aaa-8aaa-aaaaaaaaaaaa", Operation: "update", Path: "auth/userpass/login/ann",
			Mount: userpass, Remote: client, WrapTTL: time.Minute,
			Data: Data{V: wire.RawOf([]byte(`{"password":"correct","n":5,"on":true,"none":null,"list":["a",1]}`))},
		},
	}, &Response{
		Auth: appToken(),
		Wrap: &Wrap{
			Token: secret.Text("hvs.wrapping"), Accessor: "wrapaccessor", WrappedAccessor: "9wFz1dYpQ2mRkLx0aBcDeFgH",
			TTL: time.Minute, Created: noon, CreationPath: "auth/userpass/login/ann",
		},
		Warnings: []string{"TTL was capped"},
	}, "")
	return all
}

// TestGoldenLines pins the format that log watchers parse.
func TestGoldenLines(t *testing.T) {
	r := &renderer{h: NewHasher(testSalt())}
	for name, pair := range pairs() {
		var got []byte
		at := Position{}
		for _, e := range pair {
			line := r.entry(nil, e)
			if !json.Valid(line) {
				t.Fatalf("%s: not JSON: %s", name, line)
			}
			got, at = linked(got, line, at, 0)
		}
		path := filepath.Join("testdata", name+".jsonl")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if report, err := VerifyAfter(Position{}, bytes.NewReader(got)); err != nil || !report.OK() {
			t.Errorf("%s: %v, %v", name, report.Problems, err)
		}
	}
}

// canaries are secrets of each kind of leaf.
var canaries = []secret.Value{
	secret.Text("canary-text-5f1e"), secret.Text("canary-pass-77aa"), secret.Text("8675309111"),
	secret.Text("canary-token-0b"),
	secret.Text("canary-header-9"), secret.Text("canary-wrap-3c"), secret.Text("canary \" quoted"),
	secret.Text("31337.25"), secret.Text("canary-accessor-1"),
}

// TestNoSecretLeaf is the negative test for CVE-2025-62513 and CVE-2025-62705, and for numbers,
// which Vault's devices write in clear: a line does not show any secret in an entry; with log_raw,
// it shows all.
func TestNoSecretLeaf(t *testing.T) {
	c := func(i int) string { return canaries[i].RevealString() }
	quoted, err := json.Marshal(c(6))
	if err != nil {
		t.Fatal(err)
	}
	entry := func() *Entry {
		return &Entry{
			Kind: KindResponse, Time: noon, Auth: &Auth{Token: canaries[3], Accessor: c(8)},
			Request: &Request{
				ID: "1", Path: "x", Operation: "update", Token: canaries[3],
				Data: Data{V: wire.RawOf([]byte("{\"a\": \"" + c(0) + "\",\n\t\"n\":" + c(2) + ",\"f\":[" + c(7) +
					",{\"q\":" + string(quoted) + "}]}"))},
				Headers: []Header{{Name: "x", Values: []string{c(4)}, Hash: true}},
			},
			Response: &Response{
				Auth: &Auth{Token: canaries[3], Accessor: c(8)},
				Data: Data{V: map[string]any{"p": canaries[1], "n": 8675309111, "f": 31337.25, "l": []string{
					c(0),
				}, "b": []secret.Value{canaries[6]}}},
				Wrap: &Wrap{Token: canaries[5], Accessor: c(8), WrappedAccessor: c(8), Created: noon},
			},
		}
	}
	hashed := (&renderer{h: NewHasher(testSalt())}).entry(nil, entry())
	h := NewHasher(testSalt())
	h.Raw = true
	raw := (&renderer{h: h}).entry(nil, entry())
	for _, line := range [][]byte{hashed, raw} {
		if !json.Valid(line) || bytes.ContainsAny(line, "\n\r") {
			t.Errorf("no JSON on one line: %q", line)
		}
	}
	for _, canary := range canaries {
		form := wire.AppendString(nil, canary.RevealString())
		form = form[1 : len(form)-1]
		if bytes.Contains(hashed, form) {
			t.Errorf("the line shows %s:\n%s", form, hashed)
		}
		if !bytes.Contains(raw, form) {
			t.Errorf("with log_raw, the line does not show %s:\n%s", form, raw)
		}
	}
}

// TestBooleans: true and false are hashed, null is not.
func TestBooleans(t *testing.T) {
	h := NewHasher(testSalt())
	got := string(Data{V: wire.RawOf([]byte(`{"admin":true,"none":null}`))}.AppendAudit(nil, h))
	if want := `{"admin":"` + h.Hash(secret.Text("true")) + `","none":null}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOptionsOfLines(t *testing.T) {
	q := &Entry{Kind: KindRequest, Time: noon, Auth: appToken(), Request: &Request{
		ID: "1", Operation: "list", Path: "secret/metadata/",
	}}
	e := q.Answered(noon, &Response{Data: Data{
		V: wire.RawOf([]byte(`{"keys":["a","b,]","c\"["],"key_info":{"a":{"x":[1,2]},"b":{}},"more":["d"]}`)),
	}}, "")
	full := (&renderer{h: NewHasher(testSalt())}).entry(nil, e)
	short := (&renderer{h: NewHasher(testSalt()), elideLists: true, plainAccessor: true}).entry(nil, e)
	if !bytes.Contains(short, []byte(`"data":{"keys":3,"key_info":2,"more":["hmac-sha256:`)) {
		t.Errorf("elide_list_responses: %s", short)
	}
	if !bytes.Contains(full, []byte(`"data":{"keys":["hmac-sha256:`)) {
		t.Errorf("without elide_list_responses: %s", full)
	}
	if !bytes.Contains(short, []byte(e.Auth.Accessor)) || bytes.Contains(full, []byte(e.Auth.Accessor)) {
		t.Errorf("hmac_accessor: plain %s\nhashed %s", short, full)
	}
	clear := Data{V: wire.RawOf([]byte(`{"type":"kv","password":"p"}`)), Clear: []string{"type"}}.AppendAudit(nil,
		NewHasher(testSalt()))
	if !bytes.HasPrefix(clear, []byte(`{"type":"kv","password":"hmac-`)) {
		t.Errorf("Clear: %s", clear)
	}
	for text, want := range map[string]int{
		`[]`: 0, `[ ]`: 0, `{}`: 0, `[1]`: 1, `["a,b"]`: 1, `[[1,2],{"a":1,"b":2}]`: 2, `{"a":"}","b":"\\\","}`: 2,
	} {
		if n, ok := elements([]byte(text)); !ok || n != want {
			t.Errorf("elements(%s) = %d, %v; want %d", text, n, ok, want)
		}
	}
}

// TestFragment: a token is hashed once for each device.
func TestFragment(t *testing.T) {
	one, two := &renderer{h: NewHasher(testSalt())}, &renderer{
		h: NewHasher(secret.Text("another salt, 31 bytes long too")),
	}
	a := appToken()
	first := one.fragment(a)
	if one.fragment(a) != first {
		t.Error("the second line renders the token again")
	}
	if bytes.Equal(one.fragment(a).auth, two.fragment(a).auth) {
		t.Error("two devices share one token's form")
	}
	if one.fragment(a) != first {
		t.Error("a second device drives out the first one's form")
	}
}

func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		messages []string
		want     string
	}{
		{nil, ""},
		{[]string{"permission denied"}, "1 error occurred:\n\t* permission denied\n\n"},
		{[]string{"a", "b"}, "2 errors occurred:\n\t* a\n\t* b\n\n"},
	} {
		if got := ErrorText(test.messages...); got != test.want {
			t.Errorf("ErrorText(%q) = %q, want %q", test.messages, got, test.want)
		}
	}
}
