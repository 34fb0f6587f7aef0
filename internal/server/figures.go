package server

import (
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/server/metrics"
	"github.com/keyturn/keyturn/internal/storage"
)

// observe counts requests.
func observe(m *metrics.Metrics) func(core.Observation) {
	return func(o core.Observation) {
		result := "ok"
		if !o.OK {
			result = o.Status.String()
		}
		m.Observe(metrics.Request{Operation: o.Op, MountType: o.Mount, Result: result, Took: o.Took})
	}
}

// source provides all metrics except those of requests.
func (s *server) source() metrics.Source {
	src := metrics.Source{
		Unsealed: s.unsealed, Audit: s.devices,
		Rotations: func() []core.Tally { return s.core.Rotations(s.cfg.RotationSeries) },
	}
	if meter, ok := s.store.(storage.Meter); ok {
		src.Store = meter.Stats
	}
	return src
}

func (s *server) unsealed() (metrics.Unsealed, bool) {
	st := s.core.Stats()
	h := metrics.Unsealed{
		Leases: st.Leases, Undone: st.Undone, Failures: st.UndoFailures, Waiting: st.UndoWaiting, Tokens: -1,
		ClockHeld: st.ClockHeld,
		Lateness:  storage.Histogram{Bounds: core.LatenessBounds, Sum: st.LatenessSum.Seconds()},
	}
	for _, n := range st.Lateness {
		h.Lateness.Counts = append(h.Lateness.Counts, uint64(n))
	}
	return h, st.Unsealed
}

func (s *server) devices() []metrics.Device {
	var all []metrics.Device
	for _, d := range s.core.Stats().Audit {
		all = append(all, metrics.Device{
			Path: d.Path, Type: d.Type, Up: d.Up,
			Lines: d.Metrics.Lines.Load(), Failures: d.Metrics.Failures.Load(), Missed: d.Metrics.Missed.Load(),
		})
	}
	return all
}
