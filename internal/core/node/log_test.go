package node

import (
	"context"
	"errors"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// logged returns a log whose level is *level, and whose lines come from a channel.
func logged(level *string, lines chan []byte, busy *bool) Log {
	check := func(text string) error {
		if text != "info" && text != "debug" {
			return errors.New("want info or debug")
		}
		return nil
	}
	return Log{
		Level: func() string { return *level },
		SetLevel: func(text string) error {
			if err := check(text); err != nil {
				return err
			}
			*level = text
			return nil
		},
		Revert: func() { *level = "info" },
		Watch: func(text, _ string) (<-chan []byte, func(), bool, error) {
			return lines, func() {}, !*busy, check(text)
		},
	}
}

func TestLoggers(t *testing.T) {
	level, busy := "info", false
	p := open(t, func(c *Config) { c.Log = logged(&level, nil, &busy) })
	p.must(route.Read, "loggers", "", `{"core":"info"}`)
	for _, path := range []string{"loggers", "loggers/core"} {
		if _, err := p.do(route.Write, path, `{"level":"debug"}`); err != nil || level != "debug" {
			t.Errorf("%s: level %s, %v", path, level, err)
		}
		p.must(route.Read, "loggers/core", "", `{"core":"debug"}`)
		if _, err := p.do(route.Delete, path, ""); err != nil || level != "info" {
			t.Errorf("%s: level %s, %v", path, level, err)
		}
	}
	for _, tt := range []struct {
		op         route.Op
		path, body string
		kind       fault.Kind
	}{
		{route.Write, "loggers", `{"level":"loud"}`, fault.Invalid}, {route.Write, "loggers", `{}`, fault.Invalid},
		{route.Read, "loggers/none", "", fault.NotFound},
		{route.Write, "loggers/none", `{"level":"debug"}`, fault.NotFound},
		{route.Delete, "loggers/none", "", fault.NotFound},
		{route.Read, "monitor", `{"log_level":"loud"}`, fault.Invalid},
		{route.Write, "config/reload/listener", "", fault.Invalid},
	} {
		if _, err := p.do(tt.op, tt.path, tt.body); !fault.Is(err, tt.kind) || level != "info" {
			t.Errorf("%s %s %s: %v, level %s", tt.op, tt.path, tt.body, err, level)
		}
	}
	if _, err := p.do(route.Write, "config/reload/license", ""); err != nil {
		t.Error(err)
	}
	busy = true
	if _, err := p.do(route.Read, "monitor", ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("too many: %v", err)
	}
	none := open(t, nil)
	for _, path := range []string{"loggers", "monitor", "config/state/sanitized"} {
		if _, err := none.do(route.Read, path, ""); !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s without a server: %v", path, err)
		}
	}
}

func TestState(t *testing.T) {
	p := open(t, func(c *Config) { c.State = func() ([]byte, error) { return []byte(`{"log_level":"info"}`), nil } })
	p.must(route.Read, "config/state/sanitized", "", `{"log_level":"info"}`)
}

// TestMonitor streams lines until the client hangs up, or the context ends.
func TestMonitor(t *testing.T) {
	level, busy, lines := "info", false, make(chan []byte, 3)
	p := open(t, func(c *Config) { c.Log = logged(&level, lines, &busy) })
	r := &route.Request{Op: route.Read, Path: "sys/monitor", Rest: "monitor"}
	found, err := p.table.Find(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := found.Serve(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	lines <- []byte("one\n")
	lines <- []byte("two\n")
	lines <- []byte("three\n")
	gone := errors.New("the client has gone")
	var got string
	err = r.Reply().Stream(t.Context(), func(piece []byte) error {
		if got += string(piece); len(got) > 4 {
			return gone
		}
		return nil
	})
	if err != gone || got != "one\ntwo\n" {
		t.Errorf("%q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	<-lines
	if err := r.Reply().Stream(ended, func([]byte) error { return gone }); err != nil {
		t.Error(err)
	}
}
