package server

import (
	"os"
	"runtime"
)

// The writers of the audit file and of the store's log, and whoever merges tables, sit in calls of the
// system that block, and a goroutine in one of those keeps a place among those that run: with two processors and two
// places, one of them stands idle while half of the server waits for the other's disk. More places than
// processors let the system's scheduler, which knows who blocks, choose; what has waited for a reply then also runs at
// once, and not after the ten milliseconds that a busy goroutine may take.
// docs/decisions/0013-performance.md has what that gained.
const spare = 2

// spareProcessors makes the places, until the function that it returns is called. Who sets GOMAXPROCS knows better.
func spareProcessors() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + spare)
	return func() { runtime.GOMAXPROCS(before) }
}
