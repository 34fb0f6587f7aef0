package core

import (
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/due"
)

// LatenessBounds are the upper bounds of the buckets of [Stats.Lateness], in seconds. One more
// bucket counts the rest.
var LatenessBounds = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// Stats are counts for metrics. None of them costs a scan.
type Stats struct {
	Unsealed      bool
	Leases        int64
	Undone        int64
	UndoFailures  int64
	UndoWaiting   int64
	Lateness      []int64 // by LatenessBounds, not cumulative
	LatenessSum   time.Duration
	LatenessCount int64
	ClockHeld     bool
	Audit         []audit.Status
}

// lateness is a histogram of how late the work on due items began. Safe for concurrent use.
type lateness struct {
	mu      sync.Mutex // guards the rest
	buckets []int64    // by LatenessBounds, not cumulative
	sum     time.Duration
	count   int64
}

func newLateness() *lateness { return &lateness{buckets: make([]int64, len(LatenessBounds)+1)} }

// observe counts an item whose work began late by the given time.
func (l *lateness) observe(_ due.Item, by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for i < len(LatenessBounds) && by.Seconds() > LatenessBounds[i] {
		i++
	}
	l.buckets[i]++
	l.sum += by
	l.count++
}

func (l *lateness) addTo(s *Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Lateness = append(s.Lateness, l.buckets...)
	s.LatenessSum, s.LatenessCount = l.sum, l.count
}
