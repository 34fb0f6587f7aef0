package wire

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxDuration is the longest text in bytes that is read as a duration.
const MaxDuration = 128

var errDuration = errors.New(`want a duration such as "1h30m" or a number of seconds, not negative`)

var errLongDuration = errors.New(`want a duration of at most 2562047h (292 years); give a shorter one`)

// ParseDuration reads a duration as Vault's clients write it: whole seconds
// ("3600"), Go's form ("1h30m"), or days ("7d", "1d12h"). It refuses negative
// ones and what does not fit 292 years. "" is 0.
func ParseDuration(s string) (time.Duration, error) {
	if len(s) > MaxDuration {
		return 0, errDuration
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(n) || n < 0 {
			return 0, errDuration
		} else if n*1e9 >= 1<<63 { // as a float, 1<<63 - 1 is 1<<63
			return 0, errLongDuration
		}
		return time.Duration(n * 1e9), nil
	} else if errors.Is(err, strconv.ErrRange) && n > 0 {
		return 0, errLongDuration
	}
	var days time.Duration
	if i := strings.IndexByte(s, 'd'); i > 0 {
		n, err := strconv.ParseInt(s[:i], 10, 32)
		if n > 100_000 || errors.Is(err, strconv.ErrRange) && n > 0 {
			return 0, errLongDuration
		}
		if err != nil || n < 0 {
			return 0, errDuration
		}
		days, s = time.Duration(n)*24*time.Hour, s[i+1:]
		if s == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && tooLong(s), err == nil && d >= 0 && days > math.MaxInt64-d:
		return 0, errLongDuration
	case err != nil || d < 0:
		return 0, errDuration
	}
	return days + d, nil
}

// tooLong reports whether a text of Go's form, which [time.ParseDuration] refuses, is one that
// would do if it were shorter.
func tooLong(s string) bool {
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789."))
		unit := strings.TrimLeft(s, "0123456789.")
		unit = unit[:len(unit)-len(strings.TrimLeft(unit, "hmsuµn"))]
		if digits == 0 || !slices.Contains([]string{"h", "m", "s", "ms", "us", "µs", "ns"}, unit) ||
			strings.Count(s[:digits], ".") > 1 {
			return false
		}
		s = s[digits+len(unit):]
	}
	return true
}

// Seconds is d in whole seconds, rounded down, because clients rely on every second of a lease.
// Less than one second is 1, because a TTL of 0 means no end in Vault's API.
func Seconds(d time.Duration) int64 {
	if d > 0 && d < time.Second {
		return 1
	}
	return int64(d / time.Second)
}
