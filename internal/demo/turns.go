package demo

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// narrate prints a step in plain words. It leaves out details.
func (s *stage) narrate(now step) {
	id := now.More["key_id"]
	say := func(format string, args ...any) {
		s.out.say("key", "rotation %d: %s", now.Turn, fmt.Sprintf(format, args...))
	}
	switch now.What {
	case "rotate-now":
		say("begins")
	case "creating":
		if now.More["reason"] != "" { // otherwise the step is a continuation or another attempt
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

// configureKey configures the rotation of the key with the built-in recipe. It uses a token that
// may do only this.
func (s *stage) configureKey(ctx context.Context) error {
	return s.operator.do(ctx, http.MethodPost, "rotation/keys/"+keyName, map[string]any{
		"recipe": "http-demo", "params": map[string]string{"url": s.provider.url},
		"admin": map[string]string{"token": s.provider.admin},
		"path":  "secret/" + keyName, "rotation_period": "1h", "grace_period": grace.String(), "read_ttl": "1s",
		"idle_period": "1s", "settle_successes": 1, "settle_interval": "1s",
	}, nil)
}

// rotate starts a rotation and returns its number.
func (s *stage) rotate(ctx context.Context) (int, error) {
	var begun struct {
		Turn int `json:"rotation"`
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
	return reading{got.Data.Key, got.Metadata.Custom["key_id"], got.Metadata.Version,
		time.Duration(got.TTL) * time.Second}, err
}
