package audit

import "sync"

// maxWaiting limits the bytes that wait for a slow device while another one is fast.
const maxWaiting = 64 << 20

// A queue has the lines that wait for one device, and the device's state as its callers see it.
type queue struct {
	metrics *Metrics
	wake    chan struct{} // signals that lines are waiting

	mu       sync.Mutex // guards:
	waiting  *batch     // the next write; nil: nothing waits
	current  *batch     // being written
	spare    []*batch   // whose buffers are reused
	down     error      // why the device is failing; nil: it works
	stopped  bool
	position Position // of the last line that was written
	calls    uint64   // number of beginnings and ends of calls of the device
	late     bool     // the current call has timed out
}

// A batch is the lines of one write.
type batch struct {
	group
	tallies []*tally
}

// up reports whether the device takes lines.
func (q *queue) up() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.down == nil && !q.stopped
}

// state returns the position, and why the device is failing.
func (q *queue) state() (Position, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.position, q.down
}

// stop refuses further lines, and reports whether it had not done so before.
func (q *queue) stop() (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first, q.stopped = !q.stopped, true
	return first
}

// enqueue adds the lines of one call to the waiting batch. The tally gets one result, from here or
// from the writer.
func (q *queue) enqueue(g *group, t *tally) {
	if err := q.join(g, t); err != nil {
		q.metrics.Missed.Add(uint64(len(g.ends)))
		t.report(err)
	}
}

func (q *queue) join(g *group, t *tally) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopped:
		return errStopped
	case q.down != nil:
		return q.down
	}
	b := q.waiting
	if b == nil {
		if n := len(q.spare); n > 0 {
			b, q.spare = q.spare[n-1], q.spare[:n-1]
		} else {
			b = new(batch)
		}
		q.waiting = b
		select {
		case q.wake <- struct{}{}:
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
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current, q.waiting = q.waiting, nil
	return q.current
}

// written moves the position.
func (q *queue) written(to Position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.position = to
}

// succeed reports to the tallies of the current batch that it was written, and keeps its buffers
// for the next one.
func (q *queue) succeed(b *batch) {
	q.mu.Lock()
	q.current = nil
	q.mu.Unlock()
	for _, t := range b.tallies {
		t.report(nil)
	}
	if cap(b.text) > 4*maxPooled {
		return
	}
	clear(b.tallies)
	clear(b.sums)
	b.text, b.ends, b.sums, b.tallies = b.text[:0], b.ends[:0], b.sums[:0], b.tallies[:0]
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = append(q.spare, b) // at most two, because one is written while another waits
}

// failAll reports to all tallies that their lines were not written.
func (q *queue) failAll(err error) {
	q.mu.Lock()
	tallies := q.takeAll()
	q.mu.Unlock()
	for _, t := range tallies {
		t.report(err)
	}
}

// takeAll removes and returns the tallies of the waiting and the current batch, which get no other
// result. The caller holds mu.
func (q *queue) takeAll() []*tally {
	var all []*tally
	for _, b := range []*batch{q.current, q.waiting} {
		if b != nil {
			all = append(all, b.tallies...)
			q.metrics.Missed.Add(uint64(len(b.ends)))
		}
	}
	q.current, q.waiting = nil, nil
	return all
}

// beginCall numbers a call of the device, for giveUp.
func (q *queue) beginCall() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls++
	q.late = false
	return q.calls
}

// endCall reports whether the call had timed out before it returned.
func (q *queue) endCall() (late bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls++
	return q.late
}

// giveUp reports a timeout to all tallies, unless call number n has returned meanwhile. It returns
// whether it did.
func (q *queue) giveUp(n uint64) bool {
	q.mu.Lock()
	if q.calls != n {
		q.mu.Unlock()
		return false
	}
	q.late, q.down = true, errSlow
	tallies := q.takeAll()
	q.mu.Unlock()
	for _, t := range tallies {
		t.report(errSlow)
	}
	return true
}

// setDown marks the device failing, or working again for a nil err.
func (q *queue) setDown(err error) (before error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before, q.down = q.down, err
	return before
}
