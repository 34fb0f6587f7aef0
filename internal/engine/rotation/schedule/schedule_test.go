package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

const day = 24 * time.Hour

func TestDefaultsAreSound(t *testing.T) {
	for _, p := range []Policy{
		{}, {Class: Financial}, {Class: LowRisk}, {When: cron.When{Period: time.Hour}},
		{When: cron.When{Period: time.Minute}}, {Grace: time.Hour},
		{When: cron.When{Period: 100 * day}, Grace: 90 * day}, {Grace: 2 * time.Hour, ReadTTL: 300 * time.Second},
		{When: cron.When{Schedule: "0 3 * * *", Window: time.Hour}}, {When: cron.When{Off: true}},
	} {
		c := p.WithDefaults(Policy{})
		if problems := c.Problems(); len(problems) > 0 {
			t.Errorf("%+v with defaults is %+v: %v", p, c, problems)
		}
		if c.Timing().Hold(false) < 2*c.ReadTTL || c.Timing().Hold(false) < c.Grace {
			t.Errorf("%+v keeps the old key for %v", c, c.Timing().Hold(false))
		}
	}
	d := Policy{}.WithDefaults(Policy{})
	if want := (Policy{Class: Standard, When: cron.When{Period: 60 * day},
		Grace: 48 * time.Hour, ReadTTL: time.Minute, Idle: time.Hour,
		MaxHold: 7 * day}); d != want {
		t.Errorf("defaults are %+v, want %+v", d, want)
	}
	rest, short := d.Timing().DisabledWait, (Policy{Grace: time.Minute}).Timing().DisabledWait
	if rest != 10*time.Minute || short != time.Minute {
		t.Errorf("a disabled key rests for %s, with a short grace for %s", rest, short)
	}
	if got := (Policy{}).WithDefaults(Policy{Grace: 24 * time.Hour}); got.Grace != 24*time.Hour {
		t.Errorf("the mount's default grace is not used: %+v", got)
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		p    Policy
		want string
	}{
		{Policy{Class: "gold"}, "class"},
		{Policy{When: cron.When{Period: time.Second}}, "rotation_period"},
		{Policy{When: cron.When{Period: time.Hour}, Grace: time.Hour}, "grace_period"},
		{Policy{ReadTTL: 301 * time.Second}, "read_ttl"},
		{Policy{ReadTTL: 999 * time.Millisecond}, "read_ttl"},
		{Policy{Grace: time.Minute, ReadTTL: time.Minute}, "read_ttl"},
		{Policy{When: cron.When{Period: time.Minute}, Grace: 59 * time.Second}, ""},
		{Policy{Grace: time.Minute, ReadTTL: 15 * time.Second}, ""},
		{Policy{When: cron.When{Schedule: "@daily"}, Grace: 24 * time.Hour}, "less than 24h0m0s, the shortest time"},
		{Policy{When: cron.When{Schedule: "@daily"}, Grace: 23 * time.Hour}, ""},
		{Policy{When: cron.When{Schedule: "@daily", Period: time.Hour}}, "exclude each other"},
		{Policy{When: cron.When{Window: time.Hour}}, "rotation_window"},
		{Policy{When: cron.When{Off: true}, Grace: 1000 * time.Hour}, ""},
		{Policy{ReadTTL: time.Second}, ""}, {Policy{ReadTTL: 300 * time.Second}, ""},
	} {
		got := strings.Join(tt.p.WithDefaults(Policy{}).Problems(), "; ")
		if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%+v: %q does not name %s", tt.p, got, tt.want)
		}
	}
}

func TestAsleep(t *testing.T) {
	p := Policy{ReadTTL: time.Minute}
	now := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		published time.Time
		want      time.Duration
	}{{time.Time{}, 2 * time.Minute}, {now, 2 * time.Minute}, {now.Add(-90 * time.Second),
		30 * time.Second}, {now.Add(-time.Hour), 0}} {
		if got := p.Timing().Asleep(tt.published, now); got != tt.want {
			t.Errorf("published %v: %v, want %v", tt.published, got, tt.want)
		}
	}
	if p.Timing().Hold(true) != 0 {
		t.Error("a leaked key is kept")
	}
}
