package lease

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
)

// TestErrorText: the target's error comes first, is not cut off by our message, and is not
// repeated.
func TestErrorText(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{fault.New("a.B", fault.Upstream, "it refused; do this"), "it refused; do this"},
		{&fault.Error{
			Op: "a.B", Kind: fault.Upstream, Msg: "it refused; do this", Err: errors.New("SQLSTATE 2BP01: because"),
		}, "SQLSTATE 2BP01: because; it refused; do this"},
		{&fault.Error{Op: "a.B", Msg: "outer", Err: &fault.Error{
			Op: "c.D", Msg: "inner", Err: errors.New("SQLSTATE 2BP01: because"),
		}}, "SQLSTATE 2BP01: because; outer"},
		{fmt.Errorf("marked: %w", &fault.Error{Op: "a.B", Msg: "it refused", Err: errors.New("because")}),
			"because; it refused"},
		{&fault.Error{Op: "a.B", Msg: "it said because", Err: errors.New("because")}, "it said because"},
		{fault.Wrap("a.B", fault.Internal, errors.New("because")), "because"},
	} {
		if got := errorText(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	if got := errorText(errors.New(long[:512])); got != long[:512] {
		t.Errorf("the longest that is kept whole: %d bytes, %q", len(got), got[500:])
	}
	if got := errorText(errors.New(long[:513])); got != long[:512]+"…" {
		t.Errorf("one byte longer: %d bytes, %q", len(got), got[500:])
	}
	got := errorText(&fault.Error{Msg: long, Err: errors.New("SQLSTATE 2BP01: because" + long)})
	if !strings.HasPrefix(got, "SQLSTATE 2BP01: because") || len(got) > 1100 || !strings.Contains(got, "; xxx") {
		t.Errorf("a long one: %d bytes, %.60q", len(got), got)
	}
}
