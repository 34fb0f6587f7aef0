package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector runs when the heap has grown by a share of its live size. A server that
// stores its data on disk has a small live heap, and would collect many times a second; one with a
// full cache would collect much garbage first. Therefore the heap begins with a block that is
// never touched, which costs address space but no memory, and the share is small: about forty
// megabytes of garbage accumulate between two runs, with few leases and with millions.
// docs/decisions/0013-performance.md has what that gained.
const (
	untouched    = 256 << 20
	sharePercent = 15
)

// paceCollector does that, and returns memory to the system when the server is idle, until the
// returned function is called. It does nothing if GOGC or GOMEMLIMIT is set.
func paceCollector() (restore func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	block := make([]byte, untouched)
	before := debug.SetGCPercent(sharePercent)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		giveBack(quit)
	}()
	return func() {
		close(quit)
		<-done
		debug.SetGCPercent(before)
		runtime.KeepAlive(block)
	}
}

// A server is idle if it allocates less than restBytes in restFor. Memory is returned only if
// enough was allocated since the last time.
const (
	restFor   = 2 * time.Second
	restBytes = 1 << 20
	worthIt   = 8 << 20
)

// giveBack collects the garbage and returns its memory to the system each time that the server
// becomes idle, until quit is closed.
func giveBack(quit <-chan struct{}) {
	tick := time.NewTicker(restFor)
	defer tick.Stop()
	last, given := allocated(), uint64(0)
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		now := allocated()
		if now-last < restBytes && now-given > worthIt {
			debug.FreeOSMemory()
			given = now
		}
		last = now
	}
}

// allocated is how many bytes the process has allocated in its life.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
