package token

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

// Follow removes changed tokens from the cache until ctx ends.
func (s *Store) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		begun := false
		for ch, err := range s.view.Watch(ctx, Prefix, 0) {
			if err != nil {
				break
			}
			if !begun { // the feed does not report changes from before it began
				begun = true
				s.cache.clear()
			}
			if ch.Key != "" {
				s.cache.drop(strings.TrimPrefix(ch.Key, Prefix))
			}
			s.cache.feedSeen.Store(time.Now().UnixNano())
		}
		s.cache.feedSeen.Store(0)
		s.cache.clear()
		cron.Pause(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}
