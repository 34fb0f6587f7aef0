package rotate

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// A census holds the standing of each record of the mount, so that metrics cost no scan. Commits
// of this process update the census at once. A slow walk, after the start and every hour, finds
// what was stored before or by another server of the same store.
type census struct {
	mu     sync.Mutex           // guards the rest
	all    map[string]*standing // by the key of the record's row
	order  []*standing          // all, those known longest first, and some that are gone
	walk   uint64               // number of the present walk
	failed map[FailedStep]int64
	missed int64 // rotations whose window was over
}

// A standing is what metrics report about one record. Standings are small, because there may be
// many.
type standing struct {
	version   storage.Version // of the row that it was made of
	walk      uint64          // the last one that has found the row
	key       string          // of the row
	path      string          // below the mount
	state     State
	since     int64 // Unix seconds: the credential is current; 0: there is none
	next, due int64 // Unix seconds; 0: none
	failures  int
	attempts  int
	published bool // the rotation in flight is
	alert     bool
	paused    bool
	gone      bool // the record is deleted
}

// unreadable is the state of a record whose row is damaged.
const unreadable State = "unreadable"

func newCensus() *census {
	return &census{all: map[string]*standing{}, failed: map[FailedStep]int64{}}
}

// seconds converts a time to Unix seconds; 0 for none.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// standingOf returns the standing of a record.
func standingOf(k *Kind, r *Record) standing {
	s := standing{
		path: k.Path(requestName(k, r)), state: r.State(), next: seconds(r.Next), due: seconds(r.NextStep()),
		failures: r.Failures, published: r.published(), alert: r.Alert != nil, paused: r.Paused != nil,
	}
	if r.Current != nil {
		s.since = seconds(later(r.Current.At, r.LastRotated))
	}
	if r.Turn != nil {
		s.attempts = r.Turn.Tries
	}
	return s
}

// set stores the standing of a record as of version v of its row. A known later version stays,
// unless the row has been damaged since: a damaged row has no readable version.
func (c *census) set(k *Kind, name string, v storage.Version, s standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := k.Records + name
	known := c.all[key]
	switch {
	case known == nil:
		known = new(standing)
		c.all[key], c.order = known, append(c.order, known)
	case known.version > v && s.state != unreadable:
		return
	}
	s.version, s.walk, s.key = v, c.walk, key
	*known = s
}

// drop removes a deleted record.
func (c *census) drop(k *Kind, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.all[k.Records+name]; s != nil {
		s.gone = true
		delete(c.all, k.Records+name)
	}
	if len(c.order) > 2*len(c.all) {
		c.order = slices.DeleteFunc(c.order, func(s *standing) bool { return s.gone })
	}
}

func (c *census) countFailed(step State, class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[FailedStep{step, class}]++
}

// countMissed counts a rotation that missed its window.
func (c *census) countMissed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed++
}

// seen reports whether the census has version v of a row, and marks the row as found by the
// walk.
func (c *census) seen(key string, v storage.Version) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.all[key]
	if s != nil {
		s.walk = c.walk
	}
	return s != nil && s.version == v
}

func (c *census) beginWalk() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.walk++
}

// missing returns the keys of the known rows of a kind that the walk has not found.
func (c *census) missing(k *Kind) (keys []string) {
	c.mu.Lock()
	walk := c.walk
	c.mu.Unlock()
	for some := range c.chunks() {
		for i := range some {
			if s := &some[i]; s.walk != walk && strings.HasPrefix(s.key, k.Records) {
				keys = append(keys, s.key)
			}
		}
	}
	return keys
}

// chunkOf is how many standings are copied at once, with the lock held.
const chunkOf = 1024

// chunks yields copies of all standings that are not gone, in order. chunks copies one chunk at a
// time, because every commit of a rotation waits for the lock, and there may be a million
// standings. A chunk is valid until the next one.
func (c *census) chunks() iter.Seq[[]standing] {
	return func(yield func([]standing) bool) {
		c.mu.Lock()
		order := slices.Clone(c.order)
		c.mu.Unlock()
		some := make([]standing, 0, min(chunkOf, len(order)))
		for part := range slices.Chunk(order, chunkOf) {
			some = some[:0]
			c.mu.Lock()
			for _, s := range part {
				if !s.gone {
					some = append(some, *s)
				}
			}
			c.mu.Unlock()
			if !yield(some) {
				return
			}
		}
	}
}

// Pauses of walks: between two walks, after a walk that a storage error has ended, and after
// every walkRows rows of a walk.
const (
	walkEvery = time.Hour
	walkAgain = time.Minute
	walkPace  = 5 * time.Millisecond
	walkRows  = 1000
)

// A FailedStep is a failed step and the class of its error: the name of an [Outcome], or "server"
// if the error did not come from the provider.
type FailedStep struct {
	Step  State
	Class string
}

// classServer is the class of errors on this side: of the store or the audit devices.
const classServer = "server"

// overdueAfter is how late a rotation may publish before it counts as overdue, because settling
// takes time.
const overdueAfter = 10 * time.Minute
