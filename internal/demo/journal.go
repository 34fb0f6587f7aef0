package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// The key of the demo, and the path to which it is published.
const (
	keyName    = "payments"
	secretPath = "secret/data/" + keyName
	// grace is the shortest possible: four times the shortest read_ttl.
	grace = 4 * time.Second
	// turnLimit limits one rotation. On a machine so slow that the old key is still used at the
	// end of its grace period, the rotation takes a minute longer.
	turnLimit = 2 * time.Minute
)

// A step is a row of the key's journal: one commit of its rotation.
type step struct {
	What  string            `json:"what"`
	Turn  int               `json:"rotation"`
	State string            `json:"state"`
	More  map[string]string `json:"more"`
}

// A turn is a row of the key's history.
type turn struct {
	N      int    `json:"rotation"`
	Result string `json:"result"`
	Dead   string `json:"dead_proof"`
}

// A journal follows the rotations of a key through the API.
type journal struct {
	server func() *client
	heard  func(step)

	seen  int    // number of rows read so far
	queue []step // rows that were read but not handled yet
}

// ends are steps after which a rotation does not continue on its own.
var ends = []string{"gave-up", "asks", "paused", "unbound", "failed"}

// until handles one step after the other until the rotation reaches the given one. It retries
// while the server does not answer.
func (j *journal) until(ctx context.Context, n int, what string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, turnLimit, fmt.Errorf("rotation %d was not %q within %s",
		n, what, turnLimit))
	defer cancel()
	for {
		for len(j.queue) > 0 {
			next := j.queue[0]
			j.queue = j.queue[1:]
			j.heard(next)
			if next.Turn == n && next.What == what {
				return nil
			}
			if slices.Contains(ends, next.What) {
				return fmt.Errorf("rotation %d has stopped (%s): %s", next.Turn, next.What, next.More["alert"])
			}
		}
		_, err := j.fetch(ctx)
		if wait(ctx, 20*time.Millisecond) != nil {
			if err != nil && ctx.Err() != context.Canceled {
				return fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
			return context.Cause(ctx)
		}
	}
}

// fetch reads the history and appends new steps to the queue.
func (j *journal) fetch(ctx context.Context) ([]turn, error) {
	var all struct {
		Turns []turn `json:"rotations"`
		Steps []step `json:"steps"`
	}
	if err := j.server().do(ctx, http.MethodGet, "rotation/keys/"+keyName+"/history?steps=true", nil,
		&all); err != nil {
		return nil, err
	}
	if len(all.Steps) > j.seen {
		j.queue = append(j.queue, all.Steps[j.seen:]...)
		j.seen = len(all.Steps)
	}
	return all.Turns, nil
}
