package audit

import (
	"context"
	"errors"
	"time"
)

// stopWait is how long a disabled device may take to finish.
const stopWait = time.Second

// A sink is one enabled device: it renders lines for the device, and has their queue and writer.
type sink struct {
	path    string
	lines   *renderer // as the device's options say
	plain   *renderer // the same, but never raw, for lines that are stored before they are written
	metrics Metrics
	queue   queue
	writer  writer
}

func newSink(spec Spec, o options, broker Options) *sink {
	plain := &renderer{h: NewHasher(spec.Salt), plainAccessor: !o.hashAccessor, elideLists: o.elideLists}
	lines := plain
	if o.raw {
		raw := NewHasher(spec.Salt)
		raw.Raw = true
		lines = &renderer{h: raw, plainAccessor: !o.hashAccessor, elideLists: o.elideLists}
	}
	s := &sink{path: spec.Path, lines: lines, plain: plain}
	s.queue = queue{
		metrics: &s.metrics, wake: make(chan struct{}, 1), down: errors.New("the device is being opened"),
		position: spec.Resume,
	}
	s.writer = writer{
		spec: spec, options: o.device, broker: broker, lines: lines, log: broker.Log.With("device", spec.Path),
		metrics: &s.metrics, queue: &s.queue,
		control: make(chan func(context.Context)),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		at:      spec.Resume, wait: firstRetry,
	}
	return s
}

func (s *sink) status() Status {
	position, down := s.queue.state()
	st := Status{
		Path: s.path, Type: s.writer.spec.Type.Name, Up: down == nil, Position: position, Metrics: &s.metrics,
	}
	if down != nil {
		st.Cause = down.Error()
	}
	return st
}

// start starts the goroutine, and waits until the device has been opened and a line written.
func (s *sink) start(ctx context.Context, reason string) error {
	opened := make(chan error, 1)
	go s.writer.run(context.WithoutCancel(ctx), func(ctx context.Context) { opened <- s.writer.recover(ctx, reason) })
	return s.await(opened, "opening")
}

// reopen makes the goroutine reopen the device.
func (s *sink) reopen() error {
	reopened := make(chan error, 1)
	f := func(ctx context.Context) { reopened <- s.writer.reopen(ctx) }
	late := time.NewTimer(s.writer.broker.Timeout)
	defer late.Stop()
	select {
	case s.writer.control <- f:
	case <-s.writer.done:
		return nil
	case <-late.C:
		return s.writer.fault(errSlow, "reopening")
	}
	return s.await(reopened, "reopening")
}

func (s *sink) await(done <-chan error, doing string) error {
	late := time.NewTimer(2 * s.writer.broker.Timeout)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return s.writer.fault(errSlow, doing)
	}
}

// stop writes the waiting lines, and closes the device. If the device hangs in a write, its
// goroutine closes it when the write returns.
func (s *sink) stop() {
	if !s.queue.stop() {
		return
	}
	close(s.writer.quit)
	late := time.NewTimer(stopWait)
	defer late.Stop()
	select {
	case <-s.writer.done:
	case <-late.C:
		s.queue.failAll(errStopped)
	}
}
