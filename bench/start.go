package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// benchStart starts an empty server several times.
func benchStart(ctx context.Context, b *bench) ([]result, error) {
	var fresh, again []float64
	for n := range 2*b.rounds + 1 {
		k, err := newKeyturn(b, fmt.Sprint("start-", n))
		if err != nil {
			return nil, err
		}
		first, err := started(k, answers)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(k.furnish(false), k.stop()); err != nil {
			return nil, err
		}
		second, err := started(k, serves)
		if err := errors.Join(err, k.stop(), ctx.Err()); err != nil {
			return nil, err
		}
		fresh, again = append(fresh, first), append(again, second)
	}
	return []result{
		bounded("start, new folder, to first answer", median(fresh), "ms", 100),
		bounded("start, empty store, to first answer of a token", median(again), "ms", 100),
	}, nil
}

// started returns the milliseconds from the start to the first successful answer.
func started(k *keyturn, path string) (float64, error) {
	took, err := timed(func() error { return errors.Join(k.start(), k.await(path)) })
	return float64(took) / float64(time.Millisecond), err
}

// bounded returns the row of a figure with a limit.
func bounded(name string, got float64, unit string, limit float64) result {
	return result{Row: name, Keyturn: got, Unit: unit, Budget: fmt.Sprintf("≤ %g", limit), Met: got <= limit,
		decimals: 1}
}
