package databasetest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A mode is what a wire does to the next message.
type mode uint8

const (
	pass         mode = iota
	loseReply         // the server receives it and answers; the answer is lost, and the connection is cut
	cutAfterSend      // the server receives it; then the connection is cut, and the client can open no other
	dead              // the mode after cutAfterSend
	hold              // the server receives this and all later messages only on release; no new connections
)

// A wire makes connections that fail on command.
type wire struct {
	under  func(ctx context.Context, network, address string) (net.Conn, error)
	effect func(message []byte) bool // the messages to which the mode applies; nil is all

	mu   sync.Mutex // guards the rest
	mode mode
	held []func()
}

func newWire(under func(ctx context.Context, network, address string) (net.Conn, error),
	effect func([]byte) bool) *wire {
	if under == nil {
		under = new(net.Dialer).DialContext
	}
	return &wire{under: under, effect: effect}
}

func (w *wire) arm(m mode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = m
}

// release delivers the held messages, and lets later ones pass.
func (w *wire) release() {
	w.mu.Lock()
	held := w.held
	w.mode, w.held = pass, nil
	w.mu.Unlock()
	for _, deliver := range held {
		deliver()
	}
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	m := w.mode
	w.mu.Unlock()
	if m == dead || m == hold {
		return nil, errors.New("the wire is cut")
	}
	c, err := w.under(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &wired{Conn: c, wire: w}, nil
}

// wired is one connection.
type wired struct {
	net.Conn
	wire *wire

	mu      sync.Mutex // guards the rest
	losing  bool       // the next answer is lost
	holding bool
}

func (c *wired) Write(b []byte) (int, error) {
	c.wire.mu.Lock()
	m := c.wire.mode
	if (m != hold || len(c.wire.held) == 0) && c.wire.effect != nil && !c.wire.effect(b) {
		m = pass
	}
	switch m {
	case loseReply:
		c.wire.mode = pass
	case cutAfterSend:
		c.wire.mode = dead
	}
	if m == hold {
		c.mu.Lock()
		c.holding = true
		c.mu.Unlock()
		b := append([]byte(nil), b...)
		c.wire.held = append(c.wire.held, func() { c.deliver(b) })
		c.wire.mu.Unlock()
		return len(b), nil
	}
	c.wire.mu.Unlock()
	n, err := c.Conn.Write(b)
	switch m {
	case loseReply:
		c.mu.Lock()
		c.losing = true
		c.mu.Unlock()
	case cutAfterSend:
		c.Conn.Close()
	}
	return n, err
}

// deliver sends a held message, maybe after its sender is gone.
func (c *wired) deliver(b []byte) {
	_ = c.Conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.Conn.Write(b)
}

func (c *wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	losing := c.losing
	c.mu.Unlock()
	if losing && err == nil {
		// The first bytes of the answer have arrived, but the server has finished only at its end.
		_ = c.Conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = io.Copy(io.Discard, c.Conn)
		c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// Close leaves a connection with held messages open, so that they can be delivered.
func (c *wired) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding {
		return c.Conn.SetReadDeadline(time.Now())
	}
	return c.Conn.Close()
}
