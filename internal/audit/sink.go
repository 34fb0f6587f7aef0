package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxWaiting limits the bytes that wait for a slow device while another one is fast.
	maxWaiting = 64 << 20
	// stopWait is how long a disabled device may take to finish.
	stopWait = time.Second
	// A failing device is probed after firstRetry, and then after pauses that double up to
	// lastRetry, so that it recovers within seconds after the disk has.
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Second
)

// A sink is one enabled device with its waiting lines.
type sink struct {
	spec    Spec
	lines   *renderer // as the device's options say
	plain   *renderer // the same, but never raw, for lines that are stored before they are written
	options map[string]string
	broker  Options
	log     *slog.Logger
	metrics Metrics

	wake    chan struct{}              // signals that lines are waiting
	control chan func(context.Context) // run between two writes
	quit    chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex // guards:
	waiting  *batch     // the next write; nil: nothing waits
	current  *batch     // being written
	spare    []*batch   // whose buffers are reused
	down     error      // why the device is failing; nil: it works
	stopped  bool
	position Position // chain.at, for others to see
	calls    uint64   // number of beginnings and ends of calls of the device
	late     bool     // the current call has timed out

	chain chain // of the goroutine alone
}

// A chain is the state of a device that only the sink's goroutine uses.
type chain struct {
	dev    Device // nil: could not be opened yet
	at     Position
	torn   int           // reported in the next line
	missed uint64        // missed lines that have been reported
	wait   time.Duration // until the next probe
	out    []byte        // the next write's bytes
}

// A batch is the lines of one write.
type batch struct {
	group
	tallies []*tally
}

func newSink(spec Spec, o options, broker Options) *sink {
	h := NewHasher(spec.Salt)
	plain := &renderer{h: h, plainAccessor: !o.hashAccessor, elideLists: o.elideLists}
	lines := plain
	if o.raw {
		raw := NewHasher(spec.Salt)
		raw.Raw = true
		lines = &renderer{h: raw, plainAccessor: !o.hashAccessor, elideLists: o.elideLists}
	}
	return &sink{
		spec: spec, lines: lines, plain: plain, options: o.device, broker: broker,
		log:     broker.Log.With("device", spec.Path),
		wake:    make(chan struct{}, 1),
		control: make(chan func(context.Context)),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		down:    errors.New("the device is being opened"),
		chain:   chain{at: spec.Resume, wait: firstRetry}, position: spec.Resume,
	}
}

func (s *sink) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down == nil && !s.stopped
}

func (s *sink) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Path: s.spec.Path, Type: s.spec.Type.Name, Up: s.down == nil, Position: s.position, Metrics: &s.metrics,
	}
	if s.down != nil {
		st.Cause = s.down.Error()
	}
	return st
}

// start starts the goroutine, and waits until the device has been opened and a line written.
func (s *sink) start(ctx context.Context, reason string) error {
	opened := make(chan error, 1)
	go s.run(context.WithoutCancel(ctx), func(ctx context.Context) { opened <- s.recover(ctx, reason) })
	return s.await(opened, "opening")
}

// reopen makes the goroutine reopen the device.
func (s *sink) reopen() error {
	reopened := make(chan error, 1)
	f := func(ctx context.Context) { reopened <- s.rotate(ctx) }
	late := time.NewTimer(s.broker.Timeout)
	defer late.Stop()
	select {
	case s.control <- f:
	case <-s.done:
		return nil
	case <-late.C:
		return s.fault(errSlow, "reopening")
	}
	return s.await(reopened, "reopening")
}

func (s *sink) await(done <-chan error, doing string) error {
	late := time.NewTimer(2 * s.broker.Timeout)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return s.fault(errSlow, doing)
	}
}

// stop writes the waiting lines, and closes the device. If the device hangs in a write, its
// goroutine closes it when the write returns.
func (s *sink) stop() {
	s.mu.Lock()
	alreadyStopped := s.stopped
	s.stopped = true
	s.mu.Unlock()
	if alreadyStopped {
		return
	}
	close(s.quit)
	late := time.NewTimer(stopWait)
	defer late.Stop()
	select {
	case <-s.done:
	case <-late.C:
		s.fail(s.takeAll(), errStopped)
	}
}

// enqueue adds the lines of one call to the waiting batch. The tally gets one result, from here or
// from the goroutine.
func (s *sink) enqueue(g *group, t *tally) {
	if err := s.join(g, t); err != nil {
		s.metrics.Missed.Add(uint64(len(g.ends)))
		t.report(err)
	}
}

func (s *sink) join(g *group, t *tally) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return errStopped
	case s.down != nil:
		return s.down
	}
	b := s.waiting
	if b == nil {
		if n := len(s.spare); n > 0 {
			b, s.spare = s.spare[n-1], s.spare[:n-1]
		} else {
			b = new(batch)
		}
		s.waiting = b
		select {
		case s.wake <- struct{}{}:
		default:
		}
	} else if len(b.text)+len(g.text) > maxWaiting {
		return errFull
	}
	from := len(b.text)
	b.text = append(b.text, g.text...)
	for _, end := range g.ends {
		b.ends = append(b.ends, from+end)
	}
	b.sums = append(b.sums, g.sums...)
	b.tallies = append(b.tallies, t)
	return nil
}

// take makes the waiting batch the current one.
func (s *sink) take() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.waiting = s.waiting, nil
	return s.current
}

// takeAll removes and returns the tallies of the waiting and the current batch, which get no other
// result.
func (s *sink) takeAll() []*tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeAllLocked()
}

func (s *sink) takeAllLocked() []*tally {
	var all []*tally
	for _, b := range []*batch{s.current, s.waiting} {
		if b != nil {
			all = append(all, b.tallies...)
			s.metrics.Missed.Add(uint64(len(b.ends)))
		}
	}
	s.current, s.waiting = nil, nil
	return all
}

// fail reports to tallies that their lines were not written.
func (s *sink) fail(tallies []*tally, err error) {
	for _, t := range tallies {
		t.report(err)
	}
}

// succeed reports to the tallies of b that it was written.
func (s *sink) succeed(b *batch) {
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	for _, t := range b.tallies {
		t.report(nil)
	}
}

// recycle keeps a batch's buffers for the next one.
func recycle(s *sink, b *batch) {
	if cap(b.text) > 4*maxPooled {
		return
	}
	clear(b.tallies)
	clear(b.sums)
	b.text, b.ends, b.sums, b.tallies = b.text[:0], b.ends[:0], b.sums[:0], b.tallies[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, b) // at most two, because one is written while another waits
}

// beginCall numbers a call of the device, for giveUp.
func (s *sink) beginCall() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.late = false
	return s.calls
}

// endCall reports whether the call had timed out before it returned.
func (s *sink) endCall() (late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return s.late
}

// giveUp reports a timeout to all tallies, unless call number n has returned meanwhile.
func (s *sink) giveUp(n uint64) {
	s.mu.Lock()
	if s.calls != n {
		s.mu.Unlock()
		return
	}
	s.late, s.down = true, errSlow
	tallies := s.takeAllLocked()
	s.mu.Unlock()
	s.log.Error("audit device hangs", "timeout", s.broker.Timeout)
	s.fail(tallies, errSlow)
}

// setDown marks the device failing, or working again for a nil err.
func (s *sink) setDown(err error) (before error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.down = s.down, err
	return before
}

func (s *sink) fault(err error, doing string) error {
	return fmt.Errorf("audit device %s: %s: %w", s.spec.Path, doing, err)
}
