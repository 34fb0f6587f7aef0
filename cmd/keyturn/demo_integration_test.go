//go:build integration

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestLong runs the slow scripts, in testdata/integration.
func TestLong(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/integration", RequireUniqueNames: true, RequireExplicitExec: true,
		Condition: condition,
		Setup: func(env *testscript.Env) error {
			// PostgreSQL runs as another user, which cannot enter the folder of the script.
			dir, err := os.MkdirTemp("", "keyturn-long-")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("TMPDIR", dir)
			return os.Chmod(dir, 0o755)
		},
	})
}
