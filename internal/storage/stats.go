package storage

import (
	"slices"
	"sync/atomic"
	"time"
)

// A Meter is a Store with counts for metrics. Whether a store is a Meter is checked once, when it
// is opened.
type Meter interface {
	// Stats returns the counts since the store was opened. It is cheap enough for a scrape, but
	// not for a request.
	Stats() Stats
}

// Stats are counts of one store since it was opened. Counts that a driver does not have are zero.
type Stats struct {
	Commits   uint64 // succeeded
	Conflicts uint64
	Failed    uint64 // neither: full, failed, cancelled by the caller

	// CommitSeconds are the durations of successful commits.
	CommitSeconds Histogram

	DiskBytes uint64 // used by the store
	FreeBytes uint64 // free on the medium; 0: unknown
	Full      bool   // writes are refused because space is low

	Reopened    uint64 // after a write to the medium failed
	Abandoned   uint64 // handles that could not be closed after such a failure
	Corruptions uint64 // blocks whose checksum was wrong
	Refusing    bool   // every call fails: not yet reopened after a failed write
}

// A Histogram counts durations. Counts[i] is the number of those of at most Bounds[i] seconds and
// more than Bounds[i-1]; the last of Counts has no upper bound.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// commitBounds range from a commit on a fast disk to the deadline of a request.
var commitBounds = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// A Recorder counts the part of [Stats] that is the same for all drivers. The zero value is ready
// to use. Safe for concurrent use.
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

// Conflict counts a commit with a failed assertion.
func (r *Recorder) Conflict() { r.conflicts.Add(1) }

// Failed counts a commit that failed otherwise.
func (r *Recorder) Failed() { r.failed.Add(1) }

// Stats returns the counts.
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
