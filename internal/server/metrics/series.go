package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyturn/keyturn/internal/storage"
)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(to chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// histogram turns counts by bucket into cumulative ones.
func histogram(to chan<- prometheus.Metric, d *prometheus.Desc, h storage.Histogram) {
	if len(h.Counts) != len(h.Bounds)+1 {
		return // it has counted nothing yet
	}
	buckets := make(map[float64]uint64, len(h.Bounds))
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		buckets[bound] = n
	}
	to <- prometheus.MustNewConstHistogram(d, n+h.Counts[len(h.Bounds)], h.Sum, buckets)
}
