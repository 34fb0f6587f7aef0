package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/keyturn/keyturn/internal/fault"
)

// A summary is the JSON form of the metrics, which Vault's clients know: that of the
// library go-metrics. Vault's figures are of the last ten seconds; ours count from the
// server's start, as those for Prometheus do.
type summary struct {
	Timestamp string
	Gauges    []gaugeValue
	Points    []struct{}
	Counters  []sampledValue
	Samples   []sampledValue
}

type gaugeValue struct {
	Name   string
	Value  float64
	Labels map[string]string
}

// A sampledValue is a counter, whose every step counts as one sample, or a
// histogram. Min, Max and Stddev of a histogram are as exact as its buckets.
type sampledValue struct {
	Name   string
	Count  uint64
	Rate   float64 // Sum a second, since the start
	Sum    float64
	Min    float64
	Max    float64
	Mean   float64
	Stddev float64
	Labels map[string]string
}

// prometheusTypes are the media types that ask for Prometheus' form.
var prometheusTypes = []string{"prometheus/telemetry", "application/openmetrics-text"}

// wantsPrometheus reads the parameter "format" and, where that says nothing, the
// header Accept.
func wantsPrometheus(format, accept string) (bool, error) {
	switch format {
	case "prometheus":
		return true, nil
	case "":
	default:
		return false, fault.New("metrics.Render", fault.Invalid,
			"parameter \"format\": want prometheus, or leave it out for JSON")
	}
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue // what is not well formed asks for nothing
		}
		for _, known := range prometheusTypes {
			if kind == known {
				return true, nil
			}
		}
	}
	return false, nil
}

// summarize renders families of series as JSON.
func summarize(families []*dto.MetricFamily, now time.Time, running time.Duration) ([]byte, error) {
	out := summary{
		Timestamp: now.UTC().Round(time.Second).Format("2006-01-02 15:04:05 -0700 MST"),
		Gauges:    []gaugeValue{}, Points: []struct{}{}, Counters: []sampledValue{}, Samples: []sampledValue{},
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name, labels := jsonName(f.GetName()), labelsOf(m)
			switch {
			case m.GetGauge() != nil:
				out.gauge(name, m.GetGauge().GetValue(), labels)
			case m.GetUntyped() != nil:
				out.gauge(name, m.GetUntyped().GetValue(), labels)
			case m.GetCounter() != nil:
				out.Counters = append(out.Counters, steps(name, m.GetCounter().GetValue(), running, labels))
			case m.GetHistogram() != nil:
				out.Samples = append(out.Samples, sampled(name, m.GetHistogram(), running, labels))
			case m.GetSummary() != nil:
				s := m.GetSummary()
				out.Samples = append(out.Samples, totals(name, s.GetSampleCount(), s.GetSampleSum(), running, labels))
			}
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("writing metrics: %w", err)
	}
	return b, nil
}

// gauge adds a gauge. JSON has no word for what is not a number.
func (s *summary) gauge(name string, value float64, labels map[string]string) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		s.Gauges = append(s.Gauges, gaugeValue{name, value, labels})
	}
}

// dotted are Vault's names of the series that bear one of Vault's: there, the
// underscores between the words of a path are dots.
var dotted = map[string]string{
	"vault_core_unsealed":     "vault.core.unsealed",
	"vault_expire_num_leases": "vault.expire.num_leases",
}

func jsonName(name string) string {
	if d, ok := dotted[name]; ok {
		return d
	}
	return name
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

// steps is a counter.
func steps(name string, n float64, running time.Duration, labels map[string]string) sampledValue {
	s := totals(name, uint64(n), n, running, labels)
	if n > 0 {
		s.Min, s.Max, s.Mean = 1, 1, 1
	}
	return s
}

func totals(name string, count uint64, sum float64, running time.Duration, labels map[string]string) sampledValue {
	s := sampledValue{Name: name, Count: count, Sum: sum, Labels: labels}
	if running > 0 {
		s.Rate = sum / running.Seconds()
	}
	if count > 0 {
		s.Mean = sum / float64(count)
	}
	return s
}

// sampled is a histogram: a value counts as the middle of its bucket, one above
// all bounds as the last bound.
func sampled(name string, h *dto.Histogram, running time.Duration, labels map[string]string) sampledValue {
	s := totals(name, h.GetSampleCount(), h.GetSampleSum(), running, labels)
	if s.Count == 0 {
		return s
	}
	var below, squares float64
	var before uint64
	first := true
	for _, b := range slices.Concat(h.GetBucket(), []*dto.Bucket{{CumulativeCount: &s.Count}}) {
		top := b.GetUpperBound()
		if b.UpperBound == nil || math.IsInf(top, 1) {
			top = below
		}
		if n := float64(b.GetCumulativeCount() - before); n > 0 {
			if first {
				s.Min, first = below, false
			}
			s.Max = top
			off := (below+top)/2 - s.Mean
			squares += n * off * off
		}
		below, before = top, b.GetCumulativeCount()
	}
	if s.Count > 1 {
		s.Stddev = math.Sqrt(squares / float64(s.Count-1))
	}
	return s
}
