//go:build !unix

package main

import (
	"context"
	"errors"
)

// benchPostgres needs a server that runs as another user.
func benchPostgres(context.Context, *bench) ([]result, error) {
	return nil, errors.New("the row postgres is measured on Unix alone")
}

func benchExpiry(context.Context, *bench) ([]result, error) {
	return []result{{Row: "KV read p99 while leases end / idle", Unit: "ms", Budget: "≤ 2",
		Skipped: "the server of Redis for tests starts on Unix only"}}, nil
}

func benchLateness(context.Context, *bench) ([]result, error) {
	return []result{{Row: "expiry lateness", Unit: "s", Budget: "≤ 1",
		Skipped: "the server of Redis for tests starts on Unix only"}}, nil
}

func benchRotations(context.Context, *bench) ([]result, error) {
	return []result{{Row: "rotation lateness", Unit: "s", Budget: "≤ 1",
		Skipped: "the server of Redis for tests starts on Unix only"}}, nil
}
