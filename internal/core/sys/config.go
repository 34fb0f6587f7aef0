package sys

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// Config is what the routes work with.
type Config struct {
	Mounts   *mounts.Manager
	Policies *policies.Manager
	Tokens   *token.Store
	Leases   *lease.Manager
	Wrapping *wrapping.Store
	Devices  *audit.Devices
	// RenewLease renews within all bounds, and returns warnings.
	RenewLease func(ctx context.Context, id string, increment time.Duration) (*lease.Lease, []string, error)
	Jobs       Jobs
	// Seal ends the unsealed scope, after the answer has gone out.
	Seal    func()
	Version string // Keyturn's own
	// TrustClock takes the clock as it is, after it has jumped ahead.
	TrustClock func()
	// Metrics renders the metrics in the form that the parameter "format" or the
	// header Accept asks for, and says their content type; nil: there are none.
	Metrics func(ctx context.Context, format, accept string) ([]byte, string, error)
}

// A Job is work on many rows that is committed before it begins, done in
// batches, and goes on after a restart.
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

// classPath is the path of the mount that a sys/mounts or sys/auth route means.
func classPath(class, path string) string {
	if class == mount.ClassAuth {
		return "auth/" + path + "/"
	}
	return path + "/"
}

// Jobs are what the routes need of the jobs.
type Jobs struct {
	// Start commits a job and, if wait is set, does it before it returns.
	Start func(ctx context.Context, j Job, wait bool) (id string, err error)
	// Plan returns the operations that commit a job, for the caller's batch.
	Plan func(j Job) (id string, ops []storage.Op, err error)
	// Status tells how a job stands; nil for one that is done.
	Status func(ctx context.Context, id string) (*Job, error)
	// List returns the jobs that are not done.
	List func(ctx context.Context) ([]*Job, error)
	// Left counts what a job has still to revoke.
	Left func(ctx context.Context, j *Job) (Left, error)
	// Hasten starts a job at once, waits for a few seconds, and returns how many leases are left.
	Hasten func(ctx context.Context, id string) (Left, error)
}

// Left are the leases that a job has still to revoke.
type Left struct {
	Leases  int    // at most [MaxLeft] are counted
	Failing int    // of these, those whose revocation has failed and is tried again
	Error   string // of one of them
}

// MaxLeft bounds the counting.
const MaxLeft = 1000
