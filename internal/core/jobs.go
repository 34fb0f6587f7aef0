package core

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// A job is a row at job/<id> and one due item; both are committed before the
// work begins, and go with the last of it.
const (
	jobPrefix = "job/"
	jobKind   = "job"
	jobLane   = "jobs"
)

// keepDone is how long a finished move can still be asked after.
const keepDone = time.Hour

// storedJob is a job's row: the job, and where its due item stands.
type storedJob struct {
	sys.Job
	Due time.Time `json:"due"`
}

func jobItem(id string, from, to time.Time) []storage.Op {
	return due.Move(due.Item{Lane: jobLane, Kind: jobKind, ID: id}, from, to)
}

// startJob commits a job. With wait it is done before startJob returns, and its
// error is the caller's; it is tried again in the background all the same.
func (h jobs) startJob(ctx context.Context, j sys.Job, wait bool) (string, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	j.ID, j.Started, j.State = newRequestID(), now, "in-progress"
	s := storedJob{Job: j, Due: now}
	if wait { // leave it to this request for a while
		s.Due = now.Add(time.Minute)
	}
	if j.Kind == "move" { // the mount's record was the whole of it
		s.State, s.Due = "success", now.Add(keepDone)
	}
	if err := h.saveJob(ctx, &s, time.Time{}); err != nil {
		return "", err
	}
	if wait {
		return j.ID, h.runJob(ctx, j.ID, true)
	}
	return j.ID, nil
}

func (h jobs) saveJob(ctx context.Context, s *storedJob, was time.Time) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap("core.saveJob", fault.Internal, err)
	}
	ops := append(jobItem(s.ID, was, s.Due), storage.Set(jobPrefix+s.ID, b))
	_, err = h.view.Commit(ctx, ops...)
	return err
}

func (h jobs) loadJob(ctx context.Context, id string) (*storedJob, error) {
	row, err := h.view.Get(ctx, jobPrefix+id)
	if err != nil || row.Version == 0 {
		return nil, err
	}
	s := new(storedJob)
	if err := json.Unmarshal(row.Value, s); err != nil {
		return nil, fault.Wrap("core.loadJob", fault.Internal, err)
	}
	return s, nil
}

func (h jobs) jobStatus(ctx context.Context, id string) (*sys.Job, error) {
	s, err := h.loadJob(ctx, id)
	if err != nil || s == nil {
		return nil, err
	}
	return &s.Job, nil
}

// runJob goes on with a job where it stands.
func (h jobs) runJob(ctx context.Context, id string, wait bool) error {
	s, err := h.loadJob(ctx, id)
	if err != nil || s == nil {
		return err
	}
	done := true
	switch s.Kind {
	case "revoke-prefix":
		err = h.revokePrefix(ctx, s, wait)
	case "disable":
		done, err = h.disable(ctx, s)
	}
	if err != nil {
		return err
	}
	if !done { // leases are still being undone: look again
		was := s.Due
		s.Due = time.Now().UTC().Add(5 * time.Second).Truncate(time.Millisecond)
		return h.saveJob(ctx, s, was)
	}
	ops := append(jobItem(s.ID, s.Due, time.Time{}), storage.Remove(jobPrefix+s.ID))
	_, err = h.view.Commit(ctx, ops...)
	return err
}

// revokePrefix ends every lease below a prefix; with wait it undoes each too.
// One that cannot be undone stops no other; the first such error is returned.
func (h jobs) revokePrefix(ctx context.Context, s *storedJob, wait bool) error {
	var first error
	for id, err := range h.leases.Below(ctx, s.Prefix) {
		if err != nil {
			return err
		}
		if err := h.leases.End(ctx, id, s.Force, time.Now()); err != nil {
			return err
		}
		s.Done++
		if wait || s.Force {
			if err := h.leases.Now(ctx, id, time.Now()); err != nil && first == nil {
				first = err
			}
		}
	}
	if first != nil && !wait {
		return nil // the due loop goes on with them
	}
	return first
}

// disable ends the leases of a tombstone mount, and forgets it once none is left.
func (h jobs) disable(ctx context.Context, s *storedJob) (done bool, err error) {
	prefix := due.Prefix + s.Mount + "-"
	left := 0
	for row, err := range h.view.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return false, err
		}
		it, ok := due.Parse(row.Key)
		if !ok {
			continue
		}
		left++
		if err := h.leases.End(ctx, it.ID, false, time.Now()); err != nil {
			return false, err
		}
	}
	if left > 0 {
		return false, nil
	}
	if e := h.mounts.Snapshot().Table.ByUUID(s.Mount); e != nil && e.Class == mounts.ClassSecret {
		if err := h.removeBelow(ctx, due.Prefix+workLane+s.Mount+"/"); err != nil {
			return false, err
		}
	}
	return true, h.mounts.Remove(ctx, s.Mount)
}
