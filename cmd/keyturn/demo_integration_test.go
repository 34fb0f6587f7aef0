//go:build integration

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestLong tells what takes its time: the scripts of testdata/integration.
func TestLong(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/integration", RequireUniqueNames: true, RequireExplicitExec: true,
		Condition: condition,
	})
}
