package token

import (
	"fmt"
	"testing"
)

// TestCacheIsBounded: large tokens do not exceed the cache's limit.
func TestCacheIsBounded(t *testing.T) {
	for _, size := range []int{500, maxCachedRecord, maxCachedRecord + 1, 1 << 20} {
		var c cache
		for i := range maxCached + 10 {
			c.put(&Entry{ID: fmt.Sprint(i), State: State{size: size}}, 0)
			c.put(&Entry{ID: fmt.Sprint(i), State: State{size: size}}, 0)
			want := 0 // all tokens, until the limit is reached, when the cache is cleared
			if size <= maxCachedRecord {
				want = i%min(maxCached, maxBytes/size) + 1
			}
			if c.bytes != want*size || len(c.m) != want {
				t.Fatalf("after %d tokens of %d bytes it holds %d, %d bytes; want %d", i+1, size, len(c.m), c.bytes,
					want)
			}
		}
		if last := c.m[fmt.Sprint(maxCached+9)]; (last != nil) != (size <= maxCachedRecord) {
			t.Errorf("a token of %d bytes is held: %v", size, last != nil)
		}
		for i := range maxCached + 10 {
			c.drop(fmt.Sprint(i))
		}
		if c.bytes != 0 || len(c.m) != 0 {
			t.Errorf("%d tokens, %d bytes are left", len(c.m), c.bytes)
		}
	}
}
