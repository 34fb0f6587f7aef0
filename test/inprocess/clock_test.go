package inprocess_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestClockADayAhead restarts a server whose clock has jumped a day ahead. Nothing is revoked,
// although tokens are refused as expired. The server continues when an operator confirms the
// clock, or after a reboot of the machine.
func TestClockADayAhead(t *testing.T) {
	for name, confirm := range map[string]func(t *testing.T, s *server, restart func(boot string) *server) *server{
		"an operator confirms": func(t *testing.T, s *server, _ func(string) *server) *server {
			s.must(t, route.Write, "sys/clock/trust", s.root, "")
			return s
		},
		"another boot": func(t *testing.T, _ *server, restart func(string) *server) *server { return restart("two") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memory.Open()
				var up atomic.Int64 // time since boot, which the server may read at any time
				stop := func() {}
				restart := func(boot string) *server {
					stop()
					synctest.Wait()
					s, end := launch(t, core.Config{Store: st,
						Boot: func() (string, time.Duration) { return boot, time.Duration(up.Load()) }})
					stop = end
					return s
				}
				s := restart("one")
				made := s.must(t, route.Write, "auth/token/create", s.root, `{"policies":["default"],"ttl":"1h"}`)
				token, accessor := made.Auth["client_token"].(string), made.Auth["accessor"].(string)
				there := func() bool {
					keys, _ := s.must(t, route.List, "auth/token/accessors", s.root, "").Data["keys"].([]any)
					return slices.Contains(keys, any(accessor))
				}
				time.Sleep(5 * time.Second)
				up.Add(int64(5 * time.Second))
				stop()
				synctest.Wait()
				time.Sleep(24 * time.Hour) // of the wall clock; ten seconds have passed since boot
				up.Add(int64(10 * time.Second))
				s = restart("one")
				time.Sleep(30 * time.Second)
				up.Add(int64(30 * time.Second))
				if !there() {
					t.Error("a token was revoked by a clock that is not trusted")
				}
				if _, err := s.ask(t, route.Read, "auth/token/lookup-self", token, ""); !fault.Is(err, fault.Denied) {
					t.Errorf("an expired token is served: %v", err)
				}
				if !s.Stats().ClockHeld {
					t.Error("the metrics do not say that the clock is held")
				}
				s = confirm(t, s, restart)
				time.Sleep(30 * time.Second)
				if there() || s.Stats().ClockHeld {
					t.Error("it does not go on")
				}
				stop()
				synctest.Wait()
			})
		})
	}
}
