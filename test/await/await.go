// Package await waits in tests for a condition, and is generous: a test that runs on a machine with ten times
// more work than processors is slow, not broken.
package await

import (
	"testing"
	"time"
)

// Patience is how long anything that should happen soon may take on a busy machine. Only a test that fails
// waits that long: each wait ends at its condition.
const Patience = 2 * time.Minute

// Eventually asks until the answer is yes, and fails the test if it is not within [Patience]. what says what is
// waited for.
func Eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	if !Soon(yes) {
		t.Fatalf("after %s still not: %s", Patience, what)
	}
}

// Soon asks until the answer is yes, and says whether it was within [Patience]. It is for what has no test at hand.
func Soon(yes func() bool) bool {
	deadline := time.Now().Add(Patience)
	for wait := 2 * time.Millisecond; !yes(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(wait)
	}
	return true
}

// Within returns what f returned if that was before until, and nil if it was later: what f tried may have ended by
// itself since. It is for what holds only for a few seconds, such as the login of a user with a short lease.
func Within(until time.Time, f func() error) error {
	err := f()
	if time.Now().After(until) {
		return nil
	}
	return err
}
