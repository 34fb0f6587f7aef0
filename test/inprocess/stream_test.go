package inprocess_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestStreamOfARevokedToken checks that a streaming answer ends when its token is revoked and when
// the server is sealed.
func TestStreamOfARevokedToken(t *testing.T) {
	for _, name := range []string{"revoked", "expired", "sealed", "gone"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, memory.Open())
				s.must(t, route.Write, "sys/policies/acl/watch", s.root,
					`{"policy":"path \"sys/monitor\" { capabilities = [\"read\"] }"}`)
				tok := s.must(t, route.Write, "auth/token/create", s.root,
					`{"policies":["watch"],"ttl":"1h"}`).Auth["client_token"].(string)
				a, err := s.Handle(t.Context(), s.request(t, route.Read, "sys/monitor", tok, ""))
				if err != nil || a.Stream == nil {
					t.Fatalf("%+v, %v", a, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan time.Time, 1)
				go func() {
					if err := a.Stream(ctx, func([]byte) error { return nil }); err != nil {
						t.Error(err)
					}
					done <- time.Now()
				}()
				time.Sleep(10 * time.Minute)
				select {
				case <-done:
					t.Fatal("it ended by itself")
				default:
				}
				began := time.Now()
				switch name {
				case "revoked":
					s.must(t, route.Write, "auth/token/revoke", s.root, `{"token":"`+tok+`"}`)
				case "expired":
					time.Sleep(2 * time.Hour)
				case "sealed":
					s.must(t, route.Write, "sys/seal", s.root, "")
				case "gone":
					cancel()
				}
				if took := (<-done).Sub(began); name != "expired" && took > 2*time.Second {
					t.Errorf("it ended %v later", took)
				}
			})
		})
	}
}
