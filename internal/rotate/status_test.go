package rotate

import (
	"testing"
	"time"
)

// TestSummary: the summary reads like a sentence, and does not announce a time that has passed.
func TestSummary(t *testing.T) {
	now := time.Date(2026, 3, 9, 21, 27, 0, 0, time.UTC)
	old, fresh := &Ref{ID: "k7"}, &Ref{ID: "k8"}
	late := now.Add(14 * time.Minute)
	for name, tt := range map[string]struct {
		r    Record
		want string
	}{
		"idle": {Record{Current: old, Next: now.Add(60 * 24 * time.Hour)},
			"idle; current key k7; next rotation on 2026-05-08 21:27 (in 60 days)"},
		"request": {Record{Current: old}, "idle; current key k7; it is rotated on request only"},
		"overdue": {Record{Current: old, Next: now.Add(-time.Hour)}, "idle; current key k7; next rotation now"},
		"failed": {Record{Current: old, Next: now.Add(-time.Hour), Retry: now.Add(30 * time.Minute), Failures: 2},
			"failed 2 times in a row; the next attempt begins at 21:57:00 (in 30 min); current key k7; next " +
				"rotation now"},
		"paused": {Record{Paused: &Pause{Reason: "by ann"}, Turn: &Turn{N: 4, State: Grace, Old: old, New: fresh},
			Current: fresh}, "rotation 4: paused: by ann; current key k8"},
		"new": {Record{Turn: &Turn{N: 1, State: Creating}, Next: now}, "rotation 1: creating the new key; no key yet"},
		"lost": {Record{Current: old, Due: late, Next: now,
			Turn: &Turn{N: 4, State: Creating, Attempts: []Attempt{{Marker: "kt:a/x/4/1", Late: late}}}},
			"rotation 4: waiting in case a lost create call (kt:a/x/4/1) takes effect, until 21:41:00 (in 14 " +
				"min); current key k7"},
		"retried": {Record{Current: old, Due: now.Add(40 * time.Second), Next: now,
			Turn: &Turn{N: 4, State: Creating, Tries: 3}},
			"rotation 4: creating failed 3 times in a row, and is retried at 21:27:40 (in 40 s); current key k7"},
		"grace": {Record{Current: fresh, Due: late, Next: late.Add(time.Hour),
			Turn: &Turn{N: 4, State: Grace, Old: old, New: fresh, Put: Put{At: now}, End: Ending{After: late}}},
			"rotation 4: published; readers have until 21:41:00 (in 14 min) to switch from the old key k7; " +
				"current key k8; next rotation at 22:41 (in 1 h)"},
		"long grace": {Record{Current: fresh, Due: now.Add(48 * time.Hour),
			Turn: &Turn{N: 4, State: Grace, Old: old, New: fresh, End: Ending{After: now.Add(48 * time.Hour)}}},
			"rotation 4: published; readers have until 2026-03-11 21:27 (in 2 days) to switch from the old key k7; " +
				"current key k8; it is rotated on request only"},
		"in use": {Record{Current: fresh, Due: late, Next: late.Add(time.Hour),
			Turn: &Turn{N: 4, State: Grace, Old: old, New: fresh, Put: Put{At: now}, End: Ending{After: now}}},
			"rotation 4: published; the old key k7 is still in use, and is checked again at 21:41:00 (in 14 " +
				"min); current key k8; next rotation at 22:41 (in 1 h)"},
		"disabled": {Record{Current: fresh, Due: late, Next: late.Add(time.Hour),
			Turn: &Turn{N: 4, State: Retiring, Old: old, New: fresh, Put: Put{At: now},
				End: Ending{After: now, Disabled: now}}}, "rotation 4: the old key k7 is disabled and will be " +
			"deleted at 21:41:00 (in 14 min); current key k8; next rotation at 22:41 (in 1 h)"},
		"alert": {Record{Current: old, Alert: &Alert{Text: "the published secret is gone"}},
			"alert: the published secret is gone; idle; current key k7; it is rotated on request only"},
		"asks": {Record{Paused: &Pause{Reason: "refused"}, Alert: &Alert{Text: "refused"}, Current: old},
			"paused: refused; current key k7"},
		"failing": {Record{Current: old, Due: now.Add(40 * time.Second), Next: now,
			Alert: &Alert{Text: "creating has failed 3 times in a row: no route", Step: Creating},
			Turn:  &Turn{N: 4, State: Creating, Tries: 3}}, "alert: creating has failed 3 times in a row: no route; " +
			"rotation 4: creating is retried at 21:27:40 (in 40 s); current key k7"},
		"listed": {Record{Current: fresh, Due: late, LastError: "k7 is still listed",
			Turn: &Turn{N: 4, State: Retiring, Old: old, New: fresh, Tries: 2, Put: Put{At: now},
				End: Ending{After: now, WrongLists: 2}}}, "rotation 4: the provider's list is not as expected (k7 " +
			"is still listed), and is read again at 21:41:00 (in 14 min); current key k8; it is rotated on " +
			"request only"},
	} {
		if got := tt.r.Summary(now); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
}

// TestDescribe: an attempt describes its outcome, which does not stay unknown forever.
func TestDescribe(t *testing.T) {
	late := time.Date(2026, 3, 9, 21, 27, 0, 0, time.UTC)
	for want, a := range map[string]Attempt{
		"under way": {Late: late},
		"created":   {Outcome: "created", Late: late},
		"unknown: the server looks for what it may have left until 2026-03-09T21:27:00Z": {Outcome: "unknown",
			Late: late},
		"unknown: it left k8, which is about to be retired": {Outcome: "unknown", IDs: []string{"k8"}, Late: late},
		"unknown: it left k8, which is retired":             {Outcome: "unknown", IDs: []string{"k8"}, Swept: true, Late: late},
		"unknown: nothing was found, and it can no longer take effect": {Outcome: "unknown",
			Settled: true, Late: late},
		"transient": {Outcome: "transient", Late: late},
	} {
		if got := a.Describe(); got != want {
			t.Errorf("%+v: %q, want %q", a, got, want)
		}
	}
}
