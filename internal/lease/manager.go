package lease

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Creating returns the context for the call that creates a credential. It ends at the deadline of
// the reservation, because from then on another server may undo it.
func Creating(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	return cron.WithDeadline(ctx, deadline)
}

// Reserve stores l as a reservation that is due at deadline. Its ID ends in 140 random bits, so it
// does not check whether the ID exists. guard asserts that the caller's token is still valid, and
// the mount still enabled; if not, nothing is stored and the error is Conflict.
func (m *Manager) Reserve(ctx context.Context, l *Lease, deadline time.Time, guard []storage.Op) (*Lease, error) {
	r := *l
	r.State, r.Due = Reserved, ms(deadline)
	b, err := r.encode()
	if err != nil {
		return nil, err
	}
	ops := []storage.Op{
		storage.Set(Prefix+r.ID, b),
		storage.Set(OfPrefix+r.Owner+"/"+r.ID, nil),
	}
	ops = append(ops, m.cfg.Due(r.Lane(), r.ID, time.Time{}, r.Due)...)
	v, err := m.view.Commit(ctx, append(ops, guard...)...)
	if err != nil {
		if e, rerr := m.view.Get(ctx, Prefix+r.ID); rerr == nil && e.Version != 0 {
			m.Stats.Live.Add(1) // it was stored nevertheless, and falls due
		}
		return nil, err
	}
	r.Version = v
	m.Stats.Live.Add(1)
	return &r, nil
}

// Grant turns a reservation into a lease. It fails with Conflict if the reservation has been
// claimed meanwhile; then what was created is being undone.
func (m *Manager) Grant(ctx context.Context, r *Lease, now time.Time, guard []storage.Op) (*Lease, error) {
	g := *r
	g.State, g.Granted, g.Issued, g.Late = Granted, true, now.UTC(), time.Time{}
	g.Due = ms(g.Expires)
	b, err := g.encode()
	if err != nil {
		return nil, err
	}
	ops := []storage.Op{storage.Set(Prefix+g.ID, b).If(r.Version)}
	ops = append(ops, m.cfg.Due(g.Lane(), g.ID, r.Due, g.Due)...)
	ops = append(ops, m.cfg.Event("lease/granted", &g)...)
	v, err := m.view.Commit(ctx, append(ops, guard...)...)
	if err != nil {
		return nil, err
	}
	g.Version = v
	return &g, nil
}

// Lookup returns a lease. An unknown one is Invalid, as in Vault.
func (m *Manager) Lookup(ctx context.Context, id string) (*Lease, error) {
	e, err := m.view.Get(ctx, Prefix+id)
	if err != nil {
		return nil, err
	}
	if id == "" || e.Version == 0 {
		return nil, fault.New("lease.Lookup", fault.Invalid,
			"lease %q was not found: it has expired, was revoked, or never was; list sys/leases/lookup/PREFIX for "+
				"the current ones",
			id)
	}
	return Decode(e)
}

// Bounds limits a renewal.
type Bounds struct {
	TTL   time.Duration // used without an increment
	Max   time.Duration // since the lease was issued; 0: none
	Until time.Time     // absolute; zero: none
}

// Renew moves the end of a lease, first in the engine, then in the record, within b. capped
// reports that b has shortened the increment.
func (m *Manager) Renew(
	ctx context.Context, l *Lease, increment time.Duration, b Bounds, now time.Time,
) (renewed *Lease, capped bool, err error) {
	if l.State != Granted || !now.Before(l.Expires) {
		return nil, false, fault.New("lease.Renew", fault.Invalid,
			"lease %q has ended and cannot be renewed; ask for a new one", l.ID)
	}
	if !l.Renewable {
		return nil, false, fault.New("lease.Renew", fault.Invalid,
			"lease %q is not renewable; request a new one before it expires", l.ID)
	}
	if increment <= 0 {
		increment = b.TTL
	}
	n := *l
	n.Expires = now.Add(increment).UTC()
	for _, limit := range []time.Time{l.Max, b.Until, issuedPlus(l.Issued, b.Max)} {
		if !limit.IsZero() && n.Expires.After(limit) {
			n.Expires, capped = limit, true
		}
	}
	if !n.Expires.After(now) {
		return nil, capped, fault.New("lease.Renew", fault.Invalid,
			"lease %q has reached its maximum lifetime; ask for a new one", l.ID)
	}
	if err := m.cfg.Renew(ctx, l, n.Expires); err != nil {
		return nil, capped, err
	}
	n.Renewed, n.Due = now.UTC(), ms(n.Expires)
	enc, err := n.encode()
	if err != nil {
		return nil, capped, err
	}
	ops := []storage.Op{storage.Set(Prefix+n.ID, enc).If(l.Version)}
	ops = append(ops, m.cfg.Due(n.Lane(), n.ID, l.Due, n.Due)...)
	v, err := m.view.Commit(ctx, ops...)
	if fault.Is(err, fault.Conflict) {
		return nil, capped, fault.New("lease.Renew", fault.Invalid,
			"lease %q was renewed or revoked by another request at the same time; look it up", l.ID)
	}
	if err != nil {
		return nil, capped, err
	}
	n.Version = v
	return &n, capped, nil
}

func issuedPlus(issued time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return issued.Add(d)
}

// ms truncates a time to milliseconds, as the index does.
func ms(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
