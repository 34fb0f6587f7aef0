package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
)

// TestExplain: what an error proves, and what the client is told. The server's own words may hold
// a rule or a name, so they go to the log.
func TestExplain(t *testing.T) {
	says := func(text string) error { return &answer{text: text} }
	for name, tt := range map[string]struct {
		err       error
		kind      fault.Kind
		unchanged bool
		want      string // in the message
	}{
		"a command": {says("NOPERM User x has no permissions to run the 'acl|setuser' command"),
			fault.Upstream, false, "may not run acl|setuser; give it +acl"},
		"a command, ends":     {says("NOPERM 'az-za' Canary"), fault.Upstream, false, "may not run az-za; "},
		"no command":          {says("NOPERM run 'Canary' command"), fault.Upstream, false, "may not do that; give it +acl"},
		"no command, a space": {says("NOPERM run 'acl setuser' command"), fault.Upstream, false, "may not do that; "},
		"no command, open":    {says("NOPERM 'acl"), fault.Upstream, false, "may not do that; "},
		"not let in": {&connectError{says("WRONGPASS Canary")}, fault.Upstream, true,
			"cannot connect to Redis: wrong username or password"},
		"with a dash": {&connectError{says("-LOADING Canary")}, fault.Upstream, true, "it is starting"},
		"no answer":   {&connectError{context.DeadlineExceeded}, fault.Timeout, true, "does not answer in time"},
		"no connection": {&connectError{errors.New("Canary")}, fault.Upstream, true,
			"cannot connect to Redis: the log has the reason"},
		"another protocol":   {&connectError{errProtocol}, fault.Upstream, true, "does not speak the Redis protocol"},
		"too slow":           {context.DeadlineExceeded, fault.Timeout, false, "took too long"},
		"too slow, not sent": {&database.NotSent{Err: context.DeadlineExceeded}, fault.Timeout, true, "took too long"},
		"too late":           {errTooLate, fault.Timeout, false, "after the attempt's deadline"},
		"taken":              {errTaken, fault.Conflict, false, "has a user of this name already"},
		"absent":             {errAbsent, fault.NotFound, true, "there is no user v-app"},
		"canceled":           {context.Canceled, fault.Unavailable, false, "creating the user was canceled"},
		"closed":             {database.ErrClosed, fault.Unavailable, false, "creating the user was canceled"},
		"denied":             {fault.New("x", fault.Denied, "not this host"), fault.Denied, true, "not this host"},
		"lost":               {net.ErrClosed, fault.Upstream, false, "lost while creating the user"},
		"lost, not sent": {&database.NotSent{Err: net.ErrClosed}, fault.Upstream, true,
			"lost while creating the user"},
		"not sent, partly": {&partly{&database.NotSent{Err: net.ErrClosed}}, fault.Upstream, false,
			"lost while creating the user"},
		"at a server": {&atServer{"server 10.0.0.1:6379 (1 of 3 failed)",
			&database.NotSent{Err: net.ErrClosed}}, fault.Upstream, true,
			"server 10.0.0.1:6379 (1 of 3 failed): the connection"},
		"a Sentinel": {&database.NotSent{Err: &connectError{errSentinel}}, fault.Upstream, true,
			"give sentinel_master_name"},
		"no cluster": {&database.NotSent{Err: says("ERR This instance has cluster support disabled")},
			fault.Upstream, true, "leave cluster out"},
		"not a Sentinel": {&database.NotSent{Err: says(
			"ERR unknown command 'SENTINEL', with args beginning with: 'REPLICAS'")}, fault.Upstream, true,
			"it is not a Sentinel"},
		"no config file": {says("ERR The server is running without a config file"), fault.Upstream, false,
			"persistence_mode asks"},
		"no password": {says("ERR AUTH called without any password configured"), fault.Upstream, false,
			"no password for the default user"},
		"too many":   {says("ERR max number of clients reached"), fault.Upstream, false, "too many clients"},
		"an old one": {says("ERR unknown command 'ACL'"), fault.Upstream, false, "older than Redis 6"},
		"a rule": {says(
			"ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL"), fault.Upstream,
			false, "the rule +nosuch of creation_statements: it knows no such command or category"},
		"a pattern": {says("ERR Error in ACL SETUSER modifier '~x': Adding a pattern after the * pattern"),
			fault.Upstream, false, "the rule ~x of creation_statements: it takes no such pattern"},
		"what is no rule": {says("ERR Error in ACL SETUSER modifier '#Canary': Syntax error"), fault.Upstream,
			false, "it cannot read creation_statements"},
		"of another command": {&answer{text: "ERR Error in ACL SETUSER modifier '+nosuch': x", at: 1},
			fault.Upstream, false, "the log has its words"},
		"of words not in ours": {says("ERR Canary"), fault.Upstream, false,
			"it cannot read creation_statements; the log has its words"},
	} {
		k := call{op: "redis.Create", doing: "creating the user", field: "creation_statements",
			rules: []string{"+nosuch", "~x"}, user: "v-app"}
		err := (&conn{}).explain(k, tt.err)
		code := ""
		if said, answered := errors.AsType[*answer](tt.err); answered {
			code = strings.TrimPrefix(said.word(), "-")
		}
		_, partly := errors.AsType[*partly](tt.err)
		databasetest.Told{Kind: tt.kind, Unchanged: tt.unchanged, Refused: partly, Want: tt.want, Code: code}.Check(t,
			name, err)
	}
	if got := (call{}).refused(&answer{text: "ERR x"}); got != "the log has its words" {
		t.Errorf("without rules: %q", got)
	}
}

