package metrics

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
)

var update = flag.Bool("update", false, "write the golden file")

func full() Source {
	return Source{
		Unsealed: func() (Unsealed, bool) {
			return Unsealed{Leases: 7, Undone: 5, Failures: 3, Waiting: 2, Tokens: 4, ClockHeld: true,
				Lateness: storage.Histogram{Bounds: []float64{1, 10}, Counts: []uint64{3, 2, 1}, Sum: 21.5}}, true
		},
		Store: func() storage.Stats {
			return storage.Stats{Conflicts: 2, Failed: 1, DiskBytes: 1000, FreeBytes: 2000, Full: true,
				CommitSeconds: storage.Histogram{Bounds: []float64{.01}, Counts: []uint64{9, 1}, Sum: .5}}
		},
		Rotations: func() []rotate.Tally {
			one := rotate.Standing{
				Path: "rotation/keys/a", State: rotate.Creating, Age: time.Minute, Overdue: time.Hour,
				NextStep: 10 * time.Second, Failures: 1, Attempts: 2, Alert: true,
			}
			bad := rotate.Standing{
				Path: "rotation/keys/\xff", State: rotate.Scheduled, Age: -1, NextStep: -1, Paused: true,
			}
			return []rotate.Tally{{
				Mount: "rotation/", States: map[rotate.State]int64{rotate.Creating: 1, rotate.Scheduled: 6}, Alerts: 1,
				Failing: 2, Overdue: 3, Paused: 4, Braked: true,
				Missed: 7, Failed: map[rotate.FailedStep]int64{{Step: rotate.Creating, Class: "transient"}: 5},
				Standings: []rotate.Standing{one, one, bad},
			}}
		},
		Audit: func() []Device {
			return []Device{{Path: "file/", Type: "file", Up: true, Lines: 10, Failures: 1, Missed: 2}}
		},
	}
}

func render(t *testing.T, m *Metrics) string {
	t.Helper()
	b, kind, err := m.Render(t.Context(), "prometheus", "")
	if err != nil {
		t.Fatal(err)
	}
	if kind != ContentType {
		t.Errorf("content type %q", kind)
	}
	return string(b)
}

// TestSeries keeps names, types and helps: dashboards and alerts read them.
func TestSeries(t *testing.T) {
	m := New(full(), "1.2.3")
	m.Observe(Request{"read", "kv", "ok", time.Millisecond})
	var got strings.Builder
	for line := range strings.Lines(render(t, m)) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(line, "#") && (strings.HasPrefix(name, "keyturn_") || strings.HasPrefix(name, "vault_")) {
			got.WriteString(strings.TrimPrefix(line, "# "))
		}
	}
	const golden = "testdata/series.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("series changed; -update rewrites the list (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	m := New(full(), "1.2.3")
	m.Observe(Request{"read", "kv", "ok", 300 * time.Microsecond})
	m.Observe(Request{"read", "kv", "denied", time.Second})
	text := render(t, m)
	for _, want := range []string{
		`keyturn_requests_total{mount_type="kv",operation="read",result="ok"} 1`,
		`keyturn_requests_total{mount_type="kv",operation="read",result="denied"} 1`,
		`keyturn_request_duration_seconds_bucket{mount_type="kv",operation="read",le="0.0005"} 1`,
		`keyturn_request_duration_seconds_count{mount_type="kv",operation="read"} 2`,
		`keyturn_build_info{version="1.2.3"} 1`,
		`vault_core_unsealed 1`,
		`vault_expire_num_leases 7`,
		`keyturn_revocations_failing 2`,
		`keyturn_expiry_lateness_seconds_bucket{le="10"} 5`,
		`keyturn_expiry_lateness_seconds_bucket{le="+Inf"} 6`,
		`keyturn_expiry_lateness_seconds_sum 21.5`,
		`keyturn_storage_commit_duration_seconds_bucket{le="0.01"} 9`,
		`keyturn_storage_full 1`,
		`keyturn_rotation_credentials{mount="rotation/",state="scheduled"} 6`,
		`keyturn_rotation_credentials_alerting{mount="rotation/"} 1`,
		`keyturn_rotation_credentials_failing{mount="rotation/"} 2`,
		`keyturn_rotation_credentials_overdue{mount="rotation/"} 3`,
		`keyturn_rotation_credentials_paused{mount="rotation/"} 4`,
		`keyturn_rotation_credentials_unlisted{mount="rotation/"} 5`,
		`keyturn_rotation_braked{mount="rotation/"} 1`,
		`keyturn_rotation_step_failures_total{class="transient",mount="rotation/",step="creating"} 5`,
		`keyturn_rotation_missed_windows_total{mount="rotation/"} 7`,
		`keyturn_rotation_state{mount="rotation/",path="rotation/keys/a",state="creating"} 1`,
		`keyturn_rotation_age_seconds{mount="rotation/",path="rotation/keys/a"} 60`,
		`keyturn_rotation_overdue_seconds{mount="rotation/",path="rotation/keys/a"} 3600`,
		`keyturn_rotation_failures{mount="rotation/",path="rotation/keys/a"} 1`,
		`keyturn_rotation_failed_attempts{mount="rotation/",path="rotation/keys/a"} 2`,
		`keyturn_rotation_next_step_seconds{mount="rotation/",path="rotation/keys/a"} 10`,
		`keyturn_rotation_alert{mount="rotation/",path="rotation/keys/a"} 1`,
		`keyturn_rotation_paused{mount="rotation/",path="rotation/keys/a"} 0`,
		"keyturn_rotation_paused{mount=\"rotation/\",path=\"rotation/keys/\uFFFD\"} 1",
		`keyturn_audit_lines_total{device="file/",type="file"} 10`,
		`keyturn_tokens 4`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	for _, not := range []string{`age_seconds{mount="rotation/",path="rotation/keys/` +
		"\uFFFD", `next_step_seconds{mount="rotation/",path="rotation/keys/` + "\uFFFD"} {
		if strings.Contains(text, not) {
			t.Errorf("%s is there, for a credential that has none", not)
		}
	}
}

// TestSealed has no figures of a house that is closed, and says so.
func TestSealed(t *testing.T) {
	text := render(t, New(Source{Unsealed: func() (Unsealed, bool) { return Unsealed{}, false }}, "1"))
	if !strings.Contains(text, "\nvault_core_unsealed 0\n") {
		t.Error("vault_core_unsealed is not 0")
	}
	for _, not := range []string{"vault_expire_num_leases", "keyturn_storage", "keyturn_tokens"} {
		if strings.Contains(text, not) {
			t.Errorf("%s is there", not)
		}
	}
}

func TestUncountedTokens(t *testing.T) {
	text := render(t, New(Source{Unsealed: func() (Unsealed, bool) { return Unsealed{Tokens: -1}, true }}, "1"))
	if strings.Contains(text, "keyturn_tokens") || strings.Contains(text, "lateness") {
		t.Error("a figure that nobody counts is shown")
	}
}

func TestObserveTogether(t *testing.T) {
	m := New(Source{}, "1")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Observe(Request{"read", "kv", "ok", time.Millisecond})
			}
		})
	}
	wg.Wait()
	if !strings.Contains(render(t, m), `result="ok"} 800`) {
		t.Error("counts were lost")
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Source{}, "1")
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(Request{"read", "kv", "ok", time.Millisecond})
	}
}

