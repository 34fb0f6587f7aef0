package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"time"
)

// A failing device is probed after firstRetry, and then after pauses that double up to lastRetry,
// so that it recovers within seconds after the disk has.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Second
)

// A writer writes the lines of a queue to one device, in one goroutine. Only that goroutine calls
// the device.
type writer struct {
	spec    Spec
	options map[string]string // the device's own
	broker  Options
	lines   *renderer
	log     *slog.Logger
	metrics *Metrics
	queue   *queue

	control chan func(context.Context) // run between two writes
	quit    chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	// The fields below are only used by the goroutine.
	dev    Device        // nil: could not be opened yet
	at     Position      // of the last line
	torn   int           // reported in the next line
	missed uint64        // missed lines that have been reported
	wait   time.Duration // until the next probe
	out    []byte        // the next write's bytes
}

// run is the goroutine of the writer. It calls first, and then writes until quit is closed.
func (w *writer) run(ctx context.Context, first func(context.Context)) {
	defer close(w.done)
	probe := time.NewTimer(w.wait)
	probe.Stop()
	defer probe.Stop()
	first(ctx)
	for {
		if !w.queue.up() {
			probe.Reset(w.wait)
		}
		select {
		case <-w.queue.wake:
			// Let other callers add their lines to the same write.
			runtime.Gosched()
			w.flush(ctx)
		case f := <-w.control:
			f(ctx)
		case <-probe.C:
			if !w.queue.up() {
				_ = w.recover(ctx, "recovered") // the status shows the error, and the device is probed again
			}
		case <-w.quit:
			w.flush(ctx)
			w.queue.failAll(errStopped)
			if w.dev != nil {
				_ = w.dev.Close() // nothing is left that could be lost
			}
			return
		}
	}
}

// flush writes the waiting lines, as one write.
func (w *writer) flush(ctx context.Context) {
	b := w.queue.take()
	if b == nil {
		return
	}
	next := w.link(b)
	if err := w.write(ctx, w.out); err != nil {
		w.failed(err)
		return
	}
	w.advance(next, len(b.ends))
	w.queue.succeed(b)
}

// link gives each line of b its place in the chain, in out.
func (w *writer) link(b *batch) Position {
	out, at, torn := w.out[:0], w.at, w.torn
	if cap(out) > 8*maxPooled {
		out = nil
	}
	from := 0
	for i, end := range b.ends {
		out, at = appendLine(out, b.text[from:end], b.sums[i], at, torn)
		from, torn = end, 0
	}
	w.out = out
	return at
}

// write calls the device.
func (w *writer) write(ctx context.Context, out []byte) error {
	w.metrics.Writes.Add(1)
	return w.watched(ctx, func(ctx context.Context) error { return w.dev.Write(ctx, out) })
}

// watched calls the device. If the call does not return in time, the callers that wait get an
// error meanwhile.
func (w *writer) watched(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, w.broker.Timeout)
	defer cancel()
	n := w.queue.beginCall()
	stop := context.AfterFunc(ctx, func() {
		if w.queue.giveUp(n) {
			w.log.Error("audit device hangs", "timeout", w.broker.Timeout)
		}
	})
	err := call(ctx)
	stop()
	if w.queue.endCall() && err == nil {
		err = errSlow // all may be written, but the callers got an error
	}
	return err
}

// advance moves the chain past written lines.
func (w *writer) advance(to Position, lines int) {
	w.at, w.torn = to, 0
	w.metrics.Lines.Add(uint64(lines))
	w.metrics.Bytes.Add(uint64(len(w.out)))
	w.queue.written(to)
}

// failed marks the device failing, and reports it to all callers that wait.
func (w *writer) failed(err error) {
	w.metrics.Failures.Add(1)
	w.queue.setDown(err)
	w.queue.failAll(err)
	w.log.Error("audit device fails", "cause", err)
	w.wait = firstRetry
}

// recover opens the device if it is not open, reads its last line, and writes a line with the
// reason. Then the device is up.
func (w *writer) recover(ctx context.Context, reason string) error {
	err := w.resume(ctx, reason)
	if err != nil {
		w.metrics.Failures.Add(1)
		w.queue.setDown(err)
		w.wait = min(2*w.wait, lastRetry)
		return err
	}
	w.wait = firstRetry
	if w.queue.setDown(nil) != nil && reason == "recovered" {
		w.log.Info("audit device works again")
	}
	return nil
}

func (w *writer) resume(ctx context.Context, reason string) error {
	if w.dev == nil {
		dev, err := w.spec.Type.Open(Config{
			Path: w.spec.Path, Options: w.options, StorageDir: w.broker.StorageDir, Folders: w.broker.Folders,
		})
		if err != nil {
			return err
		}
		w.dev = dev
	}
	if _, err := w.resync(ctx); err != nil {
		return err
	}
	return w.announce(ctx, reason)
}

// resync reads the end of the device. Its last line may be later than the last that succeeded,
// because a write that failed may have written it; then the chain continues from there. A new or
// shortened file is behind the chain, which continues nevertheless, so that the gap is visible.
func (w *writer) resync(ctx context.Context) (Tail, error) {
	var tail Tail
	err := w.watched(ctx, func(context.Context) (err error) {
		tail, err = w.dev.Tail()
		return err
	})
	if err != nil {
		return tail, w.fault(err, "reading its last line")
	}
	if at, ok := ParseLine(tail.Line); ok && at.Sequence > w.at.Sequence {
		w.at = at
	}
	w.torn = tail.Torn
	if tail.Torn > 0 {
		w.metrics.Torn.Add(1)
		w.log.Warn("audit device ended in a torn line", "bytes", tail.Torn)
	}
	return tail, nil
}

// announce writes a line that says why the device was opened ("enabled", "started", "reopened" or
// "recovered"), and how many lines it has missed.
func (w *writer) announce(ctx context.Context, reason string) error {
	missed := w.metrics.Missed.Load()
	detail := Detail{"reason": reason}
	if missed > w.missed {
		detail["missed"] = strconv.FormatUint(missed-w.missed, 10)
	}
	a := Action{ID: newID(), Actor: ActorAudit, Operation: "open", Path: "sys/audit/" + w.spec.Path, Detail: detail}
	b := new(batch)
	b.text = w.lines.entry(nil, a.Request(time.Now()))
	b.ends = []int{len(b.text)}
	b.hash()
	next := w.link(b)
	if err := w.write(ctx, w.out); err != nil {
		return w.fault(err, "writing")
	}
	w.advance(next, 1)
	w.missed = missed
	return nil
}

// reopen reopens the device. A new file begins with a line of the server's, so that the chain can
// continue from it after a restart.
func (w *writer) reopen(ctx context.Context) error {
	if w.dev == nil || !w.queue.up() {
		return nil // the next probe opens it
	}
	err := w.watched(ctx, func(context.Context) error { return w.dev.Reopen() })
	if err == nil {
		var tail Tail
		if tail, err = w.resync(ctx); err == nil && tail.Line == nil {
			err = w.announce(ctx, "reopened")
		}
	}
	if err != nil {
		w.failed(err)
		return w.fault(err, "reopening")
	}
	return nil
}

func (w *writer) fault(err error, doing string) error {
	return fmt.Errorf("audit device %s: %s: %w", w.spec.Path, doing, err)
}

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