// TestFirstRefusal: of several commands that are sent at once, the first that is refused is the
// error, and all replies are read.
func TestFirstRefusal(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := &conn{plan: plan{dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}}
	s, err := c.connect(t.Context(), server{address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.shut()
	go func() {
		defer theirs.Close()
		// the first is to HELLO
		for _, answers := range []string{"-NOAUTH first log in\r\n", "+OK\r\n-ERR first\r\n-ERR second\r\n"} {
			if _, err := theirs.Read(make([]byte, 4096)); err != nil {
				return
			}
			_, _ = theirs.Write([]byte(answers))
		}
	}()
	commands := [][]string{{"TIME"}, {"ACL", "SETUSER"}, {"ACL", "SAVE"}}
	replies, err := s.do(t.Context(), commands...)
	said, ok := errors.AsType[*answer](err)
	if !ok || said.text != "ERR first" || said.at != 1 || len(replies) != 3 || s.broken {
		t.Errorf("%v, %d replies, broken %v; want the first refusal and three replies", err, len(replies), s.broken)
	}
	if _, err := s.do(t.Context(), commands...); err == nil || !s.broken {
		t.Errorf("once the server is gone: %v, broken %v", err, s.broken)
	}
}

// TestLimits: how many sessions are opened and kept, of what is configured. Zero is the default,
// and a negative number none.
func TestLimits(t *testing.T) {
	for _, tt := range []struct{ open, idle, wantOpen, wantIdle int }{
		{0, 0, 4, 4}, {7, 0, 7, 7}, {2, 0, 2, 4}, {-1, 0, 0, 4}, {1, 1, 1, 1}, {0, 9, 4, 9}, {0, -1, 4, 0},
		{-1, -1, 0, 0},
	} {
		p, err := prepare(database.Config{Extra: map[string]string{"host": "h"}, MaxOpen: tt.open, MaxIdle: tt.idle})
		if diff := cmp.Diff([]int{tt.wantOpen, tt.wantIdle}, []int{p.maxOpen, p.maxIdle}); err != nil || diff != "" {
			t.Errorf("max_open_connections %d, max_idle_connections %d: %v\n%s", tt.open, tt.idle, err, diff)
		}
	}
}
