package pebble

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/internal/storage"
)

// stripes is the number of latches and of delete marks. A few hundred concurrent commits hold at
// most a few thousand keys; twice as many stripes would save little, and with a tenth of them,
// commits of different keys would wait for each other.
const stripes = 1 << 13

// numbers has the state of the commits of a store, which outlives its handles.
type numbers struct {
	seed    maphash.Seed
	begun   atomic.Uint64 // the newest number that was assigned; set before Pebble gets the commit
	durable mark
	// deleted[stripe] is the newest commit that deleted a key of the stripe, and lastDelete the
	// newest of all. Both are set before Pebble gets the commit.
	deleted    [stripes]atomic.Uint64
	lastDelete atomic.Uint64
}

// stripe is the slot of a key among latches and delete marks.
func (n *numbers) stripe(key string) uint16 {
	return uint16(maphash.String(n.seed, key) % stripes)
}

// delete notes that a commit deletes a key of the stripe.
func (n *numbers) delete(stripe uint16, commit uint64) {
	n.deleted[stripe].Store(commit)
	n.lastDelete.Store(commit)
}

// settle waits until the commit that wrote or removed an entry of a handle is durable.
func (n *numbers) settle(ctx context.Context, dead <-chan struct{}, e storage.Entry) error {
	need := uint64(e.Version)
	if need == 0 {
		need = n.deleted[n.stripe(e.Key)].Load()
	}
	return n.durable.wait(ctx, dead, need)
}

// A mark is a number that only grows, and that can be waited for.
type mark struct {
	v atomic.Uint64

	mu   sync.Mutex
	wake chan struct{} // closed when v grows; nil: no one waits
}

func (m *mark) advance(v uint64) {
	m.v.Store(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wake != nil {
		close(m.wake)
		m.wake = nil
	}
}

// wait returns when the mark has reached v, or when dead is closed or ctx ends. It returns an
// error for a dead handle even if the mark has reached v, because the next handle starts above all
// numbers that may be lost.
func (m *mark) wait(ctx context.Context, dead <-chan struct{}, v uint64) error {
	for m.v.Load() < v {
		m.mu.Lock()
		if m.v.Load() >= v {
			m.mu.Unlock()
			return nil
		}
		if m.wake == nil {
			m.wake = make(chan struct{})
		}
		wake := m.wake
		m.mu.Unlock()
		select {
		case <-wake:
		case <-dead:
			return errPoisoned
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if isClosed(dead) {
		return errPoisoned
	}
	return nil
}

var errPoisoned = errors.New("storage: a write to the disk failed; whether this was stored is not known")

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
