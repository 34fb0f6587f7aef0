package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strconv"
	"time"
)

// run is the sink's goroutine: it alone calls the device.
func (s *sink) run(ctx context.Context, first func(context.Context)) {
	defer close(s.done)
	probe := time.NewTimer(s.chain.wait)
	probe.Stop()
	defer probe.Stop()
	first(ctx)
	for {
		if !s.up() {
			probe.Reset(s.chain.wait)
		}
		select {
		case <-s.wake:
			// Let those who are about to ask add their lines: one write for all.
			runtime.Gosched()
			s.flush(ctx)
		case f := <-s.control:
			f(ctx)
		case <-probe.C:
			if !s.up() {
				_ = s.recover(ctx, "recovered") // it has said why, and is tried again
			}
		case <-s.quit:
			s.flush(ctx)
			s.fail(s.takeAll(), errStopped)
			if s.chain.dev != nil {
				_ = s.chain.dev.Close() // nothing is left that could be lost
			}
			return
		}
	}
}

// flush writes what waits, as one write.
func (s *sink) flush(ctx context.Context) {
	b := s.take()
	if b == nil {
		return
	}
	next := s.link(b)
	if err := s.write(ctx, s.chain.out); err != nil {
		s.failed(err)
		return
	}
	s.advance(next, len(b.ends))
	s.succeed(b)
	recycle(s, b)
}

// link gives each line of b its place in the chain, in s.chain.out.
func (s *sink) link(b *batch) Position {
	out, at, torn := s.chain.out[:0], s.chain.at, s.chain.torn
	if cap(out) > 8*maxPooled {
		out = nil
	}
	from := 0
	for i, end := range b.ends {
		out, at = appendLine(out, b.text[from:end], b.sums[i], at, torn)
		from, torn = end, 0
	}
	s.chain.out = out
	return at
}

// write calls the device.
func (s *sink) write(ctx context.Context, out []byte) error {
	s.metrics.Writes.Add(1)
	return s.watched(ctx, func(ctx context.Context) error { return s.chain.dev.Write(ctx, out) })
}

// watched calls the device. If it does not return in time, those who wait are
// told so meanwhile.
func (s *sink) watched(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.broker.Timeout)
	defer cancel()
	n := s.beginCall()
	stop := context.AfterFunc(ctx, func() { s.giveUp(n) })
	err := call(ctx)
	stop()
	if s.endCall() && err == nil {
		err = errSlow // all may be written, but who waited was told otherwise
	}
	return err
}

// advance moves the chain past written lines.
func (s *sink) advance(to Position, lines int) {
	s.chain.at, s.chain.torn = to, 0
	s.metrics.Lines.Add(uint64(lines))
	s.metrics.Bytes.Add(uint64(len(s.chain.out)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = to
}

// failed marks the device failing and refuses all that waits.
func (s *sink) failed(err error) {
	s.metrics.Failures.Add(1)
	s.setDown(err)
	s.fail(s.takeAll(), err)
	s.log.Error("audit device fails", "cause", err)
	s.chain.wait = firstRetry
}

// recover opens the device where it is not open, finds out where it stands, and
// writes a line that says so. Then the device is up.
func (s *sink) recover(ctx context.Context, reason string) error {
	err := s.resume(ctx, reason)
	if err != nil {
		s.metrics.Failures.Add(1)
		s.setDown(err)
		s.chain.wait = min(2*s.chain.wait, lastRetry)
		return err
	}
	s.chain.wait = firstRetry
	if s.setDown(nil) != nil && reason == "recovered" {
		s.log.Info("audit device works again")
	}
	return nil
}

func (s *sink) resume(ctx context.Context, reason string) error {
	if s.chain.dev == nil {
		dev, err := s.spec.Type.Open(Config{
			Path: s.spec.Path, Options: s.options, StorageDir: s.broker.StorageDir, Folders: s.broker.Folders,
		})
		if err != nil {
			return err
		}
		s.chain.dev = dev
	}
	if _, err := s.resync(ctx); err != nil {
		return err
	}
	return s.announce(ctx, reason)
}

// resync asks the device where it stands. Where lines were written that nobody
// was told of, it is further than we are; a new or shortened file is behind us, and the chain
// goes on, so that the gap shows.
func (s *sink) resync(ctx context.Context) (Tail, error) {
	var tail Tail
	err := s.watched(ctx, func(context.Context) (err error) {
		tail, err = s.chain.dev.Tail()
		return err
	})
	if err != nil {
		return tail, s.fault(err, "reading its last line")
	}
	if at, ok := ParseLine(tail.Line); ok && at.Sequence > s.chain.at.Sequence {
		s.chain.at = at
	}
	s.chain.torn = tail.Torn
	if tail.Torn > 0 {
		s.metrics.Torn.Add(1)
		s.log.Warn("audit device ended in a torn line", "bytes", tail.Torn)
	}
	return tail, nil
}

// announce writes a line of our own: the device was enabled, started, reopened
// or recovered, and how many lines it missed.
func (s *sink) announce(ctx context.Context, reason string) error {
	missed := s.metrics.Missed.Load()
	detail := Detail{"reason": reason}
	if missed > s.chain.missed {
		detail["missed"] = strconv.FormatUint(missed-s.chain.missed, 10)
	}
	a := Action{ID: newID(), Actor: ActorAudit, Operation: "open", Path: "sys/audit/" + s.spec.Path, Detail: detail}
	b := new(batch)
	b.text = s.lines.entry(nil, a.Request(time.Now()))
	b.ends = []int{len(b.text)}
	b.hash()
	next := s.link(b)
	if err := s.write(ctx, s.chain.out); err != nil {
		return s.fault(err, "writing")
	}
	s.advance(next, 1)
	s.chain.missed = missed
	return nil
}

// rotate reopens the device. A new file begins with a line that says so: the
// chain can go on from it after a restart.
func (s *sink) rotate(ctx context.Context) error {
	if s.chain.dev == nil || !s.up() {
		return nil // the next probe opens it
	}
	err := s.watched(ctx, func(context.Context) error { return s.chain.dev.Reopen() })
	if err == nil {
		var tail Tail
		if tail, err = s.resync(ctx); err == nil && tail.Line == nil {
			err = s.announce(ctx, "reopened")
		}
	}
	if err != nil {
		s.failed(err)
		return s.fault(err, "reopening")
	}
	return nil
}

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it does not fail: it ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
