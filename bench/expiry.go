//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keyturn/keyturn/test/redistest"
)

const (
	// expiryLead is the time from the first lease to the common expiry.
	expiryLead = 75 * time.Second
	// readEvery is the interval of KV reads. A client that reads as fast as it can measures its
	// own queue.
	readEvery = 2 * time.Millisecond
)

// benchExpiry measures the latency of reads while many leases expire at once, against that of the
// same idle server. The leases are users of a real Redis, which answers faster than other targets.
func benchExpiry(ctx context.Context, b *bench) (out []result, err error) {
	title, budget := "KV read p99 while "+strconv.Itoa(b.expiring)+" leases end / idle", "≤ 2"
	target, err := redistest.New(redistest.Options{})
	if errors.Is(err, redistest.ErrAbsent) {
		return []result{{Row: title, Unit: "ms", Budget: budget, Skipped: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer target.Close()
	k, err := ready(b, "expiry", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	if err := configureRedis(k, target.Host, target.Port); err != nil {
		return nil, err
	}
	if _, err := latencies(ctx, k, 2*time.Second, nil); err != nil { // warm
		return nil, err
	}
	idle, err := latencies(ctx, k, 10*time.Second, nil)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(expiryLead)
	if err := mint(ctx, k, b.expiring, func(int) time.Duration { return time.Until(end) }); err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "  %d leases made, %s before they end\n", b.expiring, time.Until(end).Round(time.Second))
	select {
	case <-time.After(time.Until(end) - time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	storm, err := latencies(ctx, k, 5*time.Minute, k.drained)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "  all undone after %s, %d reads meanwhile\n", time.Since(began).Round(100*time.Millisecond),
		len(storm))
	was, is := p99(idle), p99(storm)
	return []result{{Row: title, Keyturn: is, Against: was, Unit: "ms", Ratio: is / was, Budget: budget,
		Met: is <= 2*was, decimals: 2}}, nil
}

// configureRedis configures the connection, and the secret that is read.
func configureRedis(k *keyturn, host string, port int) error {
	admin := k.as(k.root)
	return errors.Join(
		k.call(http.MethodPost, "kv/data/team/app", map[string]any{"data": map[string]string{"password": "hunter2"}},
			nil),
		admin.call(http.MethodPost, "sys/mounts/database", map[string]string{"type": "database"}, nil),
		admin.call(http.MethodPost, "database/config/production", map[string]any{
			"plugin_name": "redis-database-plugin", "allowed_roles": "*", "username": redistest.Admin,
			"password": redistest.Password,
			"host":     host, "port": port, "max_open_connections": 32,
		}, nil),
	)
}

// mint creates n leases. It computes the TTL for each thousand when it creates them.
func mint(ctx context.Context, k *keyturn, n int, ttlAt func(made int) time.Duration) error {
	const workers, batch = 16, 1000
	for made := 0; made < n; made += batch {
		ttl := int(ttlAt(made).Seconds())
		if ttl < 5 {
			return fmt.Errorf("only %d leases were made in time; this machine is too slow for this row", made)
		}
		role := map[string]any{"db_name": "production", "default_ttl": ttl, "max_ttl": "1h"}
		if err := k.as(k.root).call(http.MethodPost, "database/roles/app", role, nil); err != nil {
			return err
		}
		err := inParallel(ctx, workers, 0, min(batch, n-made), func(int) error {
			return k.call(http.MethodGet, "database/creds/app", nil, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inParallel calls f for the numbers from <= i < to, with this many workers. A worker stops at its
// first error.
func inParallel(ctx context.Context, workers, from, to int, f func(i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		all.Go(func() {
			for i := from + w; i < to && errs[w] == nil && ctx.Err() == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// latencies reads one secret at a steady pace, for d or until done returns true, and returns the
// latencies in milliseconds.
func latencies(ctx context.Context, k *keyturn, d time.Duration, done func() (bool, error)) (took []float64,
	err error) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	looked := time.Now()
	for began := time.Now(); time.Since(began) < d; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		ms, err := timed(func() error { return k.call(http.MethodGet, "kv/data/team/app", nil, nil) })
		if err != nil {
			return nil, err
		}
		took = append(took, float64(ms)/float64(time.Millisecond))
		if done == nil || time.Since(looked) < time.Second {
			continue
		}
		if over, err := done(); over || err != nil {
			return took, err
		}
		looked = time.Now()
	}
	if done != nil {
		return nil, fmt.Errorf("not all leases ended within %s", d)
	}
	return took, nil
}

// drained reports whether all leases are revoked.
func (k *keyturn) drained() (bool, error) {
	var a struct {
		Data struct {
			Count int `json:"lease_count"`
		} `json:"data"`
	}
	err := k.as(k.root).call(http.MethodGet, "sys/leases/count", nil, &a)
	return err == nil && a.Data.Count == 0, err
}

func p99(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)*99/100]
}
