package cron

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

var noon = time.Date(2030, 6, 5, 12, 0, 0, 0, time.UTC) // a Wednesday

func TestWhenCheck(t *testing.T) {
	for _, tt := range []struct {
		w    When
		want string
	}{
		{When{}, ""},
		{When{Period: time.Minute}, ""},
		{When{Schedule: "0 3 * * SAT", Window: time.Hour}, ""},
		{When{Period: time.Second}, `field "rotation_period": 1s is less than 1m0s`},
		{When{Period: time.Hour, Schedule: "@daily"}, `exclude each other`},
		{When{Period: time.Hour, Window: time.Hour}, `needs rotation_schedule`},
		{When{Schedule: "@daily", Window: time.Minute}, `field "rotation_window": 1m0s is less than 1h0m0s`},
		{When{Schedule: "0 3 30 2 *"}, `field "rotation_schedule": "0 3 30 2 *" never comes`},
		{When{Schedule: "@daily", Window: 2 * time.Hour, Jitter: time.Hour}, ""},
		{When{Schedule: "@daily", Window: 2 * time.Hour, Jitter: 61 * time.Minute},
			`field "jitter": 1h1m0s is more than 1h0m0s`},
		{When{Schedule: "@daily", Jitter: 13 * time.Hour}, `is more than 12h0m0s`},
		{When{Period: time.Hour, Jitter: 30 * time.Minute}, ""},
		{When{Period: time.Hour, Jitter: 31 * time.Minute}, `is more than 30m0s`},
		{When{Period: time.Hour, Jitter: -1}, `must not be negative`},
		{When{Period: time.Hour, Jitter: time.Hour, Off: true}, ""},
		{When{Schedule: "nonsense"}, `field "rotation_schedule": "nonsense" is not a schedule`},
	} {
		err := tt.w.Check(time.Minute)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(fault.Message(err), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.w, err, tt.want)
		}
	}
}

