// Package coretest runs a core in a test: a server without HTTP, over an in-memory store that
// fails on command, with the built-in mounts, an engine whose leases create [Things], and an audit
// device that fails on command. It works in a synctest bubble, and several servers can share a
// store.
package coretest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	authtoken "github.com/keyturn/keyturn/internal/auth/token"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/outsidetest"
	"github.com/keyturn/keyturn/internal/engine/cubbyhole"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/wire"
)

// Things are what the leases create.
type Things = outsidetest.Things

// Root is the first root token of every server.
const Root = "hvs.root-token-of-coretest"

// A Server is a running core with methods that send requests.
type Server struct {
	*core.Core
	Store  *faulty.Store
	Things *Things
	Tape   *outsidetest.Tape
	t      testing.TB
	end    context.CancelFunc
	ended  chan struct{}
	change []func(c *core.Config)
}

// Start runs a server, initialized and unsealed, until the test ends. Each change edits its
// configuration.
func Start(t testing.TB, change ...func(c *core.Config)) *Server {
	t.Helper()
	s := &Server{
		Store: faulty.New(memory.Open(), 1), Things: new(Things), Tape: new(outsidetest.Tape), t: t, change: change,
	}
	s.run()
	if _, err := s.Init(t.Context(), core.InitRequest{RootToken: secret.Text(Root)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// Another starts another server of the same store.
func (s *Server) Another() *Server {
	s.t.Helper()
	other := *s
	other.run()
	if err := other.AutoUnseal(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return &other
}

// Config returns the server's configuration.
func (s *Server) Config() core.Config {
	c := core.Config{
		Store: s.Store, StorageName: "memory", Seal: outsidetest.Seal{}, Log: slog.New(slog.DiscardHandler),
		ClusterName: "coretest",
	}
	c.Engines = append(c.Engines, kv.Type, cubbyhole.Type, s.Things.Type())
	c.Auths = append(c.Auths, authtoken.Type)
	c.Audits = append(c.Audits, s.Tape.Type())
	for _, f := range s.change {
		f(&c)
	}
	return c
}

func (s *Server) run() {
	ctx, end := context.WithCancel(context.WithoutCancel(s.t.Context()))
	c, ended := core.New(s.Config()), make(chan struct{})
	s.Core, s.end, s.ended = c, end, ended
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	s.t.Cleanup(func() { end(); <-ended })
}

// Stop stops the server, as SIGTERM does.
func (s *Server) Stop() {
	s.end()
	<-s.ended
}

// Restart stops the server and starts it again, as after a crash of the process.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Store.Revive()
	s.run()
	if err := s.AutoUnseal(context.WithoutCancel(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
}

// An Answer is the answer that a client would get.
type Answer struct {
	Status   int
	Body     string
	Data     map[string]any `json:"data"`
	Auth     map[string]any `json:"auth"`
	Wrap     map[string]any `json:"wrap_info"`
	Warnings []string       `json:"warnings"`
	LeaseID  string         `json:"lease_id"`
	TTL      int            `json:"lease_duration"`
}

// A Request is one operation on a path, with a JSON body. A listing's path needs no slash.
type Request struct {
	Op    route.Op
	Path  string
	Token string // "": the root token; "none": none
	Body  string
	Query map[string][]string
	Wrap  time.Duration
	From  string // address; "": 127.0.0.1
}

// Do serves a request.
func (s *Server) Do(r Request) (*Answer, error) {
	switch r.Token {
	case "":
		r.Token = Root
	case "none":
		r.Token = ""
	}
	return Ask(context.WithoutCancel(s.t.Context()), s.Core, r)
}

// Ask sends a request to a core. An empty token is none.
func Ask(ctx context.Context, c *core.Core, r Request) (*Answer, error) {
	p, err := route.ParsePath(r.Path, r.Op == route.List)
	if err != nil {
		return nil, err
	}
	req := &route.Request{
		ID: core.NewRequestID(), Op: r.Op, Path: p, Token: secret.Text(r.Token), Body: []byte(r.Body), Query: r.Query,
		Time:    time.Now(),
		WrapTTL: r.Wrap,
		Folder:  r.Op != route.List && strings.HasSuffix(r.Path, "/"),
		Remote:  netip.MustParseAddrPort("127.0.0.1:1"),
	}
	if r.From != "" {
		req.Remote = netip.AddrPortFrom(netip.MustParseAddr(r.From), 1)
	}
	if r.Body != "" {
		if err := wire.Check(req.Body, wire.DefaultLimits); err != nil {
			return nil, err
		}
	}
	got, err := c.Handle(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &Answer{Status: got.Status, Body: string(got.Body)}
	if len(got.Body) > 0 && got.Body[0] == '{' {
		if err := json.Unmarshal(got.Body, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Must sends a request with the root token, which must succeed.
func (s *Server) Must(op route.Op, path, body string) *Answer {
	s.t.Helper()
	return s.MustDo(Request{Op: op, Path: path, Body: body})
}

// MustDo is Do for a request that must succeed.
func (s *Server) MustDo(r Request) *Answer {
	s.t.Helper()
	a, err := s.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Op, r.Path, err)
	}
	return a
}

// Refused sends a request with the root token, which must fail with a kind and a message that
// contains want.
func (s *Server) Refused(op route.Op, path, body string, k fault.Kind, want string) {
	s.t.Helper()
	s.RefusedDo(Request{Op: op, Path: path, Body: body}, k, want)
}

// RefusedDo is Do for a request that must fail.
func (s *Server) RefusedDo(r Request, k fault.Kind, want string) {
	s.t.Helper()
	if _, err := s.Do(r); fault.KindOf(err) != k || err == nil || !strings.Contains(fault.Message(err), want) {
		s.t.Errorf("%s %s %s: %v, want %v with %q", r.Op, r.Path, r.Body, err, k, want)
	}
}

// Login creates a policy and returns a token that has it.
func (s *Server) Login(rules string) string {
	s.t.Helper()
	name := "p-" + core.NewRequestID()
	b, err := json.Marshal(map[string]string{"policy": rules})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Must(route.Write, "sys/policies/acl/"+name, string(b))
	return s.Must(route.Write, "auth/token/create", `{"policies":["`+name+`"]}`).Auth["client_token"].(string)
}
