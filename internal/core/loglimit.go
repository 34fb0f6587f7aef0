package core

import (
	"sync"
	"time"
)

// A logLimiter keeps the log readable while the same work fails over and over. It lets through the
// first failure of each lane of the due index, and then one a minute together with the number of
// failures that were left out. Every lease and key stores its own last error anyway. The zero
// value is ready to use.
type logLimiter struct {
	mu    sync.Mutex // guards lanes
	lanes map[string]*lastLogged
}

// lastLogged is when a lane was logged last, and how many failures were left out since.
type lastLogged struct {
	at      time.Time
	leftOut int
}

const (
	logEvery        = time.Minute
	maxLimitedLanes = 4096 // above it, all lanes are forgotten and logged once more
)

// allow reports whether to log a failure in a lane now, and how many failures were left out before
// it.
func (l *logLimiter) allow(lane string, now time.Time) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.lanes[lane]
	if last != nil && now.Sub(last.at) < logEvery {
		last.leftOut++
		return 0, false
	}
	if l.lanes == nil || last == nil && len(l.lanes) >= maxLimitedLanes {
		l.lanes = map[string]*lastLogged{}
	}
	if last != nil {
		leftOut = last.leftOut
	}
	l.lanes[lane] = &lastLogged{at: now}
	return leftOut, true
}
