package core

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/storage"
)

// A job is a row at job/<id> and one due item. Both are committed before the work begins, and
// removed in the last commit.
const (
	jobRows barrier.Rows[storedJob] = "job/"
	jobKind                         = "job"
	jobLane                         = "jobs"
)

// keepFinished is how long the status of a finished move can be read.
const keepFinished = time.Hour

// jobs does work for requests that concerns many rows. A job is committed before it begins, is
// done in batches, and continues after a restart.
type jobs struct {
	view   *barrier.View
	mounts *mounts.Manager
	leases *lease.Manager
	places *places
}

// storedJob is a job's row.
type storedJob struct {
	sys.Job
	Due time.Time `json:"due"` // time of its due item
	// LeasesEnded: every lease of a disabled mount is being revoked; the job only waits for that.
	LeasesEnded bool `json:"ended,omitempty"`
	version     storage.Version
}

func jobItem(id string, from, to time.Time) []storage.Op {
	return due.Move(due.Item{Lane: jobLane, Kind: jobKind, ID: id}, from, to)
}

// start commits a job. With wait, it also runs the job and returns its error; a failed job is
// nevertheless retried in the background.
func (m *jobs) start(ctx context.Context, j sys.Job, wait bool) (string, error) {
	s := newJob(j)
	if wait { // the due loop starts only if this request has not finished by then
		s.Due = s.Due.Add(time.Minute)
	}
	ops, err := s.save(time.Time{}, 0)
	if err != nil {
		return "", err
	}
	if _, err := m.view.Commit(ctx, ops...); err != nil {
		return "", err
	}
	if wait {
		return s.ID, m.run(ctx, s.ID, true)
	}
	return s.ID, nil
}

// plan returns the operations that start a job, for the caller's batch.
func (m *jobs) plan(j sys.Job) (string, []storage.Op, error) {
	s := newJob(j)
	ops, err := s.save(time.Time{}, 0)
	return s.ID, ops, err
}

func newJob(j sys.Job) *storedJob {
	now := time.Now().UTC().Truncate(time.Millisecond)
	j.ID, j.Started, j.State = NewRequestID(), now, "in-progress"
	s := &storedJob{Job: j, Due: now}
	if j.Kind == "move" { // writing the mount's record has already moved it
		s.State, s.Due = "success", now.Add(keepFinished)
	}
	return s
}

// save returns the operations that replace version v of the job's row, and move its item from was.
func (s *storedJob) save(was time.Time, v storage.Version) ([]storage.Op, error) {
	op, err := jobRows.Set(s.ID, *s)
	return append(jobItem(s.ID, was, s.Due), op.If(v)), err
}

// addMissing starts a job for each tombstone that has none.
func (m *jobs) addMissing(ctx context.Context) error {
	withJob := map[string]bool{}
	for row, err := range m.view.Scan(ctx, string(jobRows), storage.PrefixEnd(string(jobRows))) {
		if err != nil {
			return err
		}
		if s, err := jobRows.Decode(row); err == nil {
			withJob[s.Mount] = true
		}
	}
	for _, e := range m.mounts.Snapshot().Table.All() {
		if e.Gone.IsZero() || withJob[e.UUID] {
			continue
		}
		if _, err := m.start(ctx, sys.Job{Kind: "disable", Mount: e.UUID, Prefix: e.Path}, false); err != nil {
			return err
		}
	}
	return nil
}

func (m *jobs) load(ctx context.Context, id string) (*storedJob, error) {
	s, version, err := jobRows.Get(ctx, m.view, id)
	if s != nil {
		s.version = version
	}
	return s, err
}

func (m *jobs) status(ctx context.Context, id string) (*sys.Job, error) {
	s, err := m.load(ctx, id)
	if err != nil || s == nil {
		return nil, err
	}
	return &s.Job, nil
}

// routes returns what sys needs to serve jobs.
func (m *jobs) routes() sys.Jobs {
	return sys.Jobs{
		Start: m.start, Plan: m.plan, Status: m.status, List: m.list, LeasesLeft: m.leasesLeft, RunNow: m.runNow,
	}
}

// list returns the unfinished jobs.
func (m *jobs) list(ctx context.Context) ([]*sys.Job, error) {
	var out []*sys.Job
	for row, err := range m.view.Scan(ctx, string(jobRows), storage.PrefixEnd(string(jobRows))) {
		if err != nil {
			return nil, err
		}
		s, err := jobRows.Decode(row)
		if err != nil {
			return nil, err
		}
		if s.Kind != "move" {
			out = append(out, &s.Job)
		}
	}
	return out, nil
}

// leasesLeft counts the leases that a job still has to revoke.
func (m *jobs) leasesLeft(ctx context.Context, j *sys.Job) (out sys.Left, err error) {
	count := func(id string) error {
		out.Leases++
		l, err := m.leases.Lookup(ctx, id)
		if err == nil && !l.Failing.IsZero() {
			out.Failing++
			out.Error = l.Error
		}
		if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout) {
			return err
		}
		return nil // revoked meanwhile, or unreadable, which a lookup of the lease reports
	}
	switch j.Kind {
	case "disable":
		prefix := due.Prefix + j.Mount + "-"
		for row, err := range m.view.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				return out, err
			}
			if it, ok := due.Parse(row.Key); ok && out.Leases < sys.MaxLeft {
				if err := count(it.ID); err != nil {
					return out, err
				}
			}
			if out.Leases >= sys.MaxLeft {
				break
			}
		}
	case "revoke-prefix":
		for id, err := range m.leases.Below(ctx, j.Prefix) {
			if err != nil {
				return out, err
			}
			if err := count(id); err != nil || out.Leases >= sys.MaxLeft {
				return out, err
			}
		}
	}
	return out, nil
}

