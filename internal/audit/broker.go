package audit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Broker writes entries to all enabled devices. Safe for concurrent use.
type Broker struct {
	opts  Options
	sinks atomic.Pointer[[]*sink] // immutable snapshot
	mu    sync.Mutex              // serializes changes of the snapshot
}

// NewBroker returns a broker without devices.
func NewBroker(o Options) *Broker {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{opts: o}
	b.sinks.Store(new([]*sink))
	return b
}

// Enable adds a device, after an opening line has been written to it. The common options of all
// devices are log_raw, hmac_accessor (default: true), elide_list_responses and format ("json"); a
// prefix is refused.
func (b *Broker) Enable(ctx context.Context, spec Spec) error {
	return b.add(ctx, spec, "enabled", true)
}

// Restore adds a device that was enabled before a restart. If it cannot be opened, it is
// nevertheless enabled, but failing, because a missing disk must not turn auditing off. The error
// says why; the device is retried until it works.
func (b *Broker) Restore(ctx context.Context, spec Spec) error {
	return b.add(ctx, spec, "started", false)
}

func (b *Broker) add(ctx context.Context, spec Spec, reason string, must bool) error {
	o, err := spec.parse()
	switch {
	case err != nil && must:
		return err
	case err != nil:
		spec = spec.refused(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.sinks.Load()
	if slices.ContainsFunc(old, func(s *sink) bool { return s.path == spec.Path }) {
		return fault.New("audit.Enable", fault.Invalid,
			"path: an audit device is already enabled at %q; disable it first or use another path", spec.Path)
	}
	s := newSink(spec, o, b.opts)
	err = s.start(ctx, reason)
	if err != nil && must {
		s.stop()
		return err
	}
	next := append(slices.Clone(old), s)
	b.sinks.Store(&next)
	return err
}

// Disable removes the device at path, after the waiting lines have been written.
func (b *Broker) Disable(path string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.sinks.Load()
	i := slices.IndexFunc(old, func(s *sink) bool { return s.path == path })
	if i < 0 {
		return fault.New("audit.Disable", fault.NotFound,
			"path: no audit device is enabled at %q; list sys/audit for those that are", path)
	}
	next := slices.Delete(slices.Clone(old), i, i+1)
	b.sinks.Store(&next)
	old[i].stop()
	return nil
}

// Close stops all devices. Later writes are refused.
func (b *Broker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range *b.sinks.Load() {
		s.stop()
	}
}

// Reopen reopens every device, after a log rotation. Those that cannot be opened are failing, and
// are retried.
func (b *Broker) Reopen() error {
	var all error
	for _, s := range *b.sinks.Load() {
		all = errors.Join(all, s.reopen())
	}
	return all
}

// Enabled reports whether there is a device.
func (b *Broker) Enabled() bool { return len(*b.sinks.Load()) > 0 }

// Healthy reports whether Write can succeed: no device is enabled, or at least one works.
func (b *Broker) Healthy() bool {
	sinks := *b.sinks.Load()
	return len(sinks) == 0 || slices.ContainsFunc(sinks, func(s *sink) bool { return s.queue.up() })
}

// Hash returns a secret as the device at path shows it.
func (b *Broker) Hash(path string, v secret.Value) (string, error) {
	for _, s := range *b.sinks.Load() {
		if s.path == path {
			return s.plain.h.Hash(v), nil
		}
	}
	return "", fault.New("audit.Hash", fault.NotFound,
		"path: no audit device is enabled at %q; list sys/audit for those that are", path)
}

// Write writes entries, in this order and adjacent, to every device. It returns nil as soon as one
// device has written all of them, or if no device is enabled. Otherwise, the error's kind is
// Unavailable, and the caller must refuse what the entries describe, although a device may have
// written some of the lines.
func (b *Broker) Write(ctx context.Context, entries ...*Entry) error {
	return b.write(ctx, func(s *sink, g *group) {
		for _, e := range entries {
			g.text = s.lines.entry(g.text, e)
			g.ends = append(g.ends, len(g.text))
		}
	})
}

// write writes the lines that fill renders for each device.
func (b *Broker) write(ctx context.Context, fill func(s *sink, g *group)) error {
	for {
		sinks := *b.sinks.Load()
		if len(sinks) == 0 {
			return nil
		}
		t := newTally(len(sinks))
		for _, s := range sinks {
			g := groups.Get().(*group)
			fill(s, g)
			g.hash()
			s.queue.enqueue(g, t)
			g.text, g.ends, g.sums = g.text[:0], g.ends[:0], g.sums[:0]
			if cap(g.text) <= maxPooled {
				groups.Put(g)
			}
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return fault.Wrap("audit.Write", fault.Timeout, ctx.Err())
		}
		if t.written() {
			return nil
		}
		if t.gone.Load() && !b.same(sinks) {
			continue // write to the devices that are enabled now
		}
		return &fault.Error{
			Op: "audit.Write", Kind: fault.Unavailable,
			Msg: "no audit device can write now, so requests are refused; an operator must repair one, or disable " +
				"it (keyturn audit disable PATH)",
			Err: t.err(),
		}
	}
}

func (b *Broker) same(sinks []*sink) bool { return slices.Equal(sinks, *b.sinks.Load()) }

// Devices returns the status of every device, in the order of enabling.
func (b *Broker) Devices() []Status {
	var all []Status
	for _, s := range *b.sinks.Load() {
		all = append(all, s.status())
	}
	return all
}

// Positions returns the position of each device, by path. Core stores them, so that a file whose
// end was cut off is detected, and the chain continues in a new file after a restart; see
// [Spec.Resume].
func (b *Broker) Positions() map[string]Position {
	at := make(map[string]Position)
	for _, s := range *b.sinks.Load() {
		at[s.path] = s.status().Position
	}
	return at
}
