package core_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestSealAndUnseal: a sealed server only answers questions about its state; unsealed again, it
// has lost nothing.
func TestSealAndUnseal(t *testing.T) {
	s := coretest.Start(t)
	ctx := t.Context()
	s.Must(route.Write, "sys/mounts/m", `{"type":"kv"}`)
	s.Must(route.Write, "m/a", `{"v":"1"}`)
	up, err := s.SealStatus(ctx)
	if err != nil || up.Sealed || !up.Initialized || !up.AutoUnseals || up.StorageName != "memory" ||
		up.ClusterName != "coretest" || up.ClusterID == "" {
		t.Errorf("unsealed: %+v, %v", up, err)
	}
	if stats := s.Stats(); !stats.Unsealed {
		t.Errorf("counts of an unsealed server: %+v", stats)
	}
	if err := s.AutoUnseal(ctx); err != nil || s.Sealed() {
		t.Errorf("unsealing what is unsealed: %v", err)
	}
	if st, err := s.Unseal(ctx, secret.Text("share"), false); err != nil || st.Sealed {
		t.Errorf("a share for what is unsealed: %+v, %v", st, err)
	}
	for range 2 {
		if err := s.Seal(ctx); err != nil {
			t.Fatal(err)
		}
	}
	h, err := s.Health(ctx)
	if err != nil || !h.Sealed || !h.Initialized || h.ClusterID != "" || !s.Sealed() {
		t.Errorf("sealed: %+v, %v", h, err)
	}
	s.Refused(route.Read, "m/a", "", fault.Sealed, "the server is sealed")
	if stats := s.Stats(); stats.Unsealed {
		t.Error("counts of a sealed server")
	}
	if err := s.ReloadAudit(); err != nil {
		t.Errorf("nothing to reload: %v", err)
	}
	if err := s.AutoUnseal(ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.Must(route.Read, "m/a", "").Data["v"]; got != "1" {
		t.Errorf("after unsealing, the secret is %v", got)
	}
	s.Must(route.Write, "sys/seal", "") // it answers before it seals
	deadline := time.Now().Add(2 * time.Minute)
	for !s.Sealed() {
		if time.Now().After(deadline) {
			t.Fatal("sys/seal does not seal")
		}
		<-time.After(time.Millisecond)
	}
}

func TestInit(t *testing.T) {
	st := faulty.New(memory.Open(), 1)
	c := core.New(core.Config{Store: st, Seal: outsidetest.Seal{}, Log: slog.New(slog.DiscardHandler)})
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	if done, err := c.Initialized(ctx); done || err != nil {
		t.Errorf("a new store: %v, %v", done, err)
	}
	if err := c.AutoUnseal(ctx); err != nil || !c.Sealed() {
		t.Errorf("unsealing what is not initialized: %v", err)
	}
	if _, err := c.Unseal(ctx, secret.Text("x"), false); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Message(err), "not initialized") {
		t.Errorf("a share: %v", err)
	}
	if st, err := c.Unseal(ctx, secret.Value{}, true); err != nil || st.Initialized {
		t.Errorf("a reset: %+v, %v", st, err)
	}
	if _, err := c.Init(ctx, core.InitRequest{Mounts: []core.NewMount{{Path: "m", Type: "nonesuch"}}}); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("with a mount that cannot be: %v", err)
	}
	st.Inject(faulty.Fault{})
	if _, err := c.Init(ctx, core.InitRequest{}); err == nil {
		t.Error("initialized although the store failed")
	}
	if done, _ := c.Initialized(ctx); done {
		t.Error("a failed initialization has left something")
	}
	// Types are missing, so it cannot be unsealed. The root token is created nevertheless.
	r, err := c.Init(ctx, core.InitRequest{})
	if err != nil || r.RootToken.Empty() || len(r.Shares) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := c.Init(ctx, core.InitRequest{}); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(fault.Message(err), "already initialized") {
		t.Errorf("twice: %v", err)
	}
	end()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	given, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	if err := c.Seal(given); !fault.Is(err, fault.Timeout) {
		t.Errorf("an order that nobody takes: %v", err)
	}
}