func TestWhenNext(t *testing.T) {
	for _, tt := range []struct {
		name string
		w    When
		last time.Time
		want time.Time
	}{
		{"never", When{}, noon, time.Time{}},
		{"switched off", When{Period: time.Hour, Off: true}, noon, time.Time{}},
		{"the first time", When{Period: time.Hour}, time.Time{}, noon.Add(time.Hour)},
		{"after the last", When{Period: time.Hour}, noon.Add(-20 * time.Minute), noon.Add(40 * time.Minute)},
		{"the clock was ahead", When{Period: time.Hour}, noon.Add(20 * time.Hour), noon.Add(time.Hour)},
		{"overdue", When{Period: time.Hour}, noon.Add(-20 * time.Hour), noon},
		{"by schedule", When{Schedule: "0 3 * * SAT"}, noon.Add(-20 * time.Hour),
			time.Date(2030, 6, 8, 3, 0, 0, 0, time.UTC)},
	} {
		if got := tt.w.Next(tt.last, noon); !got.Equal(tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestJitter: a random delay is drawn anew by each call, is bounded, and keeps the window.
func TestJitter(t *testing.T) {
	three := time.Date(2030, 6, 6, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		w    When
		last time.Time
		from time.Time
	}{
		{"by period", When{Period: time.Hour, Jitter: 10 * time.Minute}, noon, noon.Add(time.Hour)},
		{"by schedule", When{Schedule: "0 3 * * *", Window: time.Hour, Jitter: 10 * time.Minute}, noon, three},
	} {
		seen := map[time.Time]bool{}
		for range 200 {
			at := tt.w.Next(tt.last, noon)
			seen[at] = true
			if late := at.Sub(tt.from); late < 0 || late >= tt.w.Jitter {
				t.Fatalf("%s: %s is not within %s after %s", tt.name, at, tt.w.Jitter, tt.from)
			}
			if tt.w.Window > 0 && (tt.w.Missed(at, three.Add(time.Hour)) || !tt.w.Missed(at, three.Add(time.Hour+1))) {
				t.Fatalf("%s: the delay to %s moves the window's end", tt.name, at)
			}
		}
		if len(seen) < 150 {
			t.Errorf("%s: 200 delays have %d different lengths", tt.name, len(seen))
		}
	}
	overdue := When{Period: time.Hour, Jitter: 10 * time.Minute}
	if at := overdue.Next(noon.Add(-2*time.Hour), noon); !at.Equal(noon) {
		t.Errorf("an overdue rotation is delayed to %s", at)
	}
}

func TestAgain(t *testing.T) {
	nightly := When{Schedule: "0 12 * * *", Window: time.Hour}
	for _, tt := range []struct {
		name   string
		w      When
		failed int
		late   time.Duration
		want   time.Duration // after noon
		over   bool
	}{
		{"without a window", When{Period: time.Hour}, 1, 9 * time.Hour, 9*time.Hour + 10*time.Second, false},
		{"never", When{}, 3, 0, 40 * time.Second, false},
		{"within the window", nightly, 4, 5 * time.Minute, 5*time.Minute + 80*time.Second, false},
		{"at the window's end", nightly, 20, 40 * time.Minute, time.Hour - time.Second, false},
		{"just before it", nightly, 20, time.Hour - 11*time.Second, time.Hour - time.Second, false},
		{"at it", nightly, 20, time.Hour - time.Second, 24 * time.Hour, true},
		{"after it", nightly, 1, 2 * time.Hour, 24 * time.Hour, true},
	} {
		at, over := tt.w.Again(noon, time.Time{}, tt.failed, noon.Add(tt.late))
		if !at.Equal(noon.Add(tt.want)) || over != tt.over {
			t.Errorf("%s: %s, %v; want %s, %v", tt.name, at, over, noon.Add(tt.want), tt.over)
		}
	}
}

func TestShortest(t *testing.T) {
	for _, tt := range []struct {
		w    When
		want time.Duration
	}{
		{When{}, 0},
		{When{Period: time.Hour}, time.Hour},
		{When{Schedule: "@daily"}, 24 * time.Hour},
		{When{Schedule: "0 3,5 * * *"}, 2 * time.Hour},
		{When{Schedule: "0 0 1,15 * *"}, 14 * 24 * time.Hour},
	} {
		if got := tt.w.Shortest(noon); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.w, got, tt.want)
		}
	}
}

func TestRetry(t *testing.T) {
	for failed, want := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 4: 80 * time.Second, 9: 2560 * time.Second,
		10: time.Hour, 1000: time.Hour,
	} {
		if got := Retry(failed, noon).Sub(noon); got != want {
			t.Errorf("after %d: %s, want %s", failed, got, want)
		}
	}
}

func TestWhenApply(t *testing.T) {
	hour, none, daily, empty := time.Hour, time.Duration(0), "@daily", ""
	for _, tt := range []struct {
		was  When
		c    Change
		want When
	}{
		{When{Period: time.Minute}, Change{}, When{Period: time.Minute}},
		{When{Period: time.Minute}, Change{Schedule: &daily, Window: &hour},
			When{Schedule: "@daily", Window: time.Hour}},
		{When{Schedule: "@weekly", Window: time.Hour}, Change{Period: &hour}, When{Period: time.Hour}},
		{When{Schedule: "@weekly", Window: time.Hour}, Change{Period: &none},
			When{Schedule: "@weekly", Window: time.Hour}},
		{When{Period: time.Minute}, Change{Schedule: &empty}, When{Period: time.Minute}},
		{When{Schedule: "@weekly", Window: time.Hour}, Change{Schedule: &empty}, When{}},
		{When{Period: time.Minute}, Change{Jitter: &hour}, When{Period: time.Minute, Jitter: time.Hour}},
		{When{Period: time.Minute}, Change{Period: &hour, Schedule: &daily},
			When{Period: time.Hour, Schedule: "@daily"}},
	} {
		got := tt.was
		if got.Apply(tt.c); got != tt.want {
			t.Errorf("%+v changed by %+v is %+v, want %+v", tt.was, tt.c, got, tt.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		failed int
		want   time.Duration
	}{{0, 10 * time.Second}, {1, 10 * time.Second}, {2, 20 * time.Second}, {5, 160 * time.Second}, {1000, time.Hour}} {
		if got := Backoff(tt.failed, 10*time.Second, time.Hour); got != tt.want {
			t.Errorf("Backoff(%d) = %v, want %v", tt.failed, got, tt.want)
		}
	}
}
