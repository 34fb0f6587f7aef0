package server

import (
	"os"
	"runtime"
)

// The goroutines that write the audit file and the store's log, or merge tables, are in blocking
// system calls, in which they keep one of the GOMAXPROCS places: with two processors and two
// places, one processor is idle while the other place waits for the disk. With more places than
// processors, the system's scheduler, which knows which threads block, chooses; a goroutine that
// has received a reply then also runs at once, not after the ten milliseconds that a busy
// goroutine may take. docs/decisions/0013-performance.md has what that gained.
const spare = 2

// spareProcessors raises GOMAXPROCS until the returned function is called. It does nothing if
// GOMAXPROCS is set.
func spareProcessors() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + spare)
	return func() { runtime.GOMAXPROCS(before) }
}
