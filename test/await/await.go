// Package await waits for conditions in tests. Its limit is generous, because a test on an
// overloaded machine is slow, not broken.
package await

import (
	"testing"
	"time"
)

// Patience limits anything that should happen soon. Only a failing test waits that long, because
// each wait ends when its condition is true.
const Patience = 2 * time.Minute

// Eventually calls yes until it returns true, and fails the test after [Patience]. what describes
// the condition.
func Eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	if !Soon(yes) {
		t.Fatalf("after %s still not: %s", Patience, what)
	}
}

// Soon calls yes until it returns true, and reports whether it did within [Patience]. It is for
// code without a test.
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

// Within returns the error of f if f returned before until, and nil otherwise, because what f
// tried may have ended meanwhile. It is for what is valid only for seconds, such as a login with a
// short lease.
func Within(until time.Time, f func() error) error {
	err := f()
	if time.Now().After(until) {
		return nil
	}
	return err
}
