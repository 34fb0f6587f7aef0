package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Source provides the values that are not counted in this package. Without a function, its
// series are missing. Each is called once per scrape, and must not scan the store.
type Source struct {
	// Unsealed returns the counts of an unsealed server; known is false while it is sealed.
	Unsealed func() (u Unsealed, known bool)
	// Store returns the counts of the store.
	Store func() storage.Stats
	// Rotations returns the states of rotating records, by mount.
	Rotations func() []rotate.Tally
	// Audit returns the state of each audit device.
	Audit func() []Device
}

// Unsealed are the counts of an unsealed server.
type Unsealed struct {
	Leases    int64 // live
	Undone    int64 // leases that were undone
	Failures  int64 // attempts to undo that failed
	Waiting   int64 // leases whose undoing failed and is tried again
	Lateness  storage.Histogram
	Tokens    int64 // live; below zero: not counted
	ClockHeld bool
}

// A Device is one audit device.
type Device struct {
	Path     string
	Type     string
	Up       bool
	Lines    uint64
	Failures uint64
	Missed   uint64
}

// The series that are read from a Source.
var (
	unsealed = desc("vault_core_unsealed", "Whether the server is unsealed.")

	numLeases = desc("vault_expire_num_leases", "Leases that are live.")
	undone    = desc("keyturn_revocations_total", "Leases whose secret was revoked.")
	undoFails = desc("keyturn_revocation_failures_total",
		"Attempts to revoke a secret that failed; each is retried.")
	undoWaiting = desc("keyturn_revocations_failing",
		"Leases whose last revocation attempt failed: the secret still works, and the revocation is retried.")
	lateness = desc("keyturn_expiry_lateness_seconds",
		"Delay between the time that an expiry was due and the start of its work.")
	tokens    = desc("keyturn_tokens", "Tokens that are live.")
	clockHeld = desc("keyturn_clock_held", "Whether expiry and rotations are held because the clock jumped.")

	commitTook = desc("keyturn_storage_commit_duration_seconds", "How long commits took until they were durable.")
	conflicts  = desc("keyturn_storage_conflicts_total",
		"Commits that conflicted with another one; the caller retries.")
	commitFails  = desc("keyturn_storage_commit_failures_total", "Commits that failed otherwise.")
	diskUsed     = desc("keyturn_storage_disk_bytes", "Disk space that the store uses.")
	diskFree     = desc("keyturn_storage_free_bytes", "Free space on the store's disk.")
	diskFull     = desc("keyturn_storage_full", "Whether writes are refused because the disk is full.")
	storeReopens = desc("keyturn_storage_reopened_total",
		"Times that the store was reopened after a write to the disk failed.")
	storeBad     = desc("keyturn_storage_corruptions_total", "Blocks of the store whose checksum was wrong.")
	storeRefuses = desc("keyturn_storage_refusing",
		"Whether nothing is served because the store waits to be reopened.")

	auditUp     = desc("keyturn_audit_device_up", "Whether the audit device writes.", "device", "type")
	auditLines  = desc("keyturn_audit_lines_total", "Lines that the audit device has written.", "device", "type")
	auditFails  = desc("keyturn_audit_failures_total", "Writes to the audit device that failed.", "device", "type")
	auditMissed = desc("keyturn_audit_missed_lines_total", "Lines that the audit device did not get.", "device",
		"type")
)

// collector reads a Source for the registry.
type collector struct{ src Source }

func newCollector(src Source) *collector { return &collector{src} }

// Describe implements [prometheus.Collector]: it sends nothing, because which
// series there are depends on what is open.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(to chan<- prometheus.Metric) {
	if c.src.Unsealed != nil {
		h, known := c.src.Unsealed()
		gauge(to, unsealed, truth(known))
		if known {
			h.collect(to)
		}
	}
	if c.src.Rotations != nil {
		collectRotations(to, c.src.Rotations())
	}
	if c.src.Store != nil {
		collectStore(to, c.src.Store())
	}
	if c.src.Audit != nil {
		for _, d := range c.src.Audit() {
			gauge(to, auditUp, truth(d.Up), d.Path, d.Type)
			counter(to, auditLines, float64(d.Lines), d.Path, d.Type)
			counter(to, auditFails, float64(d.Failures), d.Path, d.Type)
			counter(to, auditMissed, float64(d.Missed), d.Path, d.Type)
		}
	}
}

func (h Unsealed) collect(to chan<- prometheus.Metric) {
	gauge(to, numLeases, float64(h.Leases))
	counter(to, undone, float64(h.Undone))
	counter(to, undoFails, float64(h.Failures))
	gauge(to, undoWaiting, float64(h.Waiting))
	gauge(to, clockHeld, truth(h.ClockHeld))
	if h.Tokens >= 0 {
		gauge(to, tokens, float64(h.Tokens))
	}
	histogram(to, lateness, h.Lateness)
}

func collectStore(to chan<- prometheus.Metric, s storage.Stats) {
	histogram(to, commitTook, s.CommitSeconds)
	counter(to, conflicts, float64(s.Conflicts))
	counter(to, commitFails, float64(s.Failed))
	gauge(to, diskUsed, float64(s.DiskBytes))
	if s.FreeBytes > 0 {
		gauge(to, diskFree, float64(s.FreeBytes))
	}
	gauge(to, diskFull, truth(s.Full))
	counter(to, storeReopens, float64(s.Reopened))
	counter(to, storeBad, float64(s.Corruptions))
	gauge(to, storeRefuses, truth(s.Refusing))
}
