package lease

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// End makes a lease unusable and due at once. It is durable when it returns;
// the undo follows in the due loop, or by Step. An unknown lease is success.
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
	return fault.New("lease.End", fault.Unavailable, "lease %q is being changed by many requests at once; try again", id)
}

// replace commits n over l, asserting that l is what is stored.
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

// ErrDamaged: a record cannot be read, and so its lease not be claimed.
var ErrDamaged = errors.New("lease: a damaged record")

// ErrBusy: an undo of the lease is under way for longer than its claim holds. It will
// forget the lease, or move its due item.
var ErrBusy = errors.New("lease: an undo is under way")

// Step does what a lease's due item asks for: it claims the lease, undoes it,
// and forgets it. stray drops the item itself, for one that stands where its
// lease does not. Errors of the outside have kind Upstream or Timeout.
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
	return unlessConflict(m.undo(ctx, l, now)) // who claimed it meanwhile goes on with it
}

// begin notes that this process undoes a lease now, until end is called. Where it does so
// already, busy is closed at the end of that.
func (m *Manager) begin(id string) (end func(), busy <-chan struct{}) {
	done := make(chan struct{})
	if other, loaded := m.running.LoadOrStore(id, done); loaded {
		return nil, other.(chan struct{})
	}
	return func() { m.running.Delete(id); close(done) }, nil
}

func (m *Manager) dropStray(ctx context.Context, id string, v storage.Version, stray []storage.Op) error {
	if len(stray) == 0 {
		return nil
	}
	_, err := m.view.Commit(ctx, append(stray, storage.Expect(Prefix+id, v))...)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// Now undoes a lease at once, in the caller's time: what a revoke with sync
// does. It is over for who uses it once Now has claimed it, as by End. Where an undo is under
// way already it waits for that. An unknown lease is success.
func (m *Manager) Now(ctx context.Context, id string, force bool, now time.Time) error {
	began := time.Now()
	for range 8 {
		end, busy := m.begin(id)
		if busy != nil {
			select {
			case <-busy:
				continue // it may have failed: see what is left
			case <-ctx.Done():
				return fault.Wrap("lease.Now", fault.Timeout, ctx.Err())
			}
		}
		err := m.once(ctx, id, force, now.Add(time.Since(began)))
		end()
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("lease.Now", fault.Unavailable, "lease %q is being changed by many requests at once; try again", id)
}

func (m *Manager) once(ctx context.Context, id string, force bool, now time.Time) error {
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

// claimed is how long a claim holds before another may be made: what a process has claimed
// that died is gone on with so soon after its end. While an undo takes longer than that, its own
// process begins no second one, and that of another does no harm.
const claimed = 3 * time.Second

// undo claims, undoes and forgets. The claim's commit is what decides between
// several who try; who loses gets Conflict, and has nothing to do.
func (m *Manager) undo(ctx context.Context, l *Lease, now time.Time) error {
	c := *l
	c.State = Ending
	c.Due = ms(now.Add(claimed))
	if err := m.replace(ctx, l, &c); err != nil {
		return err
	}
	began := time.Now()
	again, note, err := m.cfg.Undo(ctx, &c)
	now = now.Add(time.Since(began)) // a target that hangs takes long to fail
	switch {
	case err != nil && !c.Force:
		m.Stats.Failed.Add(1)
		return m.failed(ctx, &c, err, now)
	case err == nil && !again.IsZero() && !c.Force:
		n := c
		n.Due, n.Note = ms(again.Add(time.Millisecond)), note // not before again
		if soonest := ms(now.Add(time.Second)); n.Due.Before(soonest) {
			n.Due = soonest
		}
		return unlessConflict(m.replace(ctx, &c, &n))
	}
	return unlessConflict(m.forget(ctx, &c))
}

func unlessConflict(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil // another has claimed it meanwhile, and goes on with it
	}
	return err
}

// reason is an error as a lease's record keeps it: first the words of whom the undo has asked, then ours, each once. What
// is too long is cut behind them, and not before what explains the rest.
func reason(err error) string {
	const most = 512 // bytes of each
	said, msg := "", fault.Message(err)
	if cause := fault.Cause(err); cause != nil {
		said = cause.Error()
	}
	switch {
	case msg == "" || said == msg:
		return clip(said, most)
	case said == "" || strings.Contains(msg, said):
		return clip(msg, most)
	}
	return clip(said, most) + "; " + clip(msg, most)
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// failed writes down why, for the lookup, and sets the time of the next try.
func (m *Manager) failed(ctx context.Context, c *Lease, cause error, now time.Time) error {
	n := *c
	n.Tries++
	n.Due = ms(now.Add(backoff(n.Tries)))
	n.Error = reason(cause)
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

// forget takes the record out of the store.
func (m *Manager) forget(ctx context.Context, l *Lease) error {
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

// EndOwned ends all leases of a token. It is durable when it returns.
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

// NowOwned undoes all leases of a token in the caller's time.
func (m *Manager) NowOwned(ctx context.Context, owner string, now time.Time) error {
	for id, err := range m.owned(ctx, owner) {
		if err != nil {
			return err
		}
		if err := m.Now(ctx, id, false, now); err != nil {
			return err
		}
	}
	return nil
}
