package audit

import (
	"sync/atomic"
)

// Metrics count what one device has done since it was enabled. They live on
// when a device fails and comes back.
type Metrics struct {
	Lines    atomic.Uint64 // written
	Bytes    atomic.Uint64 // written
	Writes   atomic.Uint64 // calls of the device; lines divided by writes is the size of a group
	Failures atomic.Uint64 // writes, and attempts to open, that failed or were given up
	Missed   atomic.Uint64 // lines that this device did not get
	Torn     atomic.Uint64 // times that a torn line was found and ended
}

// A Status is one device as it stands now.
type Status struct {
	Path     string
	Type     string
	Up       bool
	Cause    string // why it is down; for operators
	Position Position
	Metrics  *Metrics
}
