package inprocess_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestDisableTellsWhatIsNotRevoked checks that disabling a mount whose leases cannot be revoked
// warns, and names the job that continues and the list of failing leases. Once, it was a plain
// success although the credentials still worked.
func TestDisableTellsWhatIsNotRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		ids := []string{l.issue("a", "issuer/creds/r"), l.issue("a", "issuer/creds/r"),
			l.issue("a", "issuer/creds/other")}
		l.out.mu.Lock()
		l.out.dead = true
		l.out.mu.Unlock()
		a := l.must(t, route.Delete, "sys/mounts/issuer", l.root, "")
		if len(a.Warnings) != 1 {
			t.Fatalf("warnings %q", a.Warnings)
		}
		warning := a.Warnings[0]
		for _, part := range []string{"3 of its leases could not be revoked", "dead", "may still work", "sys/leases",
			"sys/leases/revoke-force/issuer/"} {
			if !strings.Contains(warning, part) {
				t.Errorf("the warning %q lacks %q", warning, part)
			}
		}
		jobs := l.must(t, route.List, "sys/jobs", l.root, "").Data["keys"].([]any)
		if len(jobs) != 1 || !strings.Contains(warning, fmt.Sprintf("sys/jobs/%s ", jobs[0])) {
			t.Fatalf("jobs are %v, and the warning is %q", jobs, warning)
		}
		job := fmt.Sprintf("sys/jobs/%s", jobs[0])
		got := l.must(t, route.Read, job, l.root, "").Data
		if got["kind"] != "disable" || got["path"] != "issuer/" || got["leases_left"] != 3.0 ||
			got["leases_failing"] == 0.0 || !strings.Contains(fmt.Sprint(got["revoke_error"]), "dead") {
			t.Errorf("the job reads %v", got)
		}
		failing := l.must(t, route.Read, "sys/leases", l.root, "").Data["leases"].([]any)
		if len(failing) == 0 || !strings.Contains(fmt.Sprint(ids), failing[0].(map[string]any)["lease_id"].(string)) {
			t.Errorf("failing leases are %v", failing)
		}

		l.out.mu.Lock()
		l.out.dead = false
		l.out.mu.Unlock()
		time.Sleep(2 * time.Minute) // the failed revocation is retried
		if living := l.out.Attempts(); len(living) != 0 {
			t.Errorf("still there are %v", living)
		}
		if _, err := l.ask(t, route.Read, job, l.root, ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("a job that is done: %v", err)
		}
		l.finally(2 * time.Minute)
	})
}

// TestDisableWithoutTrouble checks that the answer waits for immediate revocations and does not
// warn.
func TestDisableWithoutTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := issuing(t)
		for range 20 {
			l.issue("a", "issuer/creds/r")
		}
		if a := l.must(t, route.Delete, "sys/mounts/issuer", l.root, ""); a.Status != 204 || len(a.Warnings) > 0 {
			t.Errorf("status %d, warnings %q", a.Status, a.Warnings)
		}
		if living := l.out.Attempts(); len(living) != 0 {
			t.Errorf("once it was answered, there still are %v", living)
		}
		if a := l.must(t, route.Delete, "sys/mounts/issuer", l.root, ""); a.Status != 204 { // the mount is gone
			t.Errorf("again: status %d", a.Status)
		}
		l.finally(2 * time.Minute)
	})
}
