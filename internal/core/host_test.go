package core_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// TestPublish: an engine publishes with the current policies of the configurer of the key, and
// each rotation creates one version.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		s.Must(route.Write, "sys/mounts/secret", `{"type":"kv-v2"}`)
		s.Must(route.Write, "sys/mounts/plain", `{"type":"kv"}`)
		publish := func(turn, path, policies string) coretest.Request {
			return coretest.Request{Op: route.Write, Path: "m/publish", Body: `{"turn":"` + turn + `","path":"` +
				path + `","value":"canary","policies":["` + policies + `"]}`}
		}
		s.RefusedDo(publish("t1", "secret/app", "none"), fault.Denied, "do not allow writing \"secret/data/app\"")
		s.Must(route.Write, "sys/policies/acl/pub",
			`{"policy":"path \"secret/data/app\" { capabilities = [\"create\"] }"}`)
		s.RefusedDo(publish("t1", "secret/app", "pub"), fault.Denied, "grant create and update")
		s.Must(route.Write, "sys/policies/acl/pub",
			`{"policy":"path \"secret/data/app\" { capabilities = [\"create\", \"update\"] }"}`)
		for _, turn := range []string{"t1", "t1", "t2"} {
			a := s.MustDo(publish(turn, "secret/app", "pub"))
			if want := map[string]float64{"t1": 1, "t2": 2}[turn]; a.Data["version"] != want {
				t.Errorf("turn %s is version %v, want %v", turn, a.Data["version"], want)
			}
		}
		got := s.Must(route.Read, "m/published/secret/app", "").Data
		if !cmp.Equal(got, map[string]any{"version": 2.0, "turn": "t2"}) {
			t.Errorf("published is %v", got)
		}
		s.RefusedDo(publish("t3", "secret/other", "pub"), fault.Denied, "secret/data/other")
		for path, says := range map[string]string{
			"plain/app": "versioned kv mount", "nowhere/app": "versioned kv mount", "secret": "name a secret below",
		} {
			s.RefusedDo(publish("t3", path, "root"), fault.Invalid, says)
		}
		s.Must(route.Write, "sys/audit/tape", `{"type":"tape"}`)
		s.Tape.Fail(true) // what the server does on its own is also audited first
		if _, err := s.Do(publish("t4", "secret/app", "pub")); !fault.Is(err, fault.Unavailable) {
			t.Errorf("published without an audit line: %v", err)
		}
		s.Tape.Fail(false)
		time.Sleep(10 * time.Second) // the device is retried
		if a := s.MustDo(publish("t5", "secret/app", "pub")); a.Data["version"] != 3.0 {
			t.Errorf("it is version %v: one that could not be audited was made", a.Data["version"])
		}
		text := s.Tape.Text()
		if !strings.Contains(text, `"path":"secret/data/app"`) || strings.Contains(text, "canary") {
			t.Errorf("the tape holds %s", text)
		}
		s.Stop()
	})
}

// TestMayPublish: the caller who configures a publication must be allowed to write the path. The
// error says what is missing.
func TestMayPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		s.Must(route.Write, "sys/mounts/secret", `{"type":"kv-v2"}`)
		const configures = `path "m/*" { capabilities = ["create", "update"] }` + "\n"
		claim := func(token, path string) coretest.Request {
			return coretest.Request{Op: route.Write, Path: "m/claim", Token: token, Body: `{"path":"` + path + `"}`}
		}
		for rules, allowed := range map[string]bool{
			"": false,
			`path "secret/data/victim" { capabilities = ["create"] }`:           false,
			`path "secret/victim" { capabilities = ["create", "update"] }`:      false,
			`path "secret/data/victim" { capabilities = ["create", "update"] }`: true,
			"path \"secret/data/victim\" {\n capabilities = [\"create\", \"update\"]\n required_parameters = " +
				"[\"data\"]\n}": true,
			"path \"secret/data/victim\" {\n capabilities = [\"create\", \"update\"]\n denied_parameters = { " +
				"\"data\" = [] }\n}": false,
			"path \"secret/data/victim\" {\n capabilities = [\"create\", \"update\"]\n allowed_parameters = { " +
				"\"options\" = [] }\n}": false,
			"path \"secret/*\" { capabilities = [\"create\", \"update\"] }\npath \"secret/data/victim\" { " +
				"capabilities = [\"deny\"] }\n": false,
		} {
			token := s.Login(configures + rules)
			if allowed {
				s.MustDo(claim(token, "secret/victim"))
				continue
			}
			s.RefusedDo(claim(token, "secret/victim"), fault.Denied,
				`add a rule for "secret/data/victim" with the capabilities create and update`)
		}
		s.Must(route.Write, "m/claim", `{"path":"secret/victim"}`) // root
		s.Stop()
	})
}

// TestReuseLease: if an engine prefers an earlier lease, its owner gets it again until it expires.
func TestReuseLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		first := s.Must(route.Read, "m/creds/same", `{"ttl":"1h"}`)
		time.Sleep(10 * time.Minute)
		if a := s.Must(route.Read, "m/creds/same", `{"ttl":"1h"}`); a.LeaseID != first.LeaseID ||
			a.Data["attempt"] != "again" || a.TTL != 3000 {
			t.Errorf("it is lent %s for %d s, want the lease of before for 3000", a.Body, a.TTL)
		}
		other := s.Login(`path "m/creds/*" { capabilities = ["read"] }`)
		if a := s.MustDo(coretest.Request{
			Op: route.Read, Path: "m/creds/same", Token: other,
		}); a.LeaseID == first.LeaseID {
			t.Error("another token was given somebody's lease")
		}
		mine := s.Must(route.Read, "m/creds/same", `{"ttl":"1h"}`)
		time.Sleep(55 * time.Minute) // the last tenth of its life
		if a := s.Must(route.Read, "m/creds/same", `{"ttl":"1h"}`); a.LeaseID == mine.LeaseID {
			t.Error("a lease that ends soon was given out again")
		}
		s.Stop()
	})
}

