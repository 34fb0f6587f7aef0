package sys

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// Config contains what the routes need.
type Config struct {
	Mounts   *mounts.Manager
	Policies *policies.Manager
	Tokens   *token.Store
	Leases   *lease.Manager
	Wrapping *wrapping.Store
	Devices  *audit.Devices
	// RenewLease renews within the limits of role, mount and system, and returns warnings.
	RenewLease func(ctx context.Context, id string, increment time.Duration) (*lease.Lease, []string, error)
	Jobs       Jobs
	// Seal seals the server after the answer has been sent.
	Seal    func()
	Version string // Keyturn's own
	// TrustClock accepts the clock as it is, after it has jumped ahead.
	TrustClock func()
	// Metrics renders the metrics in the format of the parameter "format" or the header Accept,
	// and returns their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
}

// A Job is work on many rows. It is committed before it begins, is done in batches, and continues
// after a restart.
type Job struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // "disable", "revoke-prefix", "move"
	Prefix  string    `json:"prefix,omitempty"`
	Mount   string    `json:"mount,omitempty"` // uuid
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Force   bool      `json:"force,omitempty"`
	Started time.Time `json:"started"`
	Done    int       `json:"done"`
	State   string    `json:"state"` // "in-progress", "success"
}

// Jobs are the functions of the job manager that the routes need.
type Jobs struct {
	// Start commits a job. With wait, it also runs it before it returns.
	Start func(ctx context.Context, j Job, wait bool) (id string, err error)
	// Plan returns the operations that commit a job, for the caller's batch.
	Plan func(j Job) (id string, ops []storage.Op, err error)
	// Status returns an unfinished job; nil: there is none.
	Status func(ctx context.Context, id string) (*Job, error)
	// List returns the unfinished jobs.
	List func(ctx context.Context) ([]*Job, error)
	// LeasesLeft counts the leases that a job still has to revoke.
	LeasesLeft func(ctx context.Context, j *Job) (Left, error)
	// RunNow runs a job at once, waits for a few seconds, and returns how many leases are left.
	RunNow func(ctx context.Context, id string) (Left, error)
}

// Left counts the leases that a job still has to revoke.
type Left struct {
	Leases  int    // at most [MaxLeft] are counted
	Failing int    // those of them whose revocation has failed and is retried
	Error   string // of one that failed
}

// MaxLeft limits how many leases are counted.
const MaxLeft = 1000
