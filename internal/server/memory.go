package server

import (
	"os"
	"runtime"
	"runtime/debug"
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

// paceCollector does so until the function that it returns is called. Who sets GOGC or GOMEMLIMIT
// knows better.
func paceCollector() (restore func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	block := make([]byte, untouched)
	before := debug.SetGCPercent(sharePercent)
	return func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(block)
	}
}
