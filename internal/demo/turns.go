package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// The key of the demo, and where it is published.
const (
	keyName    = "payments"
	secretPath = "secret/data/" + keyName
	// grace is the least that is four times the shortest read_ttl.
	grace = 4 * time.Second
	// turnLimit is how long one turn may take before the demo gives up. A machine
	// so slow that an old key is still used at the end of its grace adds a minute.
	turnLimit = 2 * time.Minute
)

// A step is a row of the key's journal: a commit of its turn.
type step struct {
	What  string            `json:"what"`
	Turn  int               `json:"turn"`
	State string            `json:"state"`
	More  map[string]string `json:"more"`
}

// A turn is a row of the key's history.
type turn struct {
	N      int    `json:"turn"`
	Result string `json:"result"`
	Dead   string `json:"dead_proof"`
}

// A journal follows what a key goes through, over the API alone.
type journal struct {
	server func() *client
	heard  func(step)

	seen  int    // rows that were fetched
	queue []step // of these, what was not yet looked at
}

// ends are steps after which nothing goes on by itself.
var ends = []string{"gave-up", "asks", "paused", "unbound", "failed"}

// until looks at one step after the other until the turn has made the one named
// what. A server that does not answer is asked again.
func (j *journal) until(ctx context.Context, n int, what string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, turnLimit, fmt.Errorf("rotation %d was not %q within %s", n, what, turnLimit))
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

// fetch reads the history, and puts new steps in the queue.
func (j *journal) fetch(ctx context.Context) ([]turn, error) {
	var all struct {
		Turns []turn `json:"turns"`
		Steps []step `json:"steps"`
	}
	if err := j.server().do(ctx, http.MethodGet, "rotation/keys/"+keyName+"/history?steps=true", nil, &all); err != nil {
		return nil, err
	}
	if len(all.Steps) > j.seen {
		j.queue = append(j.queue, all.Steps[j.seen:]...)
		j.seen = len(all.Steps)
	}
	return all.Turns, nil
}

// narrate tells a step in plain words. What would bore is left out.
func (s *stage) narrate(now step) {
	id := now.More["key_id"]
	say := func(format string, args ...any) {
		s.out.say("key", "rotation %d: %s", now.Turn, fmt.Sprintf(format, args...))
	}
	switch now.What {
	case "rotate-now":
		say("begins")
	case "creating":
		if now.More["reason"] != "" { // else it began before, or this is another attempt
			say("begins")
		}
	case "created":
		say("the provider has created %s", id)
	case "settled":
		say("the new key works; verified again in a second")
	case "verified":
		say("the new key works: it was used as its consumer will use it")
	case "published":
		say("published: readers get the new key from now on")
	case "published-back":
		say("the old key is published again; the new one gets the same grace period")
	case "disabling":
		say("the grace period is over, and %s is idle", id)
	case "retiring":
		say("%s is deleted", id)
	case "in-use":
		say("the old key is still in use and stays valid")
	case "disabled":
		say("%s is disabled; for %s it could still be enabled again", id, grace)
	case "rollback":
		say("rolled back")
	case "rolled-back", "done":
		if now.More["proof"] != "" {
			say("a call with the deleted key is %s: it is dead", now.More["proof"])
		}
		say("%s; the provider lists one key", now.What)
	case "stumbled", "refused", "unaccounted", "gave-up", "asks", "paused", "unbound", "failed":
		say("%s: %s", now.What, now.More["error"]+now.More["alert"])
	}
}

// configureKey asks for the key to be turned from now on, by the built-in recipe.
// It does so with a token that may do this and no more.
func (s *stage) configureKey(ctx context.Context) error {
	return s.operator.do(ctx, http.MethodPost, "rotation/keys/"+keyName, map[string]any{
		"recipe": "http-demo", "params": map[string]string{"url": s.provider.url}, "admin": map[string]string{"token": s.provider.admin},
		"path": "secret/" + keyName, "rotation_period": "1h", "grace_period": grace.String(), "read_ttl": "1s",
		"idle_period": "1s", "settle_successes": 1, "settle_interval": "1s",
	}, nil)
}

// rotate starts a turn and returns its number.
func (s *stage) rotate(ctx context.Context) (int, error) {
	var begun struct {
		Turn int `json:"turn"`
	}
	err := s.operator.do(ctx, http.MethodPost, "rotation/keys/"+keyName+"/rotate", nil, &begun)
	return begun.Turn, err
}

// readKey reads the key as the consumer does.
func (s *stage) readKey(ctx context.Context) (reading, error) {
	var got struct {
		Data struct {
			Key string `json:"api_key"`
		} `json:"data"`
		Metadata struct {
			Version int               `json:"version"`
			Custom  map[string]string `json:"custom_metadata"`
		} `json:"metadata"`
		TTL int `json:"ttl"`
	}
	err := s.reader.do(ctx, http.MethodGet, secretPath, nil, &got)
	if err == nil && got.Data.Key == "" {
		err = fmt.Errorf("no api_key at %s", secretPath)
	}
	return reading{got.Data.Key, got.Metadata.Custom["key_id"], got.Metadata.Version, time.Duration(got.TTL) * time.Second}, err
}