// TestSummary is the form that Vault's clients read: telegraf's, for one, parses the
// time and takes gauges, counters and samples.
func TestSummary(t *testing.T) {
	m := New(full(), "1.2.3")
	m.Observe(Request{"read", "kv", "ok", 300 * time.Microsecond})
	m.Observe(Request{"read", "kv", "ok", 30 * time.Millisecond})
	text, kind, err := m.Render(t.Context(), "", "application/json")
	if err != nil || kind != "application/json" {
		t.Fatalf("%q, %v", kind, err)
	}
	var got struct {
		Timestamp string
		Gauges    []struct {
			Name   string
			Value  float64
			Labels map[string]string
		}
		Points            []any
		Counters, Samples []struct {
			Name                              string
			Count                             int
			Rate, Sum, Min, Max, Mean, Stddev *float64
			Labels                            map[string]string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse("2006-01-02 15:04:05 -0700 MST", got.Timestamp); err != nil || got.Points == nil {
		t.Errorf("timestamp %q, points %v", got.Timestamp, got.Points)
	}
	found := 0
	for _, g := range got.Gauges {
		if g.Name == "vault.core.unsealed" && g.Value == 1 && g.Labels != nil {
			found++
		}
	}
	for _, c := range got.Counters {
		if c.Name == "keyturn_requests_total" && c.Labels["operation"] == "read" && c.Count == 2 && *c.Sum == 2 &&
			*c.Mean == 1 && *c.Rate > 0 {
			found++
		}
	}
	for _, s := range got.Samples {
		if s.Name == "keyturn_request_duration_seconds" && s.Count == 2 && *s.Min == .00025 && *s.Max == .05 &&
			*s.Mean > .015 && *s.Mean < .0152 && *s.Stddev > .02 && *s.Stddev < .03 {
			found++
		}
	}
	if found != 3 {
		t.Errorf("%d of 3 are as they should be:\n%s", found, text)
	}
}

func TestForms(t *testing.T) {
	m := New(Source{}, "1")
	for _, tt := range []struct {
		format, accept string
		prometheus     bool
	}{
		{"", "", false}, {"prometheus", "", true}, {"prometheus", "application/json", true},
		{"", "*/*", false}, {"", "text/html,application/xhtml+xml", false}, {"", "prometheus/telemetry", true},
		{"", "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true},
		{"", "text/plain;version=0.0.4, ;;, application/openmetrics-text;version=1.0.0", true},
	} {
		_, kind, err := m.Render(t.Context(), tt.format, tt.accept)
		if err != nil || (kind == ContentType) != tt.prometheus {
			t.Errorf("format %q, accept %q: %q, %v", tt.format, tt.accept, kind, err)
		}
	}
	if _, _, err := m.Render(t.Context(), "xml", ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("format xml: %v", err)
	}
}

// TestAlertRules: every series that the alert rules read is one of ours.
func TestAlertRules(t *testing.T) {
	rules, err := os.ReadFile("../../../deploy/prometheus/keyturn.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	known, err := os.ReadFile("testdata/series.golden")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(keyturn|vault)_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) == 0 {
		t.Error("the rules read nothing")
	}
	for _, name := range names {
		if !strings.Contains(string(known), "TYPE "+name+" ") {
			t.Errorf("the rules read %s, which is not exported", name)
		}
	}
}
