package kv

import (
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// Limits of the ttl in answers.
const (
	defaultReadTTL = time.Minute
	maxReadTTL     = 300 * time.Second
)

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
