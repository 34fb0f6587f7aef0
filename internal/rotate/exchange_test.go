package rotate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// TestShowReply: the stored part of a reply says why the call failed, and holds no secret.
func TestShowReply(t *testing.T) {
	red := new(secret.Redactor)
	red.Know(secret.Text("hunter two"))
	for name, tt := range map[string]struct {
		status     int
		body, want string
	}{
		"a new key": {201, `{"id":"key_1","secret":"sk_live_4242","n":12345678,"ok":true,"more":[{"a":null}]}`,
			`{"id": "[text]", "secret": "[text]", "n": "[number]", "ok": "[boolean]", "more": [{"a": null}]}`},
		"a new key as text":  {200, "sk_live_4242", "[not shown: it is not JSON]"},
		"a name that is one": {200, `{"sk_live_aaaabbbbcccc1234":1}`, `{"[secret]": "[number]"}`},
		"why": {409, `{"error":"the limit on keys is reached","code":17,"retry":false}`,
			`{"error": "the limit on keys is reached", "code": 17, "retry": false}`},
		"an echo":          {400, `{"error":"no such user: hunter two"}`, `{"error": "no such user: [secret]"}`},
		"an echo, escaped": {400, `{"error":"no such user: hunter\u0020two"}`, `{"error": "no such user: [secret]"}`},
		"looks like one": {500, `{"error":"cannot store sk_live_aaaabbbbcccc1234 yet"}`,
			`{"error": "cannot store [secret] yet"}`},
		"is named so": {500, `{"apiKey":"abc","error":"boom","pin_token":1234,"password_hint":"not given"}`,
			`{"apiKey": "[secret]", "error": "boom", "pin_token": "[number]", "password_hint": "not given"}`},
		"within one": {500, `{"error":{"token":{"value":"abc","pin":1234,"why":"is not known"}}}`,
			`{"error": {"token": {"value": "[secret]", "pin": "[number]", "why": "is not known"}}}`},
		"without digits": {500, `{"error":"InvalidClientTokenId for xQzTbWnRkLpVmYcG and resource_exhausted"}`,
			`{"error": "InvalidClientTokenId for [secret] and resource_exhausted"}`},
		"JSON in a text": {500, `{"message":"{\"apiKey\":\"abc\",\"error\":\"boom\"}"}`,
			`{"message": "{\"apiKey\": \"[secret]\", \"error\": \"boom\"}"}`},
		"a form":           {500, "user=me&access_token=abc&x=1", "user=me&access_token=[secret]&x=1"},
		"escaped, unknown": {500, `cannot store ab%2fcd1%2beef%2fg12 yet`, "cannot store [secret] yet"},
		"a page":           {502, "<h1>Bad gateway</h1> hunter two \xff", "<h1>Bad gateway</h1> [secret] ?"},
		"nothing":          {204, "", ""},
		"cut JSON":         {200, `{"secret":"sk_li`, "[not shown: it is not JSON]"},
	} {
		if got := ShowReply(red, tt.status, []byte(tt.body), false); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
	for _, long := range []string{strings.Repeat("a word ", 1e5), `["` + strings.Repeat(`a word","`, 1e5) + `"]`,
		`{"a":` + strings.Repeat("[", 1e3) + strings.Repeat("]", 1e3) + "}"} {
		if got := ShowReply(red, 500, []byte(long), false); len(got) > MaxReply {
			t.Errorf("%d bytes of %.20s… are stored", len(got), long)
		}
	}
}

// TestShowReplyOfCreate: a new secret in the reply of a failed creating call is not stored either,
// although the redactor does not know it and it does not look like a secret.
func TestShowReplyOfCreate(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":17,"message":"the limit is reached"},"id":"k1","pin":1234,"value":"sesame"}`: `{"error": {"code": 17, "message": "the limit is reached"}, "id": "[text]", "pin": "[number]", "value": "[text]"}`,
		`{"message":"{\"key\":\"sesame\",\"error\":\"late\"}"}`:                                        `{"message": "{\"key\": \"[text]\", \"error\": \"late\"}"}`,
		`{"key":{"type":"api","code":"sesame"}}`:                                                       `{"key": {"type": "[secret]", "code": "[secret]"}}`,
		`["sesame"]`:                                                                                   `["[text]"]`,
		`"sesame"`:                                                                                     `"[text]"`,
		"sesame":                                                                                       "[not shown: it is not JSON]",
	} {
		if got := ShowReply(new(secret.Redactor), 500, []byte(body), true); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// FuzzShowReply: no value of a successful reply is stored, and never more than the limit.
func FuzzShowReply(f *testing.F) {
	f.Add(`{"id":"a","key":%q}`, 200)
	f.Add(`[[%q,{"x":%q}]]`, 500)
	f.Add("%q", 401)
	f.Fuzz(func(t *testing.T, form string, status int) {
		const canary = "canary7key"
		red := new(secret.Redactor)
		if status >= 400 {
			red.Know(secret.Text(canary)) // else nobody knows it yet
		}
		body := strings.ReplaceAll(form, "%q", fmt.Sprintf("%q", canary))
		got := ShowReply(red, status, []byte(body), false)
		if len(got) > MaxReply {
			t.Errorf("%d bytes are stored", len(got))
		}
		if status >= 400 && strings.Contains(got, canary) || status < 400 && strings.Contains(got, `: "`+canary) {
			t.Errorf("stored: %s", got)
		}
	})
}

// TestShowReason: the code and the text of a provider that does not use JSON are stored like those
// of one that does.
func TestShowReason(t *testing.T) {
	red := new(secret.Redactor)
	red.Know(secret.Text("hunter two"))
	if got, want := ShowReason(red, 403, "Denied", "not hunter two, and not sk_live_aaaabbbbcccc1234",
		true), `{"code": "Denied", "message": "not [secret], and not [secret]"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := ShowReason(red, 500, "", "", false); got != "" {
		t.Errorf("without code and text, %q is stored", got)
	}
	if got, want := ShowText(red,
		"dial sk_live_aaaabbbbcccc1234: hunter two is refused"), "dial [secret]: [secret] is refused"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSeconds: durations are in seconds, also in stored JSON.
func TestSeconds(t *testing.T) {
	took := SecondsOf(1234567 * time.Microsecond)
	b, err := json.Marshal(took)
	if err != nil || string(b) != "1.235" || took.String() != "1.235s" ||
		SecondsOf(time.Microsecond).String() != "less than 1ms" {
		t.Errorf("JSON %s, text %s, %v", b, took, err)
	}
}
