package kv

import (
	"strconv"
	"testing"
)

// TestLatchCollisions: of 64 writers of different paths, few wait for each other. With 256
// latches, 7 would.
func TestLatchCollisions(t *testing.T) {
	const mounts, writers = 100, 64
	waiting := 0
	for range mounts {
		l := newLatches()
		for i := range writers {
			if !l.of("app-" + strconv.Itoa(i)).TryLock() {
				waiting++
			}
		}
	}
	if waiting > mounts*writers/20 {
		t.Errorf("%d of %d writers wait for a writer of another path; want a twentieth at most", waiting,
			mounts*writers)
	}
}
