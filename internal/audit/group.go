package audit

import (
	"errors"
	"sync"
	"sync/atomic"
)

// A group is the lines of one call, rendered for one device.
type group struct {
	text []byte
	ends []int     // where each line ends in text
	sums []*digest // of each line
}

// hash begins the hashes of the lines.
func (g *group) hash() {
	from := 0
	for _, end := range g.ends {
		g.sums = append(g.sums, begin(g.text[from:end]))
		from = end
	}
}

// maxPooled is the size above which a buffer is not reused, so that a huge answer does not stay in
// memory.
const maxPooled = 1 << 20

var groups = sync.Pool{New: func() any { return new(group) }}

// A tally counts the devices that have written the lines of one call.
type tally struct {
	done chan struct{} // closed when one device has written, or all have failed
	ok   atomic.Bool
	gone atomic.Bool // a device was disabled meanwhile

	mu      sync.Mutex // guards:
	pending int        // devices without a result
	closed  bool
	causes  []error
}

func newTally(devices int) *tally { return &tally{done: make(chan struct{}), pending: devices} }

func (t *tally) report(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending--
	switch {
	case err == nil:
		t.ok.Store(true)
	case errors.Is(err, errStopped):
		t.gone.Store(true)
	default:
		t.causes = append(t.causes, err)
	}
	if !t.closed && (err == nil || t.pending == 0) {
		t.closed = true
		close(t.done)
	}
}

func (t *tally) written() bool { return t.ok.Load() }

func (t *tally) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.causes) == 0 {
		return errStopped
	}
	return errors.Join(t.causes...)
}

var (
	errStopped = errors.New("the device was disabled")
	errSlow    = errors.New("the device did not answer in time")
	errFull    = errors.New("too much waits for the device")
)