// How long a request that disables a mount waits for the leases to be revoked, and how long if
// revoking one of them has failed.
const (
	leaseWait       = 5 * time.Second
	failedLeaseWait = time.Second
)

// runNow runs a job until its leases are revoked, one of them fails, or it takes too long. It
// returns what is left then; the due loop continues the job.
func (m *jobs) runNow(ctx context.Context, id string) (left sys.Left, err error) {
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		s, err := m.load(ctx, id)
		if err != nil || s == nil {
			return sys.Left{}, err
		}
		if left, err = m.leasesLeft(ctx, &s.Job); err != nil || left.Leases == 0 {
			return left, err
		}
		if !s.LeasesEnded {
			if err := m.run(within, id, false); err != nil && within.Err() == nil {
				return left, err
			}
		}
		if within.Err() != nil || left.Failing > 0 && time.Since(began) > failedLeaseWait {
			return left, nil
		}
		select {
		case <-within.Done():
		case <-time.After(pause):
		}
	}
}

// runDue does what a job's item asks for; stray drops the item of a job that
// is not there.
func (m *jobs) runDue(ctx context.Context, it due.Item, stray []storage.Op) error {
	there, err := m.view.Has(ctx, jobRows.Key(it.ID))
	if err != nil {
		return err
	}
	if there {
		return m.run(ctx, it.ID, false)
	}
	_, err = m.view.Commit(ctx, append(stray, storage.Expect(jobRows.Key(it.ID), 0))...)
	return fault.IgnoreConflict(err)
}

// The first and the longest pause between two checks of a disabled mount.
const (
	firstCheck   = 5 * time.Second
	longestCheck = time.Minute
)

// run continues a job.
func (m *jobs) run(ctx context.Context, id string, wait bool) error {
	s, err := m.load(ctx, id)
	if err != nil || s == nil {
		return err
	}
	done := true
	switch s.Kind {
	case "revoke-prefix":
		err = m.revokePrefix(ctx, s, wait)
	case "disable":
		done, err = m.disable(ctx, s)
	}
	if err != nil {
		return err
	}
	ops := append(jobItem(s.ID, s.Due, time.Time{}), storage.Remove(jobRows.Key(s.ID)).If(s.version))
	if !done { // leases are still being revoked: check later
		was := s.Due
		pause := min(max(firstCheck, time.Since(s.Started)/8), longestCheck)
		s.Due = time.Now().UTC().Add(pause).Truncate(time.Millisecond)
		if ops, err = s.save(was, s.version); err != nil {
			return err
		}
	}
	_, err = m.view.Commit(ctx, ops...)
	return fault.IgnoreConflict(err) // two servers ran it at once, which is harmless
}

// revokePrefix ends every lease below a prefix. With wait, it also revokes each credential, which
// the due loop has started to do in parallel. A failure does not stop the others; the first is
// returned.
func (m *jobs) revokePrefix(ctx context.Context, s *storedJob, wait bool) error {
	for id, err := range m.leases.Below(ctx, s.Prefix) {
		if err != nil {
			return err
		}
		if err := m.leases.End(ctx, id, s.Force, time.Now()); err != nil {
			return err
		}
		s.Done++
	}
	if !wait && !s.Force {
		return nil
	}
	var first error
	for id, err := range m.leases.Below(ctx, s.Prefix) {
		if err != nil {
			return err
		}
		if err := m.leases.RevokeNow(ctx, id, s.Force, time.Now()); err != nil && first == nil {
			first = err
		}
	}
	if first != nil && !wait {
		return nil // the due loop retries them
	}
	return first
}

// disable ends the leases of a tombstone, and removes the tombstone when none is left.
func (m *jobs) disable(ctx context.Context, s *storedJob) (done bool, err error) {
	prefix := due.Prefix + s.Mount + "-"
	left := 0
	for row, err := range m.view.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return false, err
		}
		it, ok := due.Parse(row.Key)
		if !ok {
			continue
		}
		if left++; s.LeasesEnded {
			break // the mount can issue nothing new, so this one is still being revoked
		}
		if err := m.leases.End(ctx, it.ID, false, time.Now()); err != nil {
			return false, err
		}
	}
	if left > 0 {
		s.LeasesEnded = true
		return false, nil
	}
	if e := m.mounts.Snapshot().Table.ByUUID(s.Mount); e != nil && e.Class == mounts.ClassSecret {
		prefix := due.Prefix + workLane + s.Mount + "/"
		if err := removeBelow(ctx, m.view, prefix, storage.PrefixEnd(prefix)); err != nil {
			return false, err
		}
		if err := m.places.releaseAll(ctx, s.Mount); err != nil {
			return false, err
		}
	}
	return true, m.mounts.Remove(ctx, s.Mount)
}
