//go:build !race

package secret_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/secret"
)

// TestTextCopiesOnce: there is the copy, and the closure that holds it.
func TestTextCopiesOnce(t *testing.T) {
	text := strings.Repeat("x", 100)
	var v secret.Value
	if n := testing.AllocsPerRun(200, func() { v = secret.Text(text) }); n > 2 {
		t.Errorf("Text allocates %v times, want twice", n)
	}
	if v.RevealString() != text {
		t.Error("the text is another one")
	}
}
