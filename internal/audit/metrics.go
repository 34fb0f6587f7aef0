package audit

import (
	"sync/atomic"
)

// Metrics are counts of one device since it was enabled. They continue when the device fails and
// recovers.
type Metrics struct {
	Lines    atomic.Uint64 // written
	Bytes    atomic.Uint64 // written
	Writes   atomic.Uint64 // calls of the device; lines divided by writes is the size of a group
	Failures atomic.Uint64 // writes, and attempts to open, that failed or timed out
	Missed   atomic.Uint64 // lines that this device did not get
	Torn     atomic.Uint64 // torn lines that were found and ended
}

// A Status is the current state of one device.
type Status struct {
	Path     string
	Type     string
	Up       bool
	Cause    string // why it is down; for operators
	Position Position
	Metrics  *Metrics
}
