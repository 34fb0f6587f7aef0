//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/test/redistest"
)

const (
	// endingRate is the number of leases that expire in a second, endingFor the duration.
	endingRate = 2000
	endingFor  = 10 * time.Second
	// answersIn is the time that the target takes for an answer.
	answersIn = 5 * time.Millisecond
)

// benchLateness lets leases of a slow Redis expire at a steady rate, and reads from the server's
// histogram how late their revocations begin.
func benchLateness(ctx context.Context, b *bench) (out []result, err error) {
	const title = "expiry lateness, p99, of 2000/s at a target of 5 ms"
	target, err := redistest.New(redistest.Options{})
	if errors.Is(err, redistest.ErrAbsent) {
		return []result{{Row: title, Unit: "s", Budget: "≤ 1", Skipped: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer target.Close()
	slow, err := newDelay(net.JoinHostPort(target.Host, strconv.Itoa(target.Port)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, slow.l.Close()) }()
	k, err := ready(b, "lateness", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	at := slow.l.Addr().(*net.TCPAddr)
	if err := configureRedis(k, at.IP.String(), at.Port); err != nil {
		return nil, err
	}
	const n = int(endingRate * endingFor / time.Second)
	first := time.Now().Add(30 * time.Second)
	err = mint(ctx, k, n, func(made int) time.Duration {
		return time.Until(first.Add(time.Duration(made) * time.Second / endingRate))
	})
	if err != nil {
		return nil, err
	}
	if time.Now().After(first) {
		return nil, errors.New("the first leases ended while others were made; this machine is too slow for this row")
	}
	before, err := k.lateness()
	if err != nil {
		return nil, err
	}
	slow.by.Store(int64(answersIn))
	took, err := k.drain(ctx, first)
	if err != nil {
		return nil, err
	}
	after, err := k.lateness()
	if err != nil {
		return nil, err
	}
	p99, counted := quantile(before, after, 0.99)
	fmt.Fprintf(b.log, "  %d leases ended within %s of the first\n", counted, took.Round(100*time.Millisecond))
	r := bounded(title+", at most", p99, "s", 1)
	r.decimals = 2
	return []result{r}, nil
}

// drain waits until there are no leases, and returns the time since first.
func (k *keyturn) drain(ctx context.Context, first time.Time) (time.Duration, error) {
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for time.Since(first) < 2*time.Minute {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		if over, err := k.drained(); err != nil || over {
			return time.Since(first), err
		}
	}
	return 0, errors.New("not all leases ended within two minutes")
}

// A bucket is a bucket of a histogram: its upper bound and its count.
type bucket struct{ bound, count float64 }

// lateness returns the buckets of the server's histogram.
func (k *keyturn) lateness() (all []bucket, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+k.address+"/v1/sys/metrics?format=prometheus", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", k.root)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), `keyturn_expiry_lateness_seconds_bucket{le="`)
		if !ok {
			continue
		}
		le, count, _ := strings.Cut(rest, `"} `)
		var one bucket
		if one.bound, err = strconv.ParseFloat(le, 64); err != nil {
			return nil, err
		}
		if one.count, err = strconv.ParseFloat(count, 64); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errors.New("the server's metrics have no lateness of expiries")
	}
	return all, lines.Err()
}

// quantile returns the upper bound of the bucket with the quantile q of the events between two
// readings.
func quantile(before, after []bucket, q float64) (bound float64, counted int) {
	grown := func(i int) float64 { return after[i].count - before[i].count }
	total := grown(len(after) - 1)
	for i := range after {
		if grown(i) >= q*total {
			return after[i].bound, int(total)
		}
	}
	return after[len(after)-1].bound, int(total)
}

// A delay is a proxy that delays each answer of a target.
type delay struct {
	l  net.Listener
	by atomic.Int64 // nanoseconds
}

func newDelay(target string) (*delay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delay{l: l}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // closed
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close() // the client sees it
				continue
			}
			go d.pass(near, far)
		}
	}()
	return d, nil
}

func (d *delay) pass(near, far net.Conn) {
	go func() {
		_, _ = io.Copy(far, near) // ends with the connection
		_ = far.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := far.Read(buf)
		if err != nil {
			_ = near.Close()
			return
		}
		if by := time.Duration(d.by.Load()); by > 0 {
			<-time.After(by)
		}
		if _, err := near.Write(buf[:n]); err != nil {
			_ = far.Close()
			return
		}
	}
}