// TestAdmission checks tokens, their addresses and policies.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"kv"}`)
		reader := s.Login(`path "m/*" { capabilities = ["read", "create"] }`)
		for _, tt := range []struct {
			r    coretest.Request
			k    fault.Kind
			says string
		}{
			{coretest.Request{Op: route.Read, Path: "m/a", Token: "none"}, fault.Denied, "missing client token"},
			{coretest.Request{Op: route.Read, Path: "m/a", Token: "hvs.wrong"}, fault.Denied, "permission denied"},
			{coretest.Request{Op: route.Delete, Path: "m/a", Token: reader}, fault.Denied, "permission denied"},
			{coretest.Request{Op: route.List, Path: "m", Token: reader}, fault.Denied, "permission denied"},
			{coretest.Request{Op: route.Read, Path: "sys/mounts", Token: reader}, fault.Denied, "permission denied"},
			{coretest.Request{Op: route.Read, Path: "nowhere/a"}, fault.NotFound, "nothing is mounted there"},
			{coretest.Request{Op: route.Read, Path: "nowhere/a", Token: reader}, fault.Denied, ""}, // not even that
			{coretest.Request{Op: route.Read, Path: "m/a", Token: reader}, fault.NotFound, ""},
		} {
			s.RefusedDo(tt.r, tt.k, tt.says)
		}
		// The capability create allows writing only what does not exist.
		s.MustDo(coretest.Request{Op: route.Write, Path: "m/a", Token: reader, Body: `{"v":"1"}`})
		s.RefusedDo(coretest.Request{Op: route.Write, Path: "m/a", Token: reader, Body: `{"v":"2"}`}, fault.Denied,
			"permission denied")
		if got := s.MustDo(coretest.Request{Op: route.Read, Path: "m/a", Token: reader}).Data["v"]; got != "1" {
			t.Errorf("it reads %v", got)
		}
		a := s.MustDo(coretest.Request{Op: route.Help, Path: "m/a", Token: reader})
		if !strings.Contains(a.Body, "Read a secret") {
			t.Errorf("help is %s", a.Body)
		}

		bound := s.Must(route.Write, "auth/token/create",
			`{"bound_cidrs":["10.0.0.0/8"]}`).Auth["client_token"].(string)
		s.MustDo(coretest.Request{Op: route.Read, Path: "m/a", Token: bound, From: "10.1.2.3"})
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/a", Token: bound}, fault.Denied, "permission denied")

		twice := s.Must(route.Write, "auth/token/create", `{"num_uses":2}`).Auth["client_token"].(string)
		for range 2 {
			s.MustDo(coretest.Request{Op: route.Read, Path: "m/a", Token: twice})
		}
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/a", Token: twice}, fault.Denied, "permission denied")

		brief := s.Must(route.Write, "auth/token/create", `{"ttl":"1m"}`).Auth["client_token"].(string)
		s.MustDo(coretest.Request{Op: route.Read, Path: "m/a", Token: brief})
		time.Sleep(time.Minute)
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/a", Token: brief}, fault.Denied, "permission denied")
		s.Stop()
	})
}

// TestPanicDuringRevocation: a panic of an engine in background work neither ends the server nor
// blocks other leases.
func TestPanicDuringRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
		bad := s.Must(route.Read, "m/creds/panics", "").LeaseID
		good := s.Must(route.Read, "m/creds/good", "").LeaseID
		s.Must(route.Write, "sys/leases/revoke", `{"lease_id":"`+bad+`"}`)
		s.Must(route.Write, "sys/leases/revoke", `{"lease_id":"`+good+`"}`)
		time.Sleep(10 * time.Second)
		if got := s.Things.Alive(); !cmp.Equal(got, []string{bad}) {
			t.Errorf("alive are %q, want the one whose undo panics", got)
		}
		if got := s.Must(route.Write, "sys/leases/lookup",
			`{"lease_id":"`+bad+`"}`).Data["revoke_error"]; !strings.Contains(got.(string), "the engine failed") {
			t.Errorf("its error is %v", got)
		}
		s.Stop()
	})
}

// TestMandatoryWrapping: if the policy requires wrapping, an answer that cannot be wrapped is
// refused, and a renewal is wrapped.
func TestMandatoryWrapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := make(chan []byte)
		s := startWithThings(t, func(c *core.Config) {
			c.Metrics = func(context.Context, string, string) ([]byte, string, error) {
				return []byte("{}"), "application/json", nil
			}
			c.Server.Log = core.Log{
				Watch: func(_, _ string) (<-chan []byte, func(), bool, error) { return lines, func() {}, true, nil },
			}
		})
		bound := "{ capabilities = [\"read\", \"update\", \"sudo\"]\n"
		token := func(wrap string) string {
			rules := ""
			for _, path := range []string{
				"sys/metrics", "sys/pprof/*", "sys/monitor", "sys/internal/specs/openapi", "sys/leases/renew",
				"m/creds/*",
			} {
				rules += "path \"" + path + "\" " + bound + wrap + "\n}\n"
			}
			return s.Login(rules)
		}
		for _, wrap := range []string{"min_wrapping_ttl = \"1m\"", "max_wrapping_ttl = \"1h\"", ""} {
			tok := token(wrap)
			for _, path := range []string{
				"sys/metrics", "sys/pprof/cmdline", "sys/monitor", "sys/internal/specs/openapi",
			} {
				r := coretest.Request{Op: route.Read, Path: path, Token: tok, Wrap: 2 * time.Minute}
				if wrap != "" {
					s.RefusedDo(r, fault.Denied, "cannot be wrapped")
				} else if _, err := s.Do(r); fault.Is(err, fault.Denied) {
					t.Errorf("%s, with no bound: %v", path, err)
				}
			}
			a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/creds/r", Token: tok, Wrap: 2 * time.Minute})
			id := s.MustDo(coretest.Request{
				Op: route.Write, Path: "sys/wrapping/unwrap", Token: a.Wrap["token"].(string),
			}).LeaseID
			renew := coretest.Request{Op: route.Write, Path: "sys/leases/renew", Token: tok, Body: `{"lease_id":"` +
				id + `"}`, Wrap: 2 * time.Minute}
			if a = s.MustDo(renew); a.Wrap == nil || strings.Contains(a.Body, id) {
				t.Errorf("%q: a renewal is answered in the clear: %s", wrap, a.Body)
			} else if got := s.MustDo(coretest.Request{
				Op: route.Write, Path: "sys/wrapping/unwrap", Token: a.Wrap["token"].(string),
			}); got.LeaseID != id {
				t.Errorf("%q: unwrapped, the renewal is %s", wrap, got.Body)
			}
			if renew.Wrap = 0; wrap != "" {
				s.RefusedDo(renew, fault.Denied, "permission denied")
			}
		}
		s.Stop()
	})
}