// TestDisableReportsUnrevokedLeases checks the warnings of the answer, and how long it waits.
func TestDisableReportsUnrevokedLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		for range 3 {
			s.Must(route.Read, "m/creds/r", "")
		}
		began := time.Now()
		if a := s.Must(route.Delete, "sys/mounts/m", ""); a.Status != 204 || time.Since(began) > time.Second {
			t.Errorf("without trouble: status %d after %s, %q", a.Status, time.Since(began), a.Warnings)
		}
		wantAlive(t, s, 0, 0)
		if _, err := s.Do(coretest.Request{Op: route.List, Path: "sys/jobs"}); err == nil {
			time.Sleep(time.Minute) // the job only waits to remove the mount
		}
		s.Must(route.Write, "sys/mounts/n", `{"type":"things"}`)
		s.Must(route.Read, "n/creds/r", "")
		s.Things.Undo(errors.New("the target is away"))
		began = time.Now()
		a := s.Must(route.Delete, "sys/mounts/n", "")
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "1 of its leases could not be revoked") ||
			!strings.Contains(a.Warnings[0], "the target is away") {
			t.Errorf("warnings %q", a.Warnings)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the answer took %s", took)
		}
		keys := s.Must(route.List, "sys/jobs", "").Data["keys"].([]any)
		job := "sys/jobs/" + keys[0].(string)
		got := s.Must(route.Read, job, "").Data
		if got["kind"] != "disable" || got["path"] != "n/" || got["leases_left"] != 1.0 ||
			got["leases_failing"] != 1.0 {
			t.Errorf("the job reads %v", got)
		}
		s.Restart()
		s.Must(route.Read, job, "")
		s.Things.Undo(nil)
		wantAlive(t, s, 5*time.Minute, 0)
		s.Refused(route.Read, job, "", fault.NotFound, "")
		s.Refused(route.Read, "sys/jobs/none", "", fault.NotFound, "")
		s.Stop()
	})
}

// TestDisableWhileCreatesAreLate: leases whose create may still take effect are not failing. The
// answer says that they are still being revoked.
func TestDisableWhileCreatesAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		s.Things.Create(fault.New("things", fault.Timeout, "no answer"), true)
		s.Refused(route.Read, "m/creds/r", "", fault.Timeout, "no answer")
		a := s.Must(route.Delete, "sys/mounts/m", "")
		if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "still being revoked") {
			t.Errorf("warnings %q", a.Warnings)
		}
		wantAlive(t, s, 2*time.Minute, 0)
		s.Stop()
	})
}

// TestDataKey: the data key is rotated on request, and by the server itself when it is old.
func TestDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		term := func() float64 { return s.Must(route.Read, "sys/key-status", "").Data["term"].(float64) }
		first := term()
		s.Must(route.Write, "sys/rotate", "")
		if got := term(); got != first+1 {
			t.Errorf("the key is number %v, want %v", got, first+1)
		}
		s.Must(route.Write, "sys/rotate/config", `{"interval":"24h"}`)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got := term(); got != first+2 {
			t.Errorf("after a day the key is number %v, want %v", got, first+2)
		}
		if got := s.Must(route.Read, "sys/rotate/config", "").Data["interval"]; got != 86400.0 {
			t.Errorf("the interval is %v", got)
		}
		s.Restart()
		if got := term(); got != first+2 {
			t.Errorf("after a restart it is number %v", got)
		}
		s.Stop()
	})
}

// TestCounts: the counts in memory survive a restart, and are corrected by a recount.
func TestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startWithThings(t)
		for range 7 {
			s.Must(route.Read, "m/creds/r", "")
		}
		time.Sleep(3 * time.Minute) // it was counted while they came, and is counted again
		if n := s.Stats().Leases; n != 7 {
			t.Errorf("%d leases are counted", n)
		}
		s.Restart()
		time.Sleep(3 * time.Minute) // it was counted while they came, and is counted again
		if n := s.Stats().Leases; n != 7 {
			t.Errorf("after a restart %d leases are counted", n)
		}
		if got := s.Must(route.Read, "sys/leases/count", "").Data["lease_count"]; got != 7.0 {
			t.Errorf("sys/leases/count says %v", got)
		}
		s.Stop()
	})
}

// TestPublicEndpoints checks what the HTTP layer reads from core, sealed or not.
func TestPublicEndpoints(t *testing.T) {
	s := coretest.Start(t)
	ctx := t.Context()
	s.Must(route.Write, "sys/config/cors", `{"allowed_origins":["https://a.example"]}`)
	if c, err := s.CORS(ctx); err != nil || !c.Enabled() || !cmp.Equal(c.Origins, []string{"https://a.example"}) {
		t.Errorf("CORS is %+v, %v", c, err)
	}
	if _, err := s.UIHeaders(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if c, err := s.CORS(ctx); err != nil || c.Enabled() {
		t.Errorf("sealed, CORS is %+v, %v", c, err)
	}
}
