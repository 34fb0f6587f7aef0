package core

import (
	"context"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/route"
)

// guardEvery is how often the token of a stream is looked at.
const guardEvery = time.Second

// watched is a stream that ends when its token may no longer be used, or with the
// unsealed scope.
func (h *house) watched(x *exchange, stream route.Stream) route.Stream {
	tok, remote := x.r.Token, x.r.Remote.Addr()
	return func(ctx context.Context, send func([]byte) error) error {
		scope, end := h.scope()
		defer end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(scope, cancel)()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			tick := time.NewTicker(guardEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if e, err := h.tokens.Lookup(ctx, tok); err != nil || e.Usable(time.Now(), remote) != "" {
					cancel()
				}
			}
		})
		return stream(ctx, send)
	}
}
