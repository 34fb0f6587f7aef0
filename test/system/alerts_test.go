//go:build integration

package system

import (
	"os/exec"
	"strings"
	"testing"
)

const alertRules = "../../deploy/prometheus/"

// TestAlertRules checks that Prometheus accepts the alert rules, and that each alert begins and
// ends with its cause.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", "keyturn.rules.yml"}, {"test", "rules", "keyturn.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = alertRules
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
