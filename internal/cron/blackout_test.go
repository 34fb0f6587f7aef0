package cron

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

func blackout(t *testing.T, dates ...string) Blackout {
	t.Helper()
	b, err := ParseBlackout(dates)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func day(year int, month time.Month, d, hour int) time.Time {
	return time.Date(year, month, d, hour, 0, 0, 0, time.UTC)
}

func TestBlackoutAfter(t *testing.T) {
	for _, tt := range []struct {
		dates    string
		at, want time.Time
	}{
		{"", day(2030, 6, 5, 12), day(2030, 6, 5, 12)},
		{"2030-06-05", day(2030, 6, 4, 23), day(2030, 6, 4, 23)},
		{"2030-06-05", day(2030, 6, 5, 0), day(2030, 6, 6, 0)},
		{"2030-06-05", day(2030, 6, 5, 23), day(2030, 6, 6, 0)},
		{"2030-06-05", day(2030, 6, 6, 0), day(2030, 6, 6, 0)},
		{"2030-06-05/2030-07-02", day(2030, 6, 5, 12), day(2030, 7, 3, 0)},
		{"2030-06-07,2030-06-05/2030-06-06", day(2030, 6, 5, 12), day(2030, 6, 8, 0)},
		{"12-24/01-02", day(2030, 12, 23, 12), day(2030, 12, 23, 12)},
		{"12-24/01-02", day(2030, 12, 24, 12), day(2031, 1, 3, 0)},
		{"12-24/01-02", day(2031, 1, 1, 12), day(2031, 1, 3, 0)},
		{"02-29", day(2028, 2, 29, 12), day(2028, 3, 1, 0)},
		{"02-20/02-29", day(2027, 2, 28, 12), day(2027, 3, 1, 0)},
		{"06-05/06-05", day(2031, 6, 5, 12), day(2031, 6, 6, 0)},
		{"01-01/12-31", noon, time.Time{}},
		{"2000-01-01/2999-12-31", noon, time.Time{}},
	} {
		b := blackout(t)
		if tt.dates != "" {
			b = blackout(t, strings.Split(tt.dates, ",")...)
		}
		if got := b.After(tt.at); !got.Equal(tt.want) {
			t.Errorf("%q after %s: %s, want %s", tt.dates, tt.at, got, tt.want)
		}
		if got := b.Has(tt.at); got == tt.at.Equal(tt.want) {
			t.Errorf("%q has %s: %v", tt.dates, tt.at, got)
		}
	}
}

func TestParseBlackoutRefuses(t *testing.T) {
	for _, text := range []string{"", "tomorrow", "2030-06-31", "2030-06-05/2030-06-04", "13-01", "2030-06-05/06-06",
		"06-05/2030-06-06", "2030-06-05/2030-06-06/2030-06-07", "2030-6-5", "2030-06-05,2030-06-06", "02-30",
		"2030-06-05T00:00:00Z"} {
		if _, err := ParseBlackout([]string{"2030-01-01", text}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseBlackout(make([]string, maxBlackouts+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many: %v", err)
	}
}

// TestNextAvoidsBlackout: a rotation that would fall on a black-out date moves to the first moment
// after it that the schedule allows.
func TestNextAvoidsBlackout(t *testing.T) {
	june := blackout(t, "2030-06-06/2030-06-10")
	for _, tt := range []struct {
		name string
		w    When
		want time.Time
	}{
		{"by period", When{Period: 24 * time.Hour, Blackout: june}, day(2030, 6, 11, 0)},
		{"a period that ends before", When{Period: time.Hour, Blackout: june}, day(2030, 6, 5, 13)},
		{"by schedule", When{Schedule: "0 3 * * *", Blackout: june}, day(2030, 6, 11, 3)},
		{"a schedule at midnight", When{Schedule: "0 0 * * *", Blackout: june}, day(2030, 6, 11, 0)},
		{"in the rest of a window", When{Schedule: "0 20 * * *", Window: 8 * time.Hour,
			Blackout: blackout(t, "2030-06-05/2030-06-10")}, day(2030, 6, 11, 0)},
		{"in the next window", When{Schedule: "0 20 * * *", Window: 4*time.Hour + 5*time.Minute,
			Blackout: blackout(t, "2030-06-05/2030-06-10")}, day(2030, 6, 11, 20)},
		{"over several", When{Schedule: "0 3 * * SAT", Blackout: blackout(t, "2030-06-08", "2030-06-15")},
			day(2030, 6, 22, 3)},
		{"never", When{Schedule: "0 3 25 12 *", Blackout: blackout(t, "12-24/12-26")}, time.Time{}},
	} {
		got := tt.w.Next(noon, noon)
		if !got.Equal(tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if again := tt.w.Allowed(got); !got.IsZero() && !again.Equal(got) {
			t.Errorf("%s: %s moves to %s", tt.name, got, again)
		}
		tt.w.Jitter = 10 * time.Minute
		for range 50 {
			late := tt.w.Next(noon, noon)
			if late.Before(tt.want) || late.Sub(tt.want) >= tt.w.Jitter && !tt.want.IsZero() ||
				tt.w.Blackout.Has(late) || tt.w.Missed(tt.want, late) {
				t.Fatalf("%s: with jitter %s", tt.name, late)
			}
		}
	}
	for _, w := range []When{{Period: time.Hour, Blackout: blackout(t, "01-01/12-31")},
		{Schedule: "0 3 25 12 *", Blackout: blackout(t, "12-24/12-26")}} {
		if err := w.Check(time.Minute); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `"blackout"`) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}
