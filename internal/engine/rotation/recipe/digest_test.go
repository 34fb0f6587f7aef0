package recipe

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// TestDigestExamples has the examples of RFC 7616, section 3.9.1. The stronger algorithm is used,
// in whatever order the provider names them.
func TestDigestExamples(t *testing.T) {
	const (
		realm = `realm="http-auth@example.org", qop="auth, auth-int", ` +
			`nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
		md5, sha = "Digest " + realm + ", algorithm=MD5", "Digest " + realm + ", algorithm=SHA-256"
		sha512   = "Digest " + realm + ", algorithm=SHA-512-256"
		weak     = `response="8ca523f5e9506fed4657c9700eebdbec"`
		strong   = `response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"`
	)
	for name, tt := range map[string]struct {
		headers []string
		want    string
	}{
		"MD5": {[]string{md5}, weak}, "SHA-256": {[]string{sha}, strong}, "both": {[]string{sha, md5}, strong},
		"the other order": {[]string{md5, sha}, strong}, "in one header": {[]string{md5 + ", " + sha}, strong},
		"beside others":  {[]string{`Basic realm="a, Digest b"`, `Negotiate abc==`, md5, sha512}, weak},
		"no algorithm":   {[]string{"digest " + realm}, weak},
		"spaces":         {[]string{strings.ReplaceAll(sha, "=", " = ")}, strong},
		"twice the same": {[]string{md5 + `, nonce="other"`}, weak},
	} {
		c, err := parseChallenges(tt.headers)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := c.authorization("GET", "/dir/index.html", "Mufasa", "Circle of Life",
			"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
		if !strings.Contains(got, tt.want) || !strings.Contains(got, `, qop=auth, nc=00000001, `) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
	for name, header := range map[string]string{
		"nothing": "", "basic alone": `Basic realm="x"`, "another algorithm": sha512,
		"auth-int alone": strings.ReplaceAll(md5, "auth, ", ""), "no qop": `Digest realm="a", nonce="b"`,
		"no nonce": `Digest realm="a", qop="auth"`, "a session": "Digest " + realm + ", algorithm=MD5-sess",
		"an open quote": `Digest realm="a", qop="auth", nonce="b`, "large": md5 + strings.Repeat(" ", maxChallenge),
	} {
		if c, err := parseChallenges([]string{header}); !fault.Is(err, fault.Upstream) {
			t.Errorf("%s: got %+v, %v; want it refused", name, c, err)
		}
	}
}

const digested = `
name = "digested"
description = "d"
style = "two-key"
evidence = "e"
hosts = ["api.example.com"]
admin "token" { description = "d" }
auth "digest" {
  username = "ann"
  password = admin.token
}
create {
  url    = "https://api.example.com/keys"
  json   = { name = marker }
  retry  = "never"
  id     = response.json.id
  secret = { key = response.json.key }
}
verify {
  url = "https://api.example.com/me"
  auth "digest" {
    username = "bob"
    password = key.key
  }
}
retire {
  method = "DELETE"
  url    = "https://api.example.com/keys/${urlencode(key.id)}"
}
`

// TestDigestNeverLeaksOrLies: without a usable challenge nothing is sent that authenticates, the
// question for a challenge has no body, and no reply to it proves anything about a key.
func TestDigestNeverLeaksOrLies(t *testing.T) {
	const ask = `Digest realm="r", nonce="n", qop="auth"`
	const u, tr, p, rej = rotate.Unknown, rotate.Transient, rotate.Permanent, rotate.Rejected
	for name, tt := range map[string]struct {
		first, second  int    // the statuses of the two replies
		offer, refusal string // the challenges in them
		sent           int    // requests
		create, verify rotate.Outcome
	}{
		"basic is offered":    {401, 201, `Basic realm="r"`, "", 1, p, p},
		"nothing is offered":  {401, 201, "", "", 1, p, p},
		"no authentication":   {200, 201, "", "", 1, u, p},
		"too many":            {429, 201, "", "", 1, tr, tr},
		"broken":              {500, 201, "", "", 1, tr, tr},
		"forbidden":           {403, 201, "", "", 1, p, p},
		"refused":             {401, 401, ask, ask, 2, p, rej},
		"a stale nonce":       {401, 401, ask, ask + ", stale=TRUE", 2, tr, tr},
		"broken, then":        {401, 503, ask, "", 2, u, tr},
		"too many, then":      {401, 429, ask, "", 2, tr, tr},
		"refused, then basic": {401, 401, ask, `Basic realm="r"`, 2, p, rej},
	} {
		var requests []string
		s := plain(t, digested, func(w http.ResponseWriter, r *http.Request) {
			sent, _ := io.ReadAll(r.Body)
			requests = append(requests, fmt.Sprintf("%s %d %q", r.Method, len(sent), r.Header.Get("Authorization")))
			status, challenge := tt.first, tt.offer
			if r.Header.Get("Authorization") != "" {
				status, challenge = tt.second, tt.refusal
			} else if len(sent) > 0 || r.Header.Get("Content-Type") != "" {
				t.Errorf("%s: the question for a challenge has a body: %s", name, sent)
			}
			if challenge != "" {
				w.Header().Set("WWW-Authenticate", challenge)
			}
			w.WriteHeader(status)
		})
		_, err := s.Create(t.Context(), order)
		if got := rotate.OutcomeOf(err); got != tt.create || len(requests) != tt.sent {
			t.Errorf("%s: create: %v (%v) after %q; want %v after %d requests", name, got, err, requests,
				tt.create, tt.sent)
		}
		requests = nil
		c := rotate.Credential{ID: "a", Secret: map[string]secret.Value{"key": secret.Text("key-canary")}}
		err = s.Verify(t.Context(), c)
		if got := rotate.OutcomeOf(err); got != tt.verify || len(requests) != tt.sent {
			t.Errorf("%s: verify: %v (%v) after %q; want %v after %d requests", name, got, err, requests, tt.verify,
				tt.sent)
		}
		if err := s.VerifyDead(t.Context(), c); (err == nil) != (tt.verify == rej) {
			t.Errorf("%s: verify dead: %v", name, err)
		}
		for _, r := range requests {
			if strings.Contains(r, "Basic") || strings.Contains(r, "canary") {
				t.Errorf("%s: sent %s", name, r)
			}
		}
	}
}

// FuzzChallengeCost: parsing challenges costs a bounded number of steps for each byte.
func FuzzChallengeCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxChallenge, Steps: 2000, Parse: func(text string) error {
		_, err := parseChallenges([]string{text})
		if len(text) > maxChallenge && err == nil {
			return errors.New("it is too long, but is not refused")
		}
		return err
	}}, costtest.Shape{Unit: "Digest "}, costtest.Shape{Unit: `Digest a="`}, costtest.Shape{Unit: "a=b, "},
		costtest.Shape{Head: `Digest realm="`, Unit: `\\`}, costtest.Shape{Unit: ","}, costtest.Shape{Unit: "= "},
		costtest.Shape{Head: `Digest nonce="a", qop="`, Unit: "auth,", Tail: `"`})
}
