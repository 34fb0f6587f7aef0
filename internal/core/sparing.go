package core

import (
	"sync"
	"time"
)

// sparing keeps a log readable while the same thing fails over and over: of each lane of the due
// index the first failure is told at once, and then one a minute, with how many were left out. Each
// lease and each key keeps its own last error anyway. Its zero value is ready.
type sparing struct {
	mu    sync.Mutex // guards lanes
	lanes map[string]*told
}

type told struct {
	at  time.Time
	out int // left out since
}

const (
	tellEvery = time.Minute
	mostTold  = 4096 // lanes; what is forgotten is told once more
)

// tell reports whether a failure in a lane is to be logged now, and how many were not.
func (s *sparing) tell(lane string, now time.Time) (leftOut int, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.lanes[lane]
	if t != nil && now.Sub(t.at) < tellEvery {
		t.out++
		return 0, false
	}
	if s.lanes == nil || t == nil && len(s.lanes) >= mostTold {
		s.lanes = map[string]*told{}
	}
	if t != nil {
		leftOut = t.out
	}
	s.lanes[lane] = &told{at: now}
	return leftOut, true
}
