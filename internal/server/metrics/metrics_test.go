package metrics

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/storage"
)

var update = flag.Bool("update", false, "write the golden file")

func full() Source {
	return Source{
		House: func() (House, bool) {
			return House{Leases: 7, Undone: 5, Failures: 3, Waiting: 2, Tokens: 4, ClockHeld: true,
				Lateness: storage.Histogram{Bounds: []float64{1, 10}, Counts: []uint64{3, 2, 1}, Sum: 21.5}}, true
		},
		Store: func() storage.Stats {
			return storage.Stats{Conflicts: 2, Failed: 1, DiskBytes: 1000, FreeBytes: 2000, Full: true,
				CommitSeconds: storage.Histogram{Bounds: []float64{.01}, Counts: []uint64{9, 1}, Sum: .5}}
		},
		Turns: func() map[string]int64 { return map[string]int64{"grace": 2} },
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
		`keyturn_rotation_turns{state="grace"} 2`,
		`keyturn_audit_lines_total{device="file/",type="file"} 10`,
		`keyturn_tokens 4`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
}

// TestSealed has no figures of a house that is closed, and says so.
func TestSealed(t *testing.T) {
	text := render(t, New(Source{House: func() (House, bool) { return House{}, false }}, "1"))
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
	text := render(t, New(Source{House: func() (House, bool) { return House{Tokens: -1}, true }}, "1"))
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
