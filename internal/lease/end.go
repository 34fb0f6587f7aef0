package lease

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// End makes a lease unusable and due at once. That is durable when End returns; the due loop
// undoes the lease later. An unknown lease is success.
func (m *Manager) End(ctx context.Context, id string, force bool, now time.Time) error {
	for range 8 {
		e, err := m.view.Get(ctx, Prefix+id)
		if err != nil || e.Version == 0 {
			return err
		}
		l, err := Decode(e)
		if err != nil {
			return err
		}
		if l.State == Ending && (l.Force || !force) {
			return nil
		}
		n := *l
		n.State, n.Due, n.Force = Ending, ms(now), l.Force || force
		err = m.replace(ctx, l, &n)
		if fault.Is(err, fault.Conflict) {
			continue
		}
		return err
	}
	return fault.New("lease.End", fault.Unavailable, "lease %q is being changed by many requests at once; try again",
		id)
}

// replace replaces l by n, asserting that l is stored.
func (m *Manager) replace(ctx context.Context, l, n *Lease, extra ...storage.Op) error {
	b, err := n.encode()
	if err != nil {
		return err
	}
	ops := []storage.Op{storage.Set(Prefix+n.ID, b).If(l.Version)}
	if !n.Due.Equal(l.Due) {
		ops = append(ops, m.cfg.Due(n.Lane(), n.ID, l.Due, n.Due)...)
	}
	v, err := m.view.Commit(ctx, append(ops, extra...)...)
	n.Version = v
	return err
}

// ErrDamaged means that a record cannot be read, so its lease cannot be claimed.
var ErrDamaged = errors.New("lease: a damaged record")

// ErrBusy means that an undo of the lease has been running for longer than its claim lasts. It
// will remove the lease, or move its due item.
var ErrBusy = errors.New("lease: an undo is under way")

// Step handles a lease's due item: it claims the lease, undoes it, and removes it. If the lease is
// not due at the item's time, it commits stray, which removes the item. Errors of the target have
// kind Upstream or Timeout.
func (m *Manager) Step(ctx context.Context, id string, now time.Time, at time.Time, stray []storage.Op) error {
	e, err := m.view.Get(ctx, Prefix+id)
	if err == nil && e.Version == 0 {
		return m.dropStray(ctx, id, 0, stray)
	}
	var l *Lease
	if err == nil {
		l, err = Decode(e)
	}
	if fault.Is(err, fault.Internal) {
		return fault.Wrap("lease.Step", fault.Internal, errors.Join(ErrDamaged, err))
	}
	if err != nil {
		return err
	}
	if !l.Due.Equal(at) {
		return m.dropStray(ctx, id, l.Version, stray)
	}
	end, busy := m.begin(id)
	if busy != nil {
		return ErrBusy
	}
	defer end()
	return fault.IgnoreConflict(m.undo(ctx, l, now)) // on conflict, another server has claimed it
}

// begin registers that this process undoes a lease, until end is called. If it already does, busy
// is closed when that ends.
func (m *Manager) begin(id string) (end func(), busy <-chan struct{}) {
	done := make(chan struct{})
	if running, loaded := m.running.LoadOrStore(id, done); loaded {
		return nil, running.(chan struct{})
	}
	return func() { m.running.Delete(id); close(done) }, nil
}

func (m *Manager) dropStray(ctx context.Context, id string, v storage.Version, stray []storage.Op) error {
	if len(stray) == 0 {
		return nil
	}
	_, err := m.view.Commit(ctx, append(stray, storage.Expect(Prefix+id, v))...)
	return fault.IgnoreConflict(err)
}

