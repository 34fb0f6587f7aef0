package token

import (
	"context"
	"strings"
	"time"
)

// Follow keeps the cache true to the store until ctx ends.
func (s *Store) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		begun := false
		for ch, err := range s.view.Watch(ctx, Prefix, 0) {
			if err != nil {
				break
			}
			if !begun { // what was changed after a token was read, and before the feed began, is in no change
				begun = true
				s.cache.clear()
			}
			if ch.Key != "" {
				s.cache.drop(strings.TrimPrefix(ch.Key, Prefix))
			}
			s.cache.seen.Store(time.Now().UnixNano())
		}
		s.cache.seen.Store(0)
		s.cache.clear()
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ctx.Err()
}
