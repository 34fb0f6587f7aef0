//go:build integration

package system

import (
	"os"
	"os/exec"
	"testing"

	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
)

// TestHvac runs Debian's Python client with testdata/hvac.py.
func TestHvac(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // the interpreter of Debian's packages
	if out, err := exec.Command(python, "-c", "import hvac").CombinedOutput(); err != nil {
		if os.Getenv("KEYTURN_TEST_REQUIRE") != "" {
			t.Fatalf("no hvac: %v\n%s", err, out)
		}
		t.Skipf("NOT TESTED: python3-hvac is not installed: %v\n%s", err, out)
	}
	pg := pgtest.Start(t, pgtest.Options{})
	s := harness.Ready(t, harness.Options{Config: `outbound_allow = ["127.0.0.0/8"]`})
	cmd := exec.Command(python, "testdata/hvac_calls.py")
	cmd.Env = append(s.Environ(), "POSTGRES="+pg.Addr(), "POSTGRES_PASSWORD="+pgtest.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
