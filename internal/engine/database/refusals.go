package database

import (
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

// refusals remembers rotations in flight whose new password the database has refused, so that the
// previous one is in force. It keeps each use of the user from testing the new password again.
// The zero value remembers none.
type refusals struct {
	mu       sync.Mutex // guards the rest
	byRecord map[string]refusal
}

type refusal struct {
	rotation uint32
	times    int
	at       time.Time
}

// A refusal counts for a short while, because the change may still take effect, and for longer
// each time that it is seen again, because databases lock accounts after some refused logins. It
// expires sooner when the previous password fails.
const (
	refusalCounts        = 10 * time.Second
	refusalCountsLongest = time.Hour
	refusalCheckedAfter  = 5 * time.Minute
)

// recent reports whether the new password of this rotation was refused recently.
func (s *refusals) recent(record string, rotation uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byRecord[record]
	return r.rotation == rotation && r.times > 0 &&
		time.Since(r.at) < cron.Backoff(r.times, refusalCounts, refusalCountsLongest)
}

// add remembers a refusal. Rotation 0 means that no rotation is in flight, and forgets the record.
func (s *refusals) add(record string, rotation uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rotation == 0 {
		delete(s.byRecord, record)
		return
	}
	if s.byRecord == nil {
		s.byRecord = map[string]refusal{}
	}
	times := 1
	if r := s.byRecord[record]; r.rotation == rotation {
		times += r.times
	}
	s.byRecord[record] = refusal{rotation: rotation, times: times, at: time.Now()}
}

// expire makes the next use test the new password again, unless it was tested a short while ago.
func (s *refusals) expire(record string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byRecord[record]
	if ok && (r.times == 1 || time.Since(r.at) >= cron.Backoff(r.times, refusalCounts, refusalCheckedAfter)) {
		r.at = time.Time{}
		s.byRecord[record] = r
	}
}
