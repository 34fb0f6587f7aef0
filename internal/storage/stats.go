package storage

import (
	"slices"
	"sync/atomic"
	"time"
)

// A Meter is a Store that counts what it does. Who shows metrics asks once,
// when the store is opened, whether it is one.
type Meter interface {
	// Stats returns the counts since the store was opened. It is cheap enough
	// for a scrape, not for a request.
	Stats() Stats
}

// Stats are counts of one store since it was opened. What a driver has not, is
// zero.
type Stats struct {
	Commits   uint64 // succeeded
	Conflicts uint64
	Failed    uint64 // neither: full, failed, given up by the caller

	// CommitSeconds is how long Commit took, of those that succeeded.
	CommitSeconds Histogram

	DiskBytes uint64 // what the store occupies
	FreeBytes uint64 // what is left beside it; 0 where it cannot be told
	Full      bool   // writes are refused for want of space

	Reopened    uint64 // after a write to the medium failed
	Abandoned   uint64 // handles that could not be closed after such a failure
	Corruptions uint64 // blocks whose checksum was wrong
	Refusing    bool   // nothing is served: a failed write, not yet reopened
}

// A Histogram counts durations. Counts[i] are those of at most Bounds[i]
// seconds and more than Bounds[i-1]; the last of Counts has no bound.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// commitBounds spread from a commit on a fast disk, which takes some ten
// microseconds of it, to the deadline of a request.
var commitBounds = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// A Recorder gathers the part of [Stats] that all drivers count alike. The
// zero value is ready; all methods are safe for concurrent use.
type Recorder struct {
	conflicts, failed atomic.Uint64
	counts            [len(commitBounds) + 1]atomic.Uint64
	nanos             atomic.Int64
}

// Committed counts a commit that took d.
func (r *Recorder) Committed(d time.Duration) {
	i, _ := slices.BinarySearch(commitBounds[:], d.Seconds())
	r.counts[i].Add(1)
	r.nanos.Add(int64(d))
}

// Conflict counts a commit whose assertion did not hold.
func (r *Recorder) Conflict() { r.conflicts.Add(1) }

// Failed counts a commit that failed otherwise.
func (r *Recorder) Failed() { r.failed.Add(1) }

// Stats returns what was counted.
func (r *Recorder) Stats() Stats {
	s := Stats{
		Conflicts: r.conflicts.Load(),
		Failed:    r.failed.Load(),
		CommitSeconds: Histogram{
			Bounds: commitBounds[:],
			Counts: make([]uint64, len(r.counts)),
			Sum:    time.Duration(r.nanos.Load()).Seconds(),
		},
	}
	for i := range r.counts {
		s.CommitSeconds.Counts[i] = r.counts[i].Load()
		s.Commits += s.CommitSeconds.Counts[i]
	}
	return s
}
