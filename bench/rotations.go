//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/test/redistest"
)

const (
	// fewThings is the number of rotating objects of the server to compare with.
	fewThings = 1000
	// rotatingRate is the number of rotations that become due in a second, rotatingFor the
	// duration.
	rotatingRate = 100
	rotatingFor  = 30 * time.Second
	// rotatingPeriod is the time until the first rotation of the objects that rotate during the
	// measurement.
	rotatingPeriod = 90 * time.Second
	// beforeReading is the time from the last rotation to its check.
	beforeReading = 20 * time.Second
)

// benchRotations schedules the rotation of many Redis passwords. Some of them become due at a
// steady rate: the row measures how late those are rotated, and how much memory all of them take.
func benchRotations(ctx context.Context, b *bench) (out []result, err error) {
	n := strconv.Itoa(b.things)
	title := "rotation lateness, p99, " + strconv.Itoa(rotatingRate) + "/s of " + n + " scheduled, at most"
	target, err := redistest.New(redistest.Options{})
	if errors.Is(err, redistest.ErrAbsent) {
		return []result{{Row: title, Unit: "s", Budget: "≤ 1", Skipped: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer target.Close()
	k, err := ready(b, "rotations", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	if err := configureRedis(k, target.Host, target.Port); err != nil {
		return nil, err
	}
	few, err := k.scheduled(ctx, 0, fewThings)
	if err != nil {
		return nil, err
	}
	many, err := k.scheduled(ctx, fewThings, b.things)
	if err != nil {
		return nil, err
	}
	late, half, err := k.lateRotations(ctx, target)
	if err != nil {
		return nil, err
	}
	after, err := resident(k.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "  %d rotations: half of them at most %.3f s late, the last %.3f s\n", len(late),
		late[len(late)/2], late[len(late)-1])
	p99 := bounded(title, late[len(late)*99/100], "s", 1)
	p99.decimals = 3
	return []result{
		p99,
		bounded("memory with "+n+" scheduled more than with "+strconv.Itoa(fewThings), float64(many-few)/(1<<20),
			"MiB", 64),
		bounded("memory after "+strconv.Itoa(len(late))+" rotations more than after half of them",
			float64(after-half)/(1<<20), "MiB", 8),
	}, nil
}

// scheduled creates the static roles with the numbers from..to, which become due in a month, and
// returns the memory of the idle server. Their users need not exist.
func (k *keyturn) scheduled(ctx context.Context, from, to int) (int64, error) {
	const workers = 32
	err := inParallel(ctx, workers, from, to, func(i int) error {
		name := "far-" + strconv.Itoa(i)
		return k.as(k.root).call(http.MethodPost, "database/static-roles/"+name, map[string]any{
			"db_name": "production", "username": name, "rotation_period": "720h", "skip_import_rotation": true,
		}, nil)
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return resident(k.cmd.Process.Pid)
}

// lateRotations creates static roles at a steady rate, so that they become due at the same rate.
// It returns, sorted, the seconds from the due time to the new password, which include the change
// itself, and the server's memory when half of the passwords have been changed: the storage's
// buffers are filled by then, so what comes on top would grow with each rotation.
func (k *keyturn) lateRotations(ctx context.Context, target *redistest.Server) (late []float64, half int64,
	err error) {
	const n = int(rotatingRate * rotatingFor / time.Second)
	first := make([]rotated, n)
	tick := time.NewTicker(time.Second / rotatingRate)
	defer tick.Stop()
	name := func(i int) string { return "near-" + strconv.Itoa(i) }
	for i := range n {
		if _, err := target.Do(ctx, "ACL", "SETUSER", name(i), "on", ">before"); err != nil {
			return nil, 0, err
		}
		role := map[string]any{"db_name": "production", "username": name(i),
			"rotation_period": rotatingPeriod.String()}
		if err := k.as(k.root).call(http.MethodPost, "database/static-roles/"+name(i), role, nil); err != nil {
			return nil, 0, err
		}
		if err := k.as(k.root).call(http.MethodGet, "database/static-creds/"+name(i), nil, &first[i]); err != nil {
			return nil, 0, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	last := first[n-1].Data.At.Add(rotatingPeriod + beforeReading)
	if last.After(first[0].Data.At.Add(2 * rotatingPeriod)) {
		return nil, 0,
			errors.New("the first passwords change twice before the last has changed; this machine is too slow for " +
				"this row")
	}
	for _, until := range []time.Time{first[n/2].Data.At.Add(rotatingPeriod), last} {
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		if half == 0 {
			if half, err = resident(k.cmd.Process.Pid); err != nil {
				return nil, 0, err
			}
		}
	}
	late = make([]float64, n)
	for i := range n {
		var second rotated
		if err := k.as(k.root).call(http.MethodGet, "database/static-creds/"+name(i), nil, &second); err != nil {
			return nil, 0, err
		}
		due := first[i].Data.At.Add(rotatingPeriod)
		if second.Data.At.Before(due) {
			return nil, 0, fmt.Errorf("%s is %s late, and has not been changed",
				name(i), time.Since(due).Round(time.Second))
		}
		late[i] = second.Data.At.Sub(due).Seconds()
	}
	slices.Sort(late)
	return late, half, nil
}

// rotated is the part of the answer with a static role's password that the benchmark reads.
type rotated struct {
	Data struct {
		At time.Time `json:"last_vault_rotation"`
	} `json:"data"`
}
