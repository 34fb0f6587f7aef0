package inprocess_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	authtoken "github.com/keyturn/keyturn/internal/auth/token"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/cubbyhole"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestUnsealedTwice checks that a late unseal does not prevent sealing or stopping the server. A
// start and an initialization at the same time cause two unseals.
//
// https://github.com/openbao/openbao/issues/3921
func TestUnsealedTwice(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *server, stop context.CancelFunc){
		"sealed through the API": func(t *testing.T, s *server, _ context.CancelFunc) {
			s.must(t, route.Write, "sys/seal", s.root, "")
		},
		"sealed by an order": func(t *testing.T, s *server, _ context.CancelFunc) {
			if err := s.Seal(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"stopped": func(_ *testing.T, _ *server, stop context.CancelFunc) { stop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := core.New(core.Config{
					Store: memory.Open(), Seal: outsidetest.Seal{}, Log: slog.New(slog.DiscardHandler),
					Types: core.Types{Engines: []engine.Type{kv.Type, cubbyhole.Type},
						Auths: []auth.Type{authtoken.Type}},
				})
				ctx, stop := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- c.Run(ctx) }()
				s := &server{Core: c, root: "hvs.root-token-for-tests"}
				if _, err := c.Init(ctx, core.InitRequest{RootToken: secret.Text(s.root)}); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := c.AutoUnseal(ctx); err != nil {
						t.Fatal(err)
					}
				}
				s.must(t, route.Read, "auth/token/lookup-self", s.root, "")
				end(t, s, stop)
				time.Sleep(5 * time.Second) // in a bubble
				if !c.Sealed() {
					t.Error("it is not sealed")
				}
				stop()
				synctest.Wait()
				select {
				case err := <-ran:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("Run ended with %v", err)
					}
				default:
					t.Fatal("Run goes on after its context has ended")
				}
			})
		})
	}
}
