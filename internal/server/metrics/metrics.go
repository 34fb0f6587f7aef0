// Package metrics renders the server's metrics for Prometheus.
//
// Requests are counted when they end ([Metrics.Observe]); everything else is read from a [Source]
// during a scrape. A scrape does not scan the store, because the components maintain their counts.
//
// Names that begin with vault_ are those that Vault's dashboards and alerts use; the rest is ours.
// testdata/series.golden lists all names and help texts.
package metrics

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/keyturn/keyturn/internal/fault"
)

// ContentType of Prometheus' text form.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// durations range from a cached read to the deadline of a request.
var durations = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 90}

// A Request describes one request, to be counted.
type Request struct {
	Operation string
	MountType string // "" where none was found
	Result    string // "ok", or the kind of its error
	Took      time.Duration
}

// kind is a request but for its time: the labels.
type kind struct{ operation, mountType, result string }

// series are the counter and the histogram of a kind.
type series struct {
	count prometheus.Counter
	took  prometheus.Observer
}

// Metrics are the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	began    time.Time
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec

	// known caches the series that have been used, so that a request costs one look-up and two
	// additions.
	known sync.Map // kind → *series
}

// New returns metrics that read from src, and name the version that runs.
func New(src Source, version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), began: time.Now(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyturn_requests_total",
			Help: "Requests that an unsealed server has answered, by operation, type of mount and result: ok, or " +
				"the kind of error.",
		}, []string{"operation", "mount_type", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyturn_request_duration_seconds",
			Help:    "How long requests took, by operation and type of mount.",
			Buckets: durations,
		}, []string{"operation", "mount_type"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "keyturn_build_info", Help: "Always 1; the version that runs is its label.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.took, build, newCollector(src),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts a request.
func (m *Metrics) Observe(r Request) {
	k := kind{r.Operation, r.MountType, r.Result}
	got, ok := m.known.Load(k)
	if !ok {
		got, _ = m.known.LoadOrStore(k, &series{
			count: m.requests.WithLabelValues(k.operation, k.mountType, k.result),
			took:  m.took.WithLabelValues(k.operation, k.mountType),
		})
	}
	s := got.(*series)
	s.count.Inc()
	s.took.Observe(r.Took.Seconds())
}

// Render returns all metrics and their content type: in JSON, or in Prometheus' text
// form if format is "prometheus" or accept, the request's header, asks for it.
func (m *Metrics) Render(_ context.Context, format, accept string) ([]byte, string, error) {
	const op = "metrics.Render"
	prometheus, err := wantsPrometheus(format, accept)
	if err != nil {
		return nil, "", err
	}
	families, err := m.registry.Gather()
	if err != nil {
		return nil, "", fault.Wrap(op, fault.Internal, fmt.Errorf("gathering metrics: %w", err))
	}
	if !prometheus {
		text, err := summarize(families, time.Now(), time.Since(m.began))
		return text, "application/json", fault.Wrap(op, fault.Internal, err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, "", fault.Wrap(op, fault.Internal, fmt.Errorf("writing metrics: %w", err))
		}
	}
	return b.Bytes(), ContentType, nil
}
