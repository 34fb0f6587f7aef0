package inprocess_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestExtremeTimes requests times that no clock can represent. They are refused or limited;
// nothing lives for ever, expires early, or is created expired.
func TestExtremeTimes(t *testing.T) {
	huge := []string{
		`"9223372036s"`, `"9223372036854775807ns"`, `9223372036`, `9223372036.8547`, `"2562047h"`, `"100000d"`,
		`"99999d23h47m16s"`,
	}
	refused := []string{`"9223372037s"`, `9223372037`, `9223372036.854775807`, `1e30`, `"1e30"`, `-1`, `"-1s"`,
		`"-9223372036s"`, `9223372036854775807`, `"Inf"`, `"NaN"`, `"1e400"`, `"200000d"`}
	fields := []string{"ttl", "lease", "period", "explicit_max_ttl"}
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		for _, mount := range []string{"sys/mounts/issuer", "sys/auth/token"} {
			l.must(t, route.Write, mount+"/tune", l.root, `{"max_lease_ttl":"1h","default_lease_ttl":"1h"}`)
		}
		for _, v := range append(huge, refused...) {
			for _, field := range fields {
				a, err := l.ask(t, route.Write, "auth/token/create", l.root,
					fmt.Sprintf(`{"policies":["all"],%q:%s}`, field, v))
				if err != nil {
					if !fault.Is(err, fault.Invalid) {
						t.Errorf("%s %s: %v", field, v, err)
					}
					continue
				}
				tok := a.Auth["client_token"].(string)
				got := l.must(t, route.Read, "auth/token/lookup-self", tok, "").Data
				if ttl := got["ttl"].(float64); ttl <= 0 || ttl > 3600 || got["expire_time"] == nil {
					t.Errorf("%s %s: a token of %v s until %v", field, v, ttl, got["expire_time"])
				}
				for _, inc := range append(huge, `"0"`, `1`) {
					if _, err := l.ask(t, route.Write, "auth/token/renew-self", tok,
						`{"increment":`+inc+`}`); err != nil {
						t.Errorf("%s %s, renewed by %s: %v", field, v, inc, err)
						break
					}
				}
				l.must(t, route.Write, "auth/token/revoke", l.root, `{"token":"`+tok+`"}`)
			}
			a, err := l.ask(t, route.Write, "issuer/creds/r", l.root, `{"ttl":`+v+`}`)
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("a lease of %s: %v", v, err)
				}
				continue
			}
			if _, err := l.ask(t, route.Write, "sys/leases/renew", l.root,
				`{"lease_id":"`+a.LeaseID+`","increment":`+v+`}`); err != nil {
				t.Errorf("renewed by %s: %v", v, err)
			}
			got := l.must(t, route.Write, "sys/leases/lookup", l.root,
				`{"lease_id":"`+a.LeaseID+`"}`).Data["ttl"].(float64)
			if got <= 0 || got > 3600 {
				t.Errorf("a lease of %s has %v s", v, got)
			}
		}
		for _, v := range refused {
			if _, err := l.ask(t, route.Write, "auth/token/create", l.root, `{"ttl":`+v+`}`); !fault.Is(err,
				fault.Invalid) {
				t.Errorf("ttl %s: %v, want invalid", v, err)
			}
		}
		l.finally(time.Hour + time.Second)
	})
}

// TestExtremeMounts checks that a mount can be tuned up to the largest duration.
func TestExtremeMounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		l.must(t, route.Write, "sys/mounts/issuer/tune", l.root,
			`{"max_lease_ttl":"9223372036s","default_lease_ttl":"9223372036s"}`)
		l.must(t, route.Write, "sys/auth/token/tune", l.root, `{"max_lease_ttl":"9223372036s"}`)
		a := l.must(t, route.Write, "issuer/creds/r", l.root, ``)
		l.must(t, route.Write, "sys/leases/renew", l.root, `{"lease_id":"`+a.LeaseID+`","increment":"9223372036s"}`)
		if got := l.must(t, route.Write, "sys/leases/lookup", l.root,
			`{"lease_id":"`+a.LeaseID+`"}`).Data["ttl"].(float64); got < 9e9 {
			t.Errorf("a lease of 292 years has %v s", got)
		}
		made := l.must(t, route.Write, "auth/token/create", l.root, `{"policies":["all"],"period":"9223372036s"}`)
		tok := made.Auth["client_token"].(string)
		l.must(t, route.Write, "auth/token/renew-self", tok, `{}`)
		w, err := l.askWrapped(t, route.Read, "auth/token/lookup-self", tok, "", 1<<63-1)
		if err != nil {
			t.Fatal(err)
		}
		l.must(t, route.Write, "sys/wrapping/lookup", l.root, `{"token":"`+w.Wrap["token"].(string)+`"}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		l.must(t, route.Read, "auth/token/lookup-self", tok, "")
		inspect(t, l.st, l.out).demand(t, "an hour later")
		l.must(t, route.Write, "sys/leases/revoke", l.root, `{"lease_id":"`+a.LeaseID+`"}`)
		l.finally(time.Second)
	})
}

// TestExtremeUses checks that a number of uses that is no int is refused.
func TestExtremeUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		for _, v := range []string{"-1", "9223372036854775808", "1e30", "1.5"} {
			if _, err := l.ask(t, route.Write, "auth/token/create", l.root, `{"num_uses":`+v+`}`); !fault.Is(err,
				fault.Invalid) {
				t.Errorf("num_uses %s: %v, want invalid", v, err)
			}
		}
		a := l.must(t, route.Write, "auth/token/create", l.root, `{"policies":["all"],"num_uses":9223372036854775807}`)
		for range 3 {
			l.must(t, route.Read, "auth/token/lookup-self", a.Auth["client_token"].(string), "")
		}
		l.stop()
		synctest.Wait()
	})
}
