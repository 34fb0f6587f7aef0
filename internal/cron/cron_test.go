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
		w         When
		due, late time.Duration // after 3:00
		want      bool
	}{
		{When{Schedule: "0 3 * * *"}, 0, 1000 * time.Hour, false},
		{When{Period: time.Hour}, 0, 1000 * time.Hour, false},
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 0, 0, false},
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 0, time.Hour, false},
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 0, time.Hour + 1, true},
		// a random delay does not move the window's end
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 30 * time.Minute, time.Hour, false},
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 30 * time.Minute, time.Hour + 1, true},
		// the first rotation of a key, which lies in no window
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 5 * time.Hour, 6 * time.Hour, false},
		{When{Schedule: "0 3 * * *", Window: time.Hour}, 5 * time.Hour, 6*time.Hour + 1, true},
	} {
		if got := tt.w.Missed(due.Add(tt.due), due.Add(tt.late)); got != tt.want {
			t.Errorf("%+v, due at 3:00 + %s, %s late: %v", tt.w, tt.due, tt.late, got)
		}
	}
}

func TestPrev(t *testing.T) {
	at := time.Date(2027, 5, 3, 10, 20, 30, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"* * * * *":      time.Date(2027, 5, 3, 10, 20, 0, 0, time.UTC),
		"20 10 * * *":    time.Date(2027, 5, 3, 10, 20, 0, 0, time.UTC),
		"21 10 * * *":    time.Date(2027, 5, 2, 10, 21, 0, 0, time.UTC),
		"0,1 3-5 * * *":  time.Date(2027, 5, 3, 5, 1, 0, 0, time.UTC),
		"0 0 1 1 *":      time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		"59 23 29 2 *":   time.Date(2024, 2, 29, 23, 59, 0, 0, time.UTC),
		"30 12 * * MON":  time.Date(2027, 4, 26, 12, 30, 0, 0, time.UTC),
		"*/7 10 3 MAY *": time.Date(2027, 5, 3, 10, 14, 0, 0, time.UTC),
	} {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.prev(at); !got.Equal(want) {
			t.Errorf("before %s, %q has %s, want %s", at, text, got, want)
		}
		if got := s.prev(want); !got.Equal(want) {
			t.Errorf("%q at its own time %s: %s", text, want, got)
		}
	}
	if got := (Schedule{}).prev(at); !got.IsZero() {
		t.Errorf("no schedule: %s", got)
	}
}
