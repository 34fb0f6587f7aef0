package redis

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// TestLongHost: a host is no longer than a name can be.
func TestLongHost(t *testing.T) {
	for size, ok := range map[int]bool{255: true, 256: false, 500_000: false} {
		if _, err := seeds(
			database.Config{Extra: map[string]string{"host": strings.Repeat("a", size)}}); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
