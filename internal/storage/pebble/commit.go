package pebble

import (
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
)

// commitLoop is the committer: the only goroutine that assigns numbers, and calls Pebble to write.
func (h *handle) commitLoop() {
	defer close(h.syncing)
	for {
		// Let other callers add their requests to the same sync.
		runtime.Gosched()
		requests, last := h.take()
		if last {
			return
		}
		if len(requests) == 0 {
			select {
			case <-h.queued:
			case <-h.dead:
				return
			}
			continue
		}
		g := h.apply(requests)
		if g == nil {
			return
		}
		g.eachEntry(h.rows.changed)
		for _, r := range requests {
			h.latches.unlock(r.claims)
		}
		select {
		case h.syncing <- g:
		case <-h.dead:
			return
		}
	}
}

// apply numbers the requests and passes them to Pebble; nil: the handle is dead, and only its
// successor may assign numbers.
func (h *handle) apply(requests []*request) (g *group) {
	h.applying.Lock()
	defer h.applying.Unlock()
	if h.isDead() {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			h.poison(fmt.Errorf("applying a batch: panic: %v", p))
			g = nil
		}
	}()
	g = newGroup(h.db, h.numbers, requests)
	if err := h.db.ApplyNoSyncWait(g.batch, pebble.Sync); err != nil {
		h.poison(fmt.Errorf("applying a batch: %w", err))
		return nil
	}
	return g
}

// syncLoop is the syncer: it answers requests in order, when they are on the disk.
func (h *handle) syncLoop() {
	defer close(h.synced)
	for g := range h.syncing {
		if err := g.batch.SyncWait(); err != nil {
			h.poison(fmt.Errorf("syncing the log: %w", err))
			return
		}
		h.end.note(g.last)
		if !h.publish(g) {
			return
		}
		for _, r := range g.requests {
			close(r.done)
		}
		must(g.batch.Close())
	}
}
