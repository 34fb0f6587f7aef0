package pebble

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A handle is the folder opened once. It dies at the first failed write and is
// never used again.
type handle struct {
	db      *pebble.DB
	gate    *gate
	latches latches
	rows    *rows

	numbers *numbers
	end     *logEnd

	poison  func(cause error) // ends the handle
	publish func(*group) bool // makes a durable group visible; false: the handle is dead

	dead    chan struct{} // closed by poison
	use     sync.RWMutex  // readers lock it shared, closing db exclusively
	queued  chan struct{} // something is in queue, or draining
	syncing chan *group
	synced  chan struct{} // closed when the syncer has ended

	// applying is locked while Pebble applies a batch, also by a committer that is stuck or parked
	// in it.
	applying sync.Mutex

	qmu      sync.Mutex
	queue    []*request
	draining bool
}

func (h *handle) isDead() bool { return isClosed(h.dead) }

// acquire keeps the handle open until h.use.RUnlock, and reports whether it lives. It does not
// wait for a dead handle that is being closed, because that may never end.
func (h *handle) acquire() bool {
	if !h.use.TryRLock() {
		return false
	}
	if h.isDead() {
		h.use.RUnlock()
		return false
	}
	return true
}

// drain waits until the requests in the queue are done, and accepts no others.
func (h *handle) drain() {
	h.qmu.Lock()
	h.draining = true
	h.qmu.Unlock()
	select {
	case h.queued <- struct{}{}:
	default:
	}
	select {
	case <-h.synced:
	case <-h.dead:
	}
}

// submit queues r for the committer; false if the handle takes no more.
func (h *handle) submit(r *request) bool {
	h.qmu.Lock()
	defer h.qmu.Unlock()
	if h.draining || h.isDead() {
		return false
	}
	h.queue = append(h.queue, r)
	select {
	case h.queued <- struct{}{}:
	default:
	}
	return true
}

// take returns the next group of requests; last: no more will follow.
func (h *handle) take() (group []*request, last bool) {
	h.qmu.Lock()
	defer h.qmu.Unlock()
	n, size := 0, 0
	for n < len(h.queue) && n < groupRequests && (n == 0 || size+h.queue[n].size <= groupBytes) {
		size += h.queue[n].size
		n++
	}
	group = h.queue[:n:n]
	h.queue = h.queue[n:]
	return group, h.draining && len(group) == 0
}
