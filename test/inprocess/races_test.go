package inprocess_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"encoding/json"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// crowd is many concurrent clients of one server.
type crowd struct {
	t *testing.T
	l *life

	mu     sync.Mutex
	tokens []string
	leases []string
}

// ask may be called by many goroutines, because it does not fail the test.
func (c *crowd) ask(op route.Op, path, tok, body string, wrap time.Duration) (*answer, error) {
	r := &route.Request{
		ID: core.NewRequestID(), Op: op, Path: route.Path(path), Token: secret.Text(tok), Body: []byte(body),
		Time:   time.Now(),
		Remote: netip.MustParseAddrPort("127.0.0.1:1"), WrapTTL: wrap,
	}
	got, err := c.l.Handle(context.WithoutCancel(c.t.Context()), r)
	if err != nil {
		if k := fault.KindOf(err); k == fault.Internal {
			c.t.Errorf("%s %s: %v", op, path, err)
		}
		return nil, err
	}
	out := &answer{Status: got.Status}
	if len(got.Body) > 0 {
		err = json.Unmarshal(got.Body, out)
	}
	return out, err
}

func (c *crowd) pick(from *[]string, rng *rand.Rand) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*from) == 0 {
		return ""
	}
	return (*from)[rng.IntN(len(*from))]
}

func (c *crowd) keep(in *[]string, s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*in = append(*in, s)
}

// one sends one random request.
func (c *crowd) one(rng *rand.Rand) {
	tok, id := c.pick(&c.tokens, rng), c.pick(&c.leases, rng)
	quote := func(field, s string) string { return fmt.Sprintf("{%q:%q}", field, s) }
	switch n := rng.IntN(100); {
	case n < 25:
		body := []string{spec, `{"policies":["all"],"ttl":"20s"}`, `{"policies":["all"],"ttl":"1m","num_uses":2}`,
			`{"policies":["all"],"ttl":"1m","type":"batch"}`}[rng.IntN(4)]
		if a, err := c.ask(route.Write, "auth/token/create", tok, body, 0); err == nil {
			c.keep(&c.tokens, a.Auth["client_token"].(string))
		}
	case n < 50:
		path := []string{"issuer/creds/r", "moved/creds/r", "other/creds/r"}[rng.IntN(3)]
		if a, err := c.ask(route.Write, path, tok, `{"ttl":"30s"}`, 0); err == nil {
			c.keep(&c.leases, a.LeaseID)
		}
	case n < 60:
		_, _ = c.ask(route.Write, "sys/leases/renew", c.l.root, quote("lease_id", id), 0)
	case n < 65:
		_, _ = c.ask(route.Write, "auth/token/renew-self", tok, `{"increment":"1m"}`, 0)
	case n < 70:
		_, _ = c.ask(route.Write, "sys/leases/revoke", c.l.root, `{"lease_id":"`+id+`","sync":true}`, 0)
	case n < 76:
		path := []string{"auth/token/revoke", "auth/token/revoke-orphan"}[rng.IntN(2)]
		if _, err := c.ask(route.Write, path, c.l.root, quote("token", tok), 0); err == nil {
			if _, err := c.ask(route.Read, "auth/token/lookup-self", tok, "", 0); !fault.Is(err, fault.Denied) &&
				!fault.Is(err, fault.Sealed) {
				c.t.Errorf("a token that was revoked is served: %v", err)
			}
		}
	case n < 84:
		a, err := c.ask(route.Write, "auth/token/create", tok, spec, time.Minute)
		if err == nil {
			c.unwrapTwice(a.Wrap["token"].(string))
		}
	case n < 88:
		path := []string{"issuer", "moved", "other"}[rng.IntN(3)]
		_, _ = c.ask(route.Delete, "sys/mounts/"+path, c.l.root, "", 0)
		_, _ = c.ask(route.Write, "sys/mounts/"+path, c.l.root, `{"type":"issuer"}`, 0)
	case n < 91:
		_, _ = c.ask(route.Write, "sys/remount", c.l.root, `{"from":"issuer","to":"moved"}`, 0)
		_, _ = c.ask(route.Write, "sys/remount", c.l.root, `{"from":"moved","to":"issuer"}`, 0)
	case n < 94:
		_, _ = c.ask(route.Write, "sys/leases/revoke-prefix/issuer/creds", c.l.root, `{"sync":true}`, 0)
	default:
		_, _ = c.ask(route.Write, "cubbyhole/x", tok, `{"x":"y"}`, 0)
	}
}

