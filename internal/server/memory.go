package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector runs whenever the heap has grown by a share of what is in use. A server that
// keeps its data on disk has little in use, and would collect many times a second; one whose cache
// has filled would let a multiple of that pile up. So the heap begins with a block that is never
// touched – it costs address space, and no memory – and the share is small: about forty megabytes of
// garbage then pile up between two runs, with few leases and with millions.
// docs/decisions/0013-performance.md has what that gained.
const (
	untouched    = 256 << 20
	sharePercent = 15
)

// paceCollector does so, and gives memory back to the system when nothing happens any more, until the
// function that it returns is called. Who sets GOGC or GOMEMLIMIT knows better.
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

// A server is at rest when it allocates less than restBytes in restFor. What it has allocated since
// it last gave memory back must be worth the work.
const (
	restFor   = 2 * time.Second
	restBytes = 1 << 20
	worthIt   = 8 << 20
)

// giveBack has the garbage collected, and its memory given to the system, each time that the server
// comes to rest. It returns when quit is closed.
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
