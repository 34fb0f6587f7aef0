// Package schedule decides when a key turns and how long the one before it
// lives on. It is pure: times go in, times come out, and what is stored is
// always an absolute time, so that a key that was skipped, paused or upgraded is
// never due because something was zero.
package schedule

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/rotate"
)

// Defaults and bounds of a [Policy].
const (
	// DefaultGrace gives a weekend's deployment that missed the new key two
	// days. Longer would keep two keys alive for much of a low-risk key's life.
	DefaultGrace = 48 * time.Hour
	// DefaultReadTTL is how long a reader sleeps at most before it reads again.
	DefaultReadTTL = time.Minute
	MaxReadTTL     = 300 * time.Second
	// DefaultIdle is how long an old key must be unused before it is retired.
	// Providers tell of uses up to an hour late.
	DefaultIdle = time.Hour
	// DefaultMaxHold is how long the use of an old key keeps it alive before a
	// person is called.
	DefaultMaxHold = 7 * 24 * time.Hour
	// MinPeriod keeps a typing error from turning a key each second.
	MinPeriod = time.Minute
)

// A Class is a kind of key, by what its loss would cost.
type Class string

// The classes.
const (
	Financial Class = "financial"
	Standard  Class = "standard"
	LowRisk   Class = "low-risk"
)

const day = 24 * time.Hour

// Period is the default period of a class; false where there is no such class.
func (c Class) Period() (time.Duration, bool) {
	switch c {
	case Financial:
		return 30 * day, true
	case Standard:
		return 60 * day, true
	case LowRisk:
		return 90 * day, true
	}
	return 0, false
}

// A Policy is a key's timing. Its zero fields mean the default.
type Policy struct {
	Class   Class         `json:"class"`
	Period  time.Duration `json:"period"`
	Grace   time.Duration `json:"grace"`
	ReadTTL time.Duration `json:"read_ttl"`
	Idle    time.Duration `json:"idle"`
	MaxHold time.Duration `json:"max_hold"`
}

// Complete fills in defaults, base first. The read TTL's default shrinks with
// a short grace; what was said is never changed.
func (p Policy) Complete(base Policy) Policy {
	or := func(values ...time.Duration) time.Duration {
		for _, v := range values {
			if v > 0 {
				return v
			}
		}
		return 0
	}
	if p.Class == "" {
		p.Class = Standard
	}
	period, _ := p.Class.Period()
	p.Period = or(p.Period, period)
	p.Grace = or(p.Grace, min(or(base.Grace, DefaultGrace), p.Period/2))
	p.ReadTTL = or(p.ReadTTL, max(min(or(base.ReadTTL, DefaultReadTTL), p.Grace/4), time.Second))
	p.Idle = or(p.Idle, min(DefaultIdle, p.Grace))
	p.MaxHold = or(p.MaxHold, DefaultMaxHold)
	return p
}

// Problems says what is wrong with a complete policy, a sentence for each field.
func (p Policy) Problems() (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if _, ok := p.Class.Period(); !ok {
		bad(`field "class": want financial, standard or low-risk, not %q`, p.Class)
	}
	if p.Period < MinPeriod {
		bad(`field "rotation_period": %s is less than %s`, p.Period, MinPeriod)
	}
	if p.Grace >= p.Period {
		bad(`field "grace_period": %s must be less than rotation_period %s, or two rotations would overlap`, p.Grace, p.Period)
	}
	if p.ReadTTL < time.Second || p.ReadTTL > MaxReadTTL {
		bad(`field "read_ttl": %s must be from 1s to %s`, p.ReadTTL, MaxReadTTL)
	}
	if p.ReadTTL > p.Grace/4 {
		bad(`field "read_ttl": %s must be at most a quarter of grace_period %s, so that every reader reads again before the old key ends`, p.ReadTTL, p.Grace)
	}
	return wrong
}

// restLimit is how long a disabled key waits to be retired, at most: whoever still uses it
// fails now, while it can be enabled again.
const restLimit = 10 * time.Minute

// Timing is the policy as [rotate] takes it. A reader may still hold the old value for two read
// TTLs after publishing: one read may be under way, and then it sleeps.
func (p Policy) Timing() rotate.Timing {
	return rotate.Timing{
		When: cron.When{Period: p.Period}, Grace: p.Grace, Idle: p.Idle, MaxHold: p.MaxHold, DisabledWait: min(restLimit, p.Grace), Sleep: 2 * p.ReadTTL,
	}
}

// Move is the next turn after the period was changed: counted from the last
// turn, not before now, and unchanged where there was none.
func Move(next, last, now time.Time, period time.Duration) time.Time {
	if last.IsZero() {
		return next
	}
	if at := last.Add(period); at.After(now) {
		return at
	}
	return now
}
