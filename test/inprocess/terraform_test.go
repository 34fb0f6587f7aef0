package inprocess_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/route"
)

// TestDisplayNames has the cases of TestAccTokenName of HashiCorp's Terraform provider.
func TestDisplayNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		defer l.finally(10 * time.Minute)
		for asked, want := range map[string]string{
			"": "token", "web": "token-web", "MyTokenName": "token-MyTokenName", "My!TokenName": "token-My-TokenName",
			"My!Token+*#Name": "token-My-Token---Name", "a_b.c d/é": "token-a-b-c-d-", "ends-": "token-ends",
			"!":          "token-",
			"line\nfeed": "token-line-feed", "-": "token-",
		} {
			tok := l.must(t, route.Write, "auth/token/create", l.root,
				`{"policies":["all"],"display_name":`+fmt.Sprintf("%q", asked)+`}`).Auth["client_token"].(string)
			if got := l.must(t, route.Read, "auth/token/lookup-self", tok, "").Data["display_name"]; got != want {
				t.Errorf("the display name %q became %q, want %q", asked, got, want)
			}
		}
	})
}

// TestRemainingTTLs checks that a remaining TTL of 59 s is at least 59 s.
func TestRemainingTTLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		defer l.finally(10 * time.Minute)
		made := l.must(t, route.Write, "auth/token/create", l.root, `{"policies":["all"],"ttl":"60s"}`)
		if got := made.Auth["lease_duration"]; got != 60.0 {
			t.Errorf("a token of 60 s is told to live %v s", got)
		}
		tok := made.Auth["client_token"].(string)
		creds := l.must(t, route.Write, "issuer/creds/r", l.root, `{"ttl":"60s"}`)
		lease := `{"lease_id":"` + creds.LeaseID + `"}`
		for _, step := range []struct {
			wait time.Duration
			want float64
		}{{0, 60}, {100 * time.Millisecond, 59}, {800 * time.Millisecond, 59}, {100 * time.Millisecond,
			59}, {time.Millisecond, 58}, {58500 * time.Millisecond, 1}} {
			time.Sleep(step.wait)
			if got := l.must(t, route.Read, "auth/token/lookup-self", tok, "").Data["ttl"]; got != step.want {
				t.Errorf("after %s more the token has %v s, want %v", step.wait, got, step.want)
			}
			if got := l.must(t, route.Write, "sys/leases/lookup", l.root, lease).Data["ttl"]; got != step.want {
				t.Errorf("after %s more the lease has %v s, want %v", step.wait, got, step.want)
			}
		}
		// A renewal answers the granted TTL, not the remaining one.
		if got := l.must(t, route.Write, "auth/token/renew-self", tok,
			`{"increment":"30s"}`).Auth["lease_duration"]; got != 30.0 {
			t.Errorf("a token renewed by 30 s is told to live %v s", got)
		}
		if got := l.must(t, route.Write, "sys/leases/renew", l.root,
			`{"lease_id":"`+creds.LeaseID+`","increment":"30s"}`); got.TTL != 30 {
			t.Errorf("a lease renewed by 30 s is told to live %d s", got.TTL)
		}
		// HashiCorp's Terraform provider computes a token's lease_duration from two times; its own
		// tests expect 59 of 60 seconds.
		data := l.must(t, route.Write, "auth/token/lookup", l.root,
			`{"token":"`+
				l.must(t, route.Write, "auth/token/create", l.root,
					`{"policies":["all"],"ttl":"60s"}`).Auth["client_token"].(string)+`"}`).Data
		issued, err := time.Parse(time.RFC3339Nano, data["issue_time"].(string))
		if err != nil {
			t.Fatal(err)
		}
		expires, err := time.Parse(time.RFC3339Nano, data["expire_time"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if got := int(expires.Sub(issued).Seconds()); got != 59 {
			t.Errorf("between issue_time %s and expire_time %s are %d whole seconds, want 59", issued, expires, got)
		}
	})
}

// TestIssuedTTLs checks that a lease has the TTL of its role although creating took a moment,
// minus whole seconds of that time.
func TestIssuedTTLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		defer l.finally(10 * time.Minute)
		for took, want := range map[time.Duration]int{0: 60, time.Millisecond: 60, 999 * time.Millisecond: 60,
			time.Second: 59, 2500 * time.Millisecond: 58} {
			l.out.atCreate = func() { time.Sleep(took) }
			if got := l.must(t, route.Write, "issuer/creds/r", l.root, `{"ttl":"60s"}`).TTL; got != want {
				t.Errorf("a lease of 60 s that took %s is said to last %d s, want %d", took, got, want)
			}
		}
	})
}

// TestAuditLocal checks that local is read as it was written, which vault_audit compares.
func TestAuditLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		defer l.finally(10 * time.Minute)
		for path, local := range map[string]string{"one": `true`, "two": `false`, "three": `"true"`} {
			l.must(t, route.Write, "sys/audit/"+path, l.root, `{"type":"tape","description":"d","local":`+local+`}`)
		}
		devices := l.must(t, route.Read, "sys/audit", l.root, "").Data
		for path, want := range map[string]bool{"one/": true, "two/": false, "three/": true} {
			if got := devices[path].(map[string]any)["local"]; got != want {
				t.Errorf("the device %s has local = %v, want %v", path, got, want)
			}
		}
	})
}
