//go:build integration

package system

import (
	"os"
	"testing"

	"github.com/keyturn/keyturn/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// object is the body of a request.
type object = map[string]any
