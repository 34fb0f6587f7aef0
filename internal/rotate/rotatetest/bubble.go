package rotatetest

import (
	"testing"
	"testing/synctest"
)

// inBubble runs test in a bubble. Go reports a test that is skipped inside a bubble as passed.
// inBubble therefore repeats the skip outside the bubble, where make test counts it.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	skipped := false
	synctest.Test(t, func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		test(t)
	})
	if skipped {
		t.SkipNow()
	}
}
