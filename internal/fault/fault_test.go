package fault

import (
	"errors"
	"testing"
)

// TestRedacted: the operation and messages stay at every depth; only the cause is redacted.
func TestRedacted(t *testing.T) {
	var scrub func(error) error
	scrub = func(err error) error {
		if e, ok := err.(*Error); ok {
			return e.Redacted(scrub)
		}
		return errors.New("[redacted]")
	}
	inner := &Error{Op: "inner.Op", Kind: Timeout, Err: errors.New("theirs")}
	err := (&Error{Op: "op", Kind: Upstream, Msg: "our words", Err: inner}).Redacted(scrub)
	got, want := err.Error(), "op: our words: inner.Op: [redacted]"
	if got != want || KindOf(err) != Upstream || Message(err) != "our words" {
		t.Errorf("got %q of kind %v, want %q", got, KindOf(err), want)
	}
	if inner.Err.Error() != "theirs" {
		t.Error("the error itself was changed")
	}
	if err := New("op", Invalid, "no cause").Redacted(scrub); errors.Unwrap(err) != nil {
		t.Errorf("a cause was made up: %v", err)
	}
}
