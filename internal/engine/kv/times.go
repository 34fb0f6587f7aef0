package kv

import (
	"bytes"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// Limits of the ttl in answers.
const (
	defaultReadTTL = time.Minute
	maxReadTTL     = 300 * time.Second
)

// rotationTimes reads rotated_at and next_rotation from the data or, if absent, from the custom
// metadata. It ignores values that are not times.
func rotationTimes(data []byte, custom map[string]string) (rotated, next time.Time) {
	read := func(name string) time.Time {
		text := custom[name]
		if bytes.Contains(data, []byte(name)) {
			if s := fieldText(data, name); s != "" {
				text = s
			}
		}
		if text == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, text)
		if t = t.UTC(); err != nil || t.Year() < 0 || t.Year() > 9999 { // RFC 3339 cannot express it
			return time.Time{}
		}
		return t
	}
	return read("rotated_at"), read("next_rotation")
}

// nextOf is the next_rotation of a record whose custom metadata has changed.
func nextOf(m *record) time.Time {
	if ver := m.find(0); ver != nil && !ver.Next.IsZero() {
		return ver.Next
	}
	_, next := rotationTimes(nil, m.Custom)
	return next
}

// hints returns when agents should read again. Unmodified agents sleep for ttl, and cannot be
// woken. It is at least 1, and reduced by a random tenth, so that not all readers come at once.
func hints(ver *version, now time.Time) (period, ttl int64) {
	if ver.Turn == nil {
		return 0, 0
	}
	read := ver.Turn.ReadTTL
	if read <= 0 {
		read = defaultReadTTL
	}
	left := min(read, maxReadTTL)
	if !ver.Next.IsZero() {
		left = min(left, max(ver.Next.Sub(now), 0))
	}
	left -= time.Duration(rand.Int64N(int64(left)/10 + 1))
	return max(wire.Seconds(ver.Turn.Period), 1), max(int64(left/time.Second), 1)
}
