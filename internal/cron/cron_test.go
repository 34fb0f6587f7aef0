package cron

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

func TestNext(t *testing.T) {
	from := time.Date(2026, 2, 27, 3, 0, 0, 0, time.UTC) // a Friday
	for text, want := range map[string]time.Time{
		"0 3 * * *":    time.Date(2026, 2, 28, 3, 0, 0, 0, time.UTC),
		"1 3 * * *":    time.Date(2026, 2, 27, 3, 1, 0, 0, time.UTC),
		"0 0 * * SAT":  time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC),
		"30 2 29 2 *":  time.Date(2028, 2, 29, 2, 30, 0, 0, time.UTC),
		"*/15 * * * *": time.Date(2026, 2, 27, 3, 15, 0, 0, time.UTC),
		"@monthly":     time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
	} {
		s, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		// Whatever zone the asker's clock is in.
		if got := s.Next(from.In(time.FixedZone("east", 9*3600))); !got.Equal(want) {
			t.Errorf("%s after %s is %s, want %s", text, from, got, want)
		}
	}
	if got := (Schedule{}).Next(from); !got.IsZero() {
		t.Errorf("the zero schedule comes at %s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "0 3 * *", "0 0 3 * * *", "60 * * * *", "0 3 31 2 *", "@every 5s", "TZ=Asia/Tokyo 0 3 * * *",
		"CRON_TZ=UTC 0 3 * * *", "@reboot", "a b c d e",
	} {
		if _, err := Parse(text); !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
			t.Errorf("%q: %v, want it refused with a message", text, err)
		}
	}
}

func TestMissed(t *testing.T) {
	due := time.Date(2026, 2, 27, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		window, late time.Duration
		want         bool
	}{
		{0, 1000 * time.Hour, false}, {time.Hour, 0, false}, {time.Hour, time.Hour, false},
		{time.Hour, time.Hour + 1, true},
	} {
		if got := Missed(due, tt.window, due.Add(tt.late)); got != tt.want {
			t.Errorf("window %s, %s late: %v", tt.window, tt.late, got)
		}
	}
}

// FuzzParse: what is taken has a next time, later than now, and again the same one.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"0 3 * * *", "*/7 1-5 1,15 * MON-FRI", "@daily", "0 0 29 2 *", "? ? ? ? ?"} {
		f.Add(seed, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		now := time.Unix(unix%(1<<33), 0)
		next := s.Next(now)
		if next.IsZero() || !next.After(now) || !next.Equal(s.Next(now)) || next.Location() != time.UTC {
			t.Errorf("%q after %s is %s", text, now, next)
		}
	})
}
