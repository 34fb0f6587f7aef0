// Package schedule holds the timing of a key: when it is rotated, and how long the old key stays
// valid. The package has no state and no clock.
package schedule

import (
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// Defaults and bounds of a [Policy].
const (
	// DefaultGrace gives a deployment that missed the new key a weekend to read it.
	DefaultGrace = 48 * time.Hour
	// DefaultReadTTL is how long a reader waits at most before it reads the secret again.
	DefaultReadTTL = time.Minute
	MaxReadTTL     = 300 * time.Second
	// DefaultIdle is how long an old key must be unused before it is retired. Providers report
	// uses up to an hour late.
	DefaultIdle = time.Hour
	// DefaultMaxHold is how long an old key that is still in use is kept before an alert.
	DefaultMaxHold = 7 * 24 * time.Hour
	// MinPeriod prevents a typing error from rotating a key every second.
	MinPeriod = time.Minute
)

// A Class says how sensitive a key is.
type Class = rotate.Class

// The classes.
const (
	Financial = rotate.Financial
	Standard  = rotate.Standard
	LowRisk   = rotate.LowRisk
)

// A Policy is a key's timing. Its zero fields mean the default.
type Policy struct {
	Class Class `json:"class"`
	cron.When
	Grace   time.Duration `json:"grace"`
	ReadTTL time.Duration `json:"read_ttl"`
	Idle    time.Duration `json:"idle"`
	MaxHold time.Duration `json:"max_hold"`
}

// WithDefaults replaces zero fields by defaults, those of base first. The class decides the period
// unless there is a schedule. The default grace period is at most half the time between two
// rotations, and the default read TTL is shorter if the grace period is short. Fields that are set
// do not change.
func (p Policy) WithDefaults(base Policy) Policy {
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
	graceGiven := p.Grace > 0
	if p.Schedule == "" && !p.Off {
		period, _ := p.Class.Period()
		p.Period = or(p.Period, period)
	}
	p.Grace = or(p.Grace, or(base.Grace, DefaultGrace))
	if between := p.Interval(); !graceGiven && between > 0 {
		p.Grace = min(p.Grace, between/2)
	}
	p.ReadTTL = or(p.ReadTTL, max(min(or(base.ReadTTL, DefaultReadTTL), p.Grace/4), time.Second))
	p.Idle = or(p.Idle, min(DefaultIdle, p.Grace))
	p.MaxHold = or(p.MaxHold, DefaultMaxHold)
	return p
}

// Problems returns what is wrong with a policy that has its defaults, one sentence for each field.
func (p Policy) Problems() (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if _, ok := p.Class.Period(); !ok {
		bad(`field "class": want financial, standard or low-risk, not %q`, p.Class)
	}
	if err := p.Check(MinPeriod); err != nil {
		return append(problems, fault.Message(err))
	}
	if between := p.Interval(); between > 0 && p.Grace >= between {
		bad(`field "grace_period": %s must be less than %s, the shortest time between two rotations, or two rotations `+
			`would overlap`, p.Grace, between)
	}
	if p.ReadTTL < time.Second || p.ReadTTL > MaxReadTTL {
		bad(`field "read_ttl": %s must be from 1s to %s`, p.ReadTTL, MaxReadTTL)
	}
	if p.ReadTTL > p.Grace/4 {
		bad(`field "read_ttl": %s must be at most a quarter of grace_period %s, so that every reader reads again before the old key is retired`, p.ReadTTL, p.Grace)
	}
	return problems
}

// restLimit is the maximum time from disabling a key to retiring it. Consumers that still use the
// key fail now, while it can be enabled again.
const restLimit = 10 * time.Minute

// Timing returns the policy in the form that [rotate] uses. A reader may hold the old value for
// two read TTLs after publishing: a read may be under way, and then the reader waits one TTL.
func (p Policy) Timing() rotate.Timing {
	return rotate.Timing{
		When: p.When, Grace: p.Grace, Idle: p.Idle, MaxHold: p.MaxHold,
		DisabledWait: min(restLimit, p.Grace), Sleep: 2 * p.ReadTTL,
	}
}