// TestWrapping: a wrapped answer can be read once, until it expires.
func TestWrapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"kv"}`)
		s.Must(route.Write, "m/a", `{"v":"canary"}`)
		a := s.MustDo(coretest.Request{Op: route.Read, Path: "m/a", Wrap: time.Minute})
		if strings.Contains(a.Body, "canary") || a.Wrap["ttl"] != 60.0 || a.Wrap["creation_path"] != "m/a" {
			t.Fatalf("wrapped: %s", a.Body)
		}
		tok := a.Wrap["token"].(string)
		s.RefusedDo(coretest.Request{Op: route.Read, Path: "m/a", Token: tok}, fault.Denied, "can only be unwrapped")
		got := s.MustDo(coretest.Request{Op: route.Write, Path: "sys/wrapping/unwrap", Token: tok})
		if got.Data["v"] != "canary" {
			t.Errorf("unwrapped: %s", got.Body)
		}
		s.RefusedDo(coretest.Request{Op: route.Write, Path: "sys/wrapping/unwrap", Token: tok}, fault.Invalid,
			"wrapping token is not valid")

		// A token that is never unwrapped is revoked when its wrapping expires.
		a = s.MustDo(coretest.Request{
			Op: route.Write, Path: "auth/token/create", Wrap: time.Minute, Body: `{"ttl":"24h"}`,
		})
		accessor := a.Wrap["wrapped_accessor"].(string)
		s.Must(route.Write, "auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`)
		time.Sleep(5 * time.Minute)
		_, err := s.Do(coretest.Request{
			Op: route.Write, Path: "auth/token/lookup-accessor", Body: `{"accessor":"` + accessor + `"}`,
		})
		if err == nil {
			t.Error("the wrapped token lives on")
		}
		// The system's maximum TTL limits the wrapping TTL.
		if a = s.MustDo(coretest.Request{
			Op: route.Read, Path: "m/a", Wrap: 9999 * time.Hour,
		}); a.Wrap["ttl"] != 768.0*3600 {
			t.Errorf("wrapped for %v", a.Wrap["ttl"])
		}
		s.Stop()
	})
}

// TestAuditFailsClosed: while no device works, requests fail, except those that an operator needs
// to repair that. Revocations continue, and their entries are written later.
func TestAuditFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"kv"}`)
		s.Must(route.Write, "sys/mounts/n", `{"type":"things"}`)
		s.Must(route.Write, "sys/audit/tape", `{"type":"tape"}`)
		s.Must(route.Write, "m/a", `{"v":"canary"}`)
		if text := s.Tape.Text(); !strings.Contains(text, `"path":"m/a"`) || strings.Contains(text, "canary") ||
			strings.Contains(text, coretest.Root) {
			t.Errorf("the tape holds %s", text)
		}
		s.Must(route.Read, "n/creds/r", `{"ttl":"1m"}`)
		s.Tape.Fail(true)
		s.Refused(route.Read, "m/a", "", fault.Unavailable, "")
		s.Refused(route.Write, "m/a", `{"v":"2"}`, fault.Unavailable, "")
		s.Refused(route.Read, "n/creds/r", "", fault.Unavailable, "")
		time.Sleep(2 * time.Minute) // the lease ends
		if n := len(s.Things.Alive()); n != 0 {
			t.Errorf("%d things live on because nothing can be audited", n)
		}
		s.Tape.Fail(false)
		time.Sleep(5 * time.Second)
		if text := s.Tape.Text(); !strings.Contains(text, "n/creds/r/") {
			t.Error("the lines of the revocation do not follow")
		}
		if got := s.Must(route.Read, "m/a", "").Data["v"]; got != "canary" {
			t.Errorf("a write that could not be audited was made: %v", got)
		}
		if err := s.ReloadAudit(); err != nil {
			t.Error(err)
		}
		// A lease whose answer cannot be audited is revoked.
		s.Tape.Fail(true)
		s.Must(route.Delete, "sys/audit/tape", "")
		s.Must(route.Read, "m/a", "")
		s.Stop()
	})
}