// RevokeNow undoes a lease before it returns, for a revocation with sync=true. Like End, it makes
// the lease unusable first. If the lease is already being undone, it waits for that. An unknown
// lease is success.
func (m *Manager) RevokeNow(ctx context.Context, id string, force bool, now time.Time) error {
	began := time.Now()
	for range 8 {
		end, busy := m.begin(id)
		if busy != nil {
			select {
			case <-busy:
				continue // it may have failed: check again
			case <-ctx.Done():
				return fault.Wrap("lease.Now", fault.Timeout, ctx.Err())
			}
		}
		err := m.revokeOnce(ctx, id, force, now.Add(time.Since(began)))
		end()
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("lease.Now", fault.Unavailable, "lease %q is being changed by many requests at once; try again",
		id)
}

func (m *Manager) revokeOnce(ctx context.Context, id string, force bool, now time.Time) error {
	e, err := m.view.Get(ctx, Prefix+id)
	if err != nil || e.Version == 0 {
		return err
	}
	l, err := Decode(e)
	if err != nil {
		return err
	}
	forced := *l
	forced.Force = l.Force || force
	return m.undo(ctx, &forced, now)
}

// claimDuration is how long a claim lasts, so another server continues that soon after the
// claiming one has died. If an undo takes longer, its own process starts no second one, and a
// second one by another server is harmless.
const claimDuration = 3 * time.Second

// undo claims, undoes and removes a lease. If several servers try, the commit of the claim
// succeeds for one of them; the others get Conflict, and have nothing to do.
func (m *Manager) undo(ctx context.Context, l *Lease, now time.Time) error {
	claim := *l
	claim.State = Ending
	claim.Due = ms(now.Add(claimDuration))
	if err := m.replace(ctx, l, &claim); err != nil {
		return err
	}
	began := time.Now()
	retryAt, note, err := m.cfg.Undo(ctx, &claim)
	now = now.Add(time.Since(began)) // the target may have taken long
	switch {
	case err != nil && !claim.Force:
		m.Stats.Failed.Add(1)
		return m.recordFailure(ctx, &claim, err, now)
	case err == nil && !retryAt.IsZero() && !claim.Force:
		next := claim
		next.Due, next.Note = ms(retryAt.Add(time.Millisecond)), note // not before again
		if soonest := ms(now.Add(time.Second)); next.Due.Before(soonest) {
			next.Due = soonest
		}
		return fault.IgnoreConflict(m.replace(ctx, &claim, &next))
	}
	return fault.IgnoreConflict(m.remove(ctx, &claim))
}

// errorText is the text of an error for a lease's record: first the target's error, then our
// message. Each is shortened separately, so that a long error does not hide our explanation.
func errorText(err error) string {
	const limit = 512 // bytes of each
	upstream, msg := "", fault.Message(err)
	if cause := fault.Cause(err); cause != nil {
		upstream = cause.Error()
	}
	switch {
	case msg == "" || upstream == msg:
		return fault.Clip(upstream, limit)
	case upstream == "" || strings.Contains(msg, upstream):
		return fault.Clip(msg, limit)
	}
	return fault.Clip(upstream, limit) + "; " + fault.Clip(msg, limit)
}

// recordFailure stores the error, for lookups, and the time of the next attempt.
func (m *Manager) recordFailure(ctx context.Context, c *Lease, cause error, now time.Time) error {
	n := *c
	n.Tries++
	n.Due = ms(now.Add(backoff(n.Tries)))
	n.Error = errorText(cause)
	var row []storage.Op
	if n.Failing.IsZero() {
		n.Failing = now.UTC()
		m.Stats.Waiting.Add(1)
		row = append(row, storage.Set(FailingPrefix+n.ID, nil))
	}
	if err := m.replace(ctx, c, &n, row...); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	return cause
}

// remove removes a lease from the store.
func (m *Manager) remove(ctx context.Context, l *Lease) error {
	ops := []storage.Op{
		storage.Remove(Prefix + l.ID).If(l.Version),
		storage.Remove(OfPrefix + l.Owner + "/" + l.ID),
	}
	if !l.Failing.IsZero() {
		ops = append(ops, storage.Remove(FailingPrefix+l.ID))
	}
	ops = append(ops, m.cfg.Due(l.Lane(), l.ID, l.Due, time.Time{})...)
	ops = append(ops, m.cfg.Event("lease/ended", l)...)
	if _, err := m.view.Commit(ctx, ops...); err != nil {
		if e, rerr := m.view.Get(ctx, Prefix+l.ID); fault.Is(err, fault.Conflict) || rerr != nil || e.Version != 0 {
			return err
		}
	}
	m.Stats.Live.Add(-1)
	if !l.Failing.IsZero() {
		m.Stats.Waiting.Add(-1)
	}
	m.Stats.Undone.Add(1)
	return nil
}

// EndOwned ends all leases of a token, like End.
func (m *Manager) EndOwned(ctx context.Context, owner string, now time.Time) error {
	for id, err := range m.owned(ctx, owner) {
		if err != nil {
			return err
		}
		if err := m.End(ctx, id, false, now); err != nil {
			return err
		}
	}
	return nil
}

// RevokeOwned undoes all leases of a token before it returns.
func (m *Manager) RevokeOwned(ctx context.Context, owner string, now time.Time) error {
	for id, err := range m.owned(ctx, owner) {
		if err != nil {
			return err
		}
		if err := m.RevokeNow(ctx, id, false, now); err != nil {
			return err
		}
	}
	return nil
}