func (c *crowd) unwrapTwice(w string) {
	var opened atomic.Int32
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if a, err := c.ask(route.Write, "sys/wrapping/unwrap", w, "", 0); err == nil {
				opened.Add(1)
				c.keep(&c.tokens, a.Auth["client_token"].(string))
			}
		})
	}
	if wg.Wait(); opened.Load() > 1 {
		c.t.Errorf("an answer was unwrapped %d times", opened.Load())
	}
}

// TestCrowd lets many clients send random requests while their objects expire, and checks that
// every row and every object at the target is accounted for.
func TestCrowd(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := issuing(t)
				c := &crowd{t: t, l: l, tokens: []string{l.told["a"]}}
				for range 8 { // clients come and go, and time passes
					var wg sync.WaitGroup
					for i := range uint64(16) {
						wg.Go(func() {
							rng := rand.New(rand.NewPCG(seed, i))
							for range 20 {
								c.one(rng)
							}
						})
					}
					wg.Wait()
					time.Sleep(7 * time.Second)
					synctest.Wait()
					inspect(t, l.st, l.out).demand(t, "while it runs")
					l.make("root", "a", "auth/token/create", spec, time.Minute)
					c.keep(&c.tokens, l.told["a"])
				}
				l.finally(70 * time.Minute)
			})
		})
	}
}

// TestUsesByManyAtOnce checks that concurrent requests never exceed the uses of a token.
func TestUsesByManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		c := &crowd{t: t, l: l}
		for uses := range 5 {
			a := l.must(t, route.Write, "auth/token/create", l.root,
				fmt.Sprintf(`{"policies":["all"],"num_uses":%d}`, uses+1))
			var served atomic.Int32
			var wg sync.WaitGroup
			for i := range 12 {
				path, op := "auth/token/lookup-self", route.Read
				if i%2 == 0 {
					path, op = "issuer/creds/r", route.Write
				}
				wg.Go(func() {
					if _, err := c.ask(op, path, a.Auth["client_token"].(string), "", 0); err == nil {
						served.Add(1)
					}
				})
			}
			if wg.Wait(); int(served.Load()) > uses+1 {
				t.Errorf("a token of %d uses was served %d times", uses+1, served.Load())
			}
		}
		l.finally(time.Minute)
	})
}

// TestPolicyChangeAtOnce checks that a policy is enforced from the answer to its change on,
// whatever other requests compile meanwhile.
func TestPolicyChangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		c := &crowd{t: t, l: l}
		a := l.must(t, route.Write, "auth/token/create", l.root, `{"policies":["p"],"ttl":"1h"}`)
		tok := a.Auth["client_token"].(string)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						_, _ = c.ask(route.Read, "sys/mounts", tok, "", 0)
					}
				}
			})
		}
		for i := range 200 {
			capability := []string{"deny", "read"}[i%2]
			l.must(t, route.Write, "sys/policies/acl/p", l.root,
				`{"policy":"path \"sys/mounts\" { capabilities = [\"`+capability+`\"] }"}`)
			if _, err := c.ask(route.Read, "sys/mounts", tok, "", 0); (err == nil) != (capability == "read") {
				t.Errorf("after %q: %v", capability, err)
			}
		}
		close(done)
		wg.Wait()
		l.stop()
		synctest.Wait()
	})
}

// TestSealWhileAsked seals and unseals repeatedly under load.
func TestSealWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		c := &crowd{t: t, l: l, tokens: []string{l.told["a"]}}
		done := make(chan struct{})
		var wg sync.WaitGroup
		for i := range uint64(8) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(9, i))
				for {
					select {
					case <-done:
						return
					default:
						c.one(rng)
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		for range 20 {
			time.Sleep(50 * time.Millisecond)
			if err := l.Seal(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := c.ask(route.Read, "sys/mounts", l.root, "", 0); !fault.Is(err, fault.Sealed) {
				t.Errorf("sealed, and asked: %v", err)
			}
			if err := l.AutoUnseal(t.Context()); err != nil {
				t.Error(err)
			}
		}
		close(done)
		wg.Wait()
		l.finally(70 * time.Minute)
	})
}
