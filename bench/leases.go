package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/pebble"
)

const (
	fewLeases = 1000
	// keptEvents is the number of newest commits whose events are kept.
	keptEvents = 200_000
	// settle is the time that a server gets to become idle. It counts a million leases in 15 s
	// after its start, and allocates meanwhile.
	settle = 25 * time.Second
)

// benchLeases compares a server with few leases with one with many.
func benchLeases(ctx context.Context, b *bench) ([]result, error) {
	few, _, err := withLeases(ctx, b, "few", fewLeases)
	if err != nil {
		return nil, err
	}
	if err := few.k.stop(); err != nil {
		return nil, err
	}
	many, restarts, err := withLeases(ctx, b, "many", b.leases)
	if err != nil {
		return nil, err
	}
	defer many.k.kill()
	each := float64(many.disk-few.disk) / float64(b.leases-fewLeases) / 1000
	n := strconv.Itoa(b.leases)
	perLease := bounded("disk for each lease", each, "KB", 0.6)
	perLease.decimals = 2
	return []result{
		bounded("memory with "+n+" leases more than with 1000", float64(many.memory-few.memory)/(1<<20), "MiB", 64),
		bounded("memory with "+n+" leases, whole", float64(many.memory)/(1<<20), "MiB", 256),
		perLease,
		bounded("restart with "+n+" leases, to first answer of a token", restarts[0], "ms", 500),
		bounded("the same after kill -9 while writing", restarts[1], "ms", 1000),
	}, nil
}

// stock is a running server with leases, and its costs.
type stock struct {
	k      *keyturn
	memory int64 // resident memory
	disk   int64
}

// withLeases creates a server with n leases, and measures its restart in milliseconds, after a
// stop and after a kill.
func withLeases(ctx context.Context, b *bench, name string, n int) (*stock, [2]float64, error) {
	var restarts [2]float64
	k, err := ready(b, name, true)
	if err != nil {
		return nil, restarts, err
	}
	var mounts struct {
		Data map[string]struct {
			UUID string `json:"uuid"`
		} `json:"data"`
	}
	if err := errors.Join(k.as(k.root).call(http.MethodGet, "sys/mounts", nil, &mounts), k.stop()); err != nil {
		return nil, restarts, err
	}
	took, err := timed(func() error { return fill(ctx, k, mounts.Data["kv/"].UUID, n) })
	if err != nil {
		return nil, restarts, err
	}
	fmt.Fprintf(b.log, "  %d leases stored in %s\n", n, took.Round(time.Second))
	var clean, killed []float64
	for range b.rounds {
		ms, err := started(k, serves)
		if err != nil {
			return nil, restarts, err
		}
		// After a kill, these writes are replayed.
		if _, err := newLoad("keyturn", k.address, k.cmd.Process.Pid, b.conns, writeRequest(k)).run(ctx,
			b.round); err != nil {
			return nil, restarts, err
		}
		k.kill()
		after, err := started(k, serves)
		if err != nil {
			return nil, restarts, err
		}
		clean, killed = append(clean, ms), append(killed, after)
		if err := k.stop(); err != nil {
			return nil, restarts, err
		}
	}
	restarts = [2]float64{median(clean), median(killed)}
	s := &stock{k: k}
	return s, restarts, s.measure(ctx, n)
}

func writeRequest(k *keyturn) func(b []byte, conn, n int) []byte {
	return func(b []byte, conn, n int) []byte {
		path := fmt.Sprintf("kv/data/team/app-%d-%d", conn, n%100)
		return rendered(b, http.MethodPost, path, k.token, []byte(secretBody))
	}
}

// measure starts the server, uses some leases and lets the server become idle.
func (s *stock) measure(ctx context.Context, n int) error {
	if _, err := started(s.k, serves); err != nil {
		return err
	}
	for i := range 2000 {
		if err := s.k.call(http.MethodPut, "sys/leases/lookup", map[string]string{"lease_id": leaseID(i * 7919 % n)},
			nil); err != nil {
			return err
		}
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	if s.memory, err = resident(s.k.cmd.Process.Pid); err != nil {
		return err
	}
	s.disk, err = used(s.k.store())
	return err
}

// resident returns the memory of a process.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("the system does not tell the memory of a process")
}

// used returns the size of all files of a store without its reserve.
func used(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil || d.IsDir() || d.Name() == "BALLAST" {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

func leaseID(i int) string { return fmt.Sprintf("database/creds/app-%d/%024d", i%10, i) }

// fill writes leases into the store of a stopped server.
func fill(ctx context.Context, k *keyturn, mount string, n int) (err error) {
	st, err := pebble.Open(ctx, pebble.Options{Path: k.store()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	bar, err := opened(ctx, k, st)
	if err != nil {
		return err
	}
	defer bar.Close()
	m := lease.NewManager(lease.Config{
		Barrier: bar,
		Due: func(lane, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: lane, Kind: lease.DueKind, ID: id}, from, to)
		},
		Event: func(_ string, l *lease.Lease) []storage.Op { return eventOf(l, n) },
	})
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, 64)
	for w := range errs {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = grantLease(ctx, m, mount, i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// eventOf returns the event of a grant, unless a server would have trimmed it.
func eventOf(l *lease.Lease, n int) []storage.Op {
	i, err := strconv.Atoi(l.ID[len(l.ID)-24:])
	if err != nil || i < n-keptEvents {
		return nil
	}
	text := fmt.Sprintf(`{"kind":"lease/granted","at":%q,"data":{"lease_id":%q}}`, l.Issued.Format(time.RFC3339Nano),
		l.ID)
	return []storage.Op{storage.Append("event/", []byte(text))}
}

// grantLease reserves and grants lease i, which has the form of a PostgreSQL lease and ends in a
// month.
func grantLease(ctx context.Context, m *lease.Manager, mount string, i int) error {
	now := time.Now()
	user := fmt.Sprintf("v-token-app-%d-%020d-%d", i%10, i, now.Unix())
	r, err := m.Reserve(ctx, &lease.Lease{
		ID: leaseID(i), Mount: mount, Target: "production", Kind: "user", Owner: fmt.Sprintf("%040x", i%1000),
		Attempt: fmt.Sprintf("%020d", i),
		Data:    fmt.Appendf(nil, `{"c":"4pz6wqj2mxk3uv7n","r":"app-%d","i":"%016d","u":%q}`, i%10, i%10, user),
		Expires: now.Add(30 * 24 * time.Hour), Max: now.Add(60 * 24 * time.Hour), Renewable: true,
	}, now.Add(time.Hour), nil)
	if err != nil {
		return err
	}
	_, err = m.Grant(ctx, r, now, nil)
	return err
}

// opened returns the barrier of a stopped server.
func opened(ctx context.Context, k *keyturn, st storage.Store) (*barrier.Barrier, error) {
	s, err := openSeal(k.sealKey())
	if err != nil {
		return nil, err
	}
	row, err := st.Get(ctx, seal.RecordKey)
	if err != nil {
		return nil, err
	}
	if row.Version == 0 {
		return nil, fault.New("bench", fault.Internal, "the store has no seal record")
	}
	record, err := seal.Decode(row.Value)
	if err != nil {
		return nil, err
	}
	root, _, err := seal.Unseal(ctx, s, record)
	if err != nil {
		return nil, err
	}
	return barrier.Open(ctx, st, root)
}
