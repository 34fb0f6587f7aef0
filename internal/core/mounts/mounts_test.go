package mounts_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/core/coretest"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// mounted returns the sorted paths of the secrets engines.
func mounted(t *testing.T, s *coretest.Server) (paths []string) {
	t.Helper()
	for path, v := range s.Must(route.Read, "sys/mounts", "").Data {
		if _, ok := v.(map[string]any); ok && strings.HasSuffix(path, "/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func wantMounted(t *testing.T, s *coretest.Server, paths ...string) {
	t.Helper()
	slices.Sort(paths)
	all := append([]string{"cubbyhole/", "sys/"}, paths...)
	slices.Sort(all)
	if got := mounted(t, s); !cmp.Equal(got, all) {
		t.Errorf("mounted are %q, want %q", got, all)
	}
}

func TestEnable(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/mounts/a/b",
		`{"type":"things","description":"d","config":{"default_lease_ttl":"1h","max_lease_ttl":"2h"}}`)
	for _, tt := range []struct{ path, body, says string }{
		{"a/b", `{"type":"things"}`, "already in use at a/b/"},
		{"a", `{"type":"things"}`, "there are mounts below"},
		{"a/b/c", `{"type":"things"}`, "it is below \"a/b/\""},
		{"n", `{}`, `field "type"`},
		{"n", `{"type":"nonesuch"}`, "there is no secrets engine \"nonesuch\"; there are kv, things"},
		{"n", `{"type":"cubbyhole"}`, "there is no secrets engine"},
		{"n", `{"type":"things","config":{"default_lease_ttl":"3h","max_lease_ttl":"2h"}}`,
			"must not be above max_lease_ttl"},
		{"n", `{"type":"things","config":{"default_lease_ttl":"8760h"}}`, "must not be above max_lease_ttl"},
		{"n", `{"type":"things","config":{"listing_visibility":"secret"}}`, "listing_visibility"},
		{"n", `{"type":"things","options":{"color":"green"}}`, `not "green"`},
		{"sys/n", `{"type":"things"}`, "reserved"},
		{"auth/n", `{"type":"things"}`, "reserved"},
		{"cubbyhole", `{"type":"things"}`, "reserved"},
		{"identity", `{"type":"things"}`, "reserved"},
		{"a b", `{"type":"things"}`, "letters, digits"},
		{strings.Repeat("n", 257), `{"type":"things"}`, "1 to 256"},
	} {
		s.Refused(route.Write, "sys/mounts/"+tt.path, tt.body, fault.Invalid, tt.says)
	}
	s.Refused(route.Write, "sys/auth/n", `{"type":"nonesuch"}`, fault.Invalid, "there is no login method")
	s.Refused(route.Write, "sys/auth/n", `{"type":"token"}`, fault.Invalid, "there is no login method")
	wantMounted(t, s, "a/b/")
	got := s.Must(route.Read, "sys/mounts/a/b", "").Data
	c := got["config"].(map[string]any)
	if got["description"] != "d" || c["default_lease_ttl"] != 3600.0 || c["max_lease_ttl"] != 7200.0 ||
		got["options"] != nil {
		t.Errorf("it is %v", got)
	}
	if !strings.HasPrefix(got["accessor"].(string), "things_") || len(got["uuid"].(string)) != 36 {
		t.Errorf("named %v and %v", got["accessor"], got["uuid"])
	}
	s.Restart()
	wantMounted(t, s, "a/b/")
	if again := s.Must(route.Read, "sys/mounts/a/b", "").Data; !cmp.Equal(got, again) {
		t.Errorf("after a restart:\n%s", cmp.Diff(got, again))
	}
}

// TestOptions: the engine checks its options, adds operations to their commit, and is reopened
// when they change. Requests reach the new engine at once.
func TestOptions(t *testing.T) {
	s := coretest.Start(t)
	if a := s.Must(route.Write, "sys/mounts/m", `{"type":"things","options":{"color":"blue"}}`); !cmp.Equal(a.Warnings,
		[]string{"blue fades"}) {
		t.Errorf("warnings %q", a.Warnings)
	}
	wantColor := func(color string) {
		t.Helper()
		if got := s.Must(route.Read, "m/status", "").Data; got["color"] != color || got["painted"] != color {
			t.Errorf("it is %v, want %s", got, color)
		}
	}
	wantColor("blue")
	opened := s.Things.Opened()
	s.Must(route.Write, "sys/mounts/m/tune", `{"description":"d"}`)
	s.Must(route.Write, "sys/mounts/m/tune", `{"options":{"color":"blue"}}`)
	if n := s.Things.Opened(); n != opened {
		t.Errorf("opened %d times more, although no option has changed", n-opened)
	}
	s.Must(route.Write, "sys/mounts/m/tune", `{"options":{"color":"red"},"description":"e"}`)
	wantColor("red")
	if n := s.Things.Opened(); n != opened+1 {
		t.Errorf("opened %d times, want once", n-opened)
	}
	s.Refused(route.Write, "sys/mounts/m/tune", `{"options":{"color":"blue"},"description":"f"}`, fault.Invalid,
		"what is red stays so")
	s.Refused(route.Write, "sys/mounts/m/tune", `{"options":{"color":"green"}}`, fault.Invalid, `not "green"`)
	wantColor("red")
	if got := s.Must(route.Read, "sys/mounts/m", "").Data; got["description"] != "e" ||
		!cmp.Equal(got["options"], map[string]any{"color": "red"}) {
		t.Errorf("a refused tune has changed it: %v", got)
	}
	if a := s.Must(route.Write, "sys/auth/token/tune", `{"options":{"x":"y"}}`); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "token reads none") {
		t.Errorf("options that nothing reads: warnings %q", a.Warnings)
	}
}

// TestTuneFails: whether or not a failed tune was stored, the server uses the stored settings, at
// the latest after the next change.
func TestTuneFails(t *testing.T) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		synctest.Test(t, func(t *testing.T) {
			s := coretest.Start(t)
			s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
			time.Sleep(time.Second) // the feed has caught up, and reads nothing while faults are injected
			synctest.Wait()
			s.Store.Inject(faulty.Fault{Prefix: mount.Prefix, Mode: mode})
			s.Store.Inject(faulty.Fault{Prefix: mount.Prefix, Calls: faulty.Gets | faulty.Scans, Times: 2})
			_, err := s.Do(coretest.Request{
				Op: route.Write, Path: "sys/mounts/m/tune", Body: `{"options":{"color":"red"}}`,
			})
			if err == nil && mode == faulty.NotStored {
				t.Error("a commit that was not stored is a success")
			}
			time.Sleep(time.Second)
			synctest.Wait()
			color := map[faulty.Mode]any{faulty.NotStored: "", faulty.Stored: "red"}[mode]
			s.Must(route.Write, "sys/mounts/m/tune", `{"description":"d"}`)
			if got := s.Must(route.Read, "m/status", "").Data["color"]; got != color {
				t.Errorf("mode %d: it is %v, want %v", mode, got, color)
			}
			s.Restart()
			if got := s.Must(route.Read, "m/status", "").Data["color"]; got != color {
				t.Errorf("mode %d: after a restart it is %v, want %v", mode, got, color)
			}
			s.Stop()
		})
	}
}

// TestOtherServers: the other servers of a store follow a change of the mounts after a moment, and
// simultaneous changes of several servers are all kept.
func TestOtherServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := coretest.Start(t)
		b := a.Another()
		moment := func() { time.Sleep(time.Second); synctest.Wait() }
		a.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
		moment()
		wantMounted(t, b, "m/")
		b.Must(route.Write, "sys/mounts/m/tune", `{"options":{"color":"red"}}`)
		moment()
		if got := a.Must(route.Read, "m/status", "").Data["color"]; got != "red" {
			t.Errorf("the other server's engine is %v", got)
		}
		a.Must(route.Write, "sys/mounts/m/tune", `{"description":"by a"}`) // before b knows of it
		b.Must(route.Write, "sys/mounts/m/tune", `{"max_lease_ttl":"1h"}`)
		moment()
		for _, s := range []*coretest.Server{a, b} {
			got := s.Must(route.Read, "sys/mounts/m", "").Data
			if got["description"] != "by a" || got["config"].(map[string]any)["max_lease_ttl"] != 3600.0 {
				t.Errorf("it is %v, want both changes", got)
			}
		}
		b.Must(route.Write, "sys/remount", `{"from":"m","to":"n"}`)
		moment()
		wantMounted(t, a, "n/")
		a.Must(route.Delete, "sys/mounts/n", "")
		moment()
		wantMounted(t, b)
		if _, err := b.Do(coretest.Request{Op: route.Read, Path: "n/status"}); !fault.Is(err, fault.NotFound) {
			t.Errorf("the other server still serves it: %v", err)
		}
		a.Stop()
		b.Stop()
	})
}

// TestFollowRestarts: a broken feed is started again, and misses no change.
func TestFollowRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := coretest.Start(t)
		b := a.Another()
		synctest.Wait()
		a.Store.Inject(faulty.Fault{Calls: faulty.Scans, Prefix: mount.Prefix, Times: 3})
		a.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantMounted(t, a, "m/")
		wantMounted(t, b, "m/")
		a.Stop()
		b.Stop()
	})
}

func TestMove(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/mounts/m", `{"type":"kv"}`)
	s.Must(route.Write, "sys/mounts/other", `{"type":"things"}`)
	s.Must(route.Write, "m/a", `{"v":"1"}`)
	for _, tt := range []struct{ from, to, says string }{
		{"none", "n", `field "from": nothing is mounted`},
		{"sys", "n", "cannot be moved"},
		{"cubbyhole", "n", "cannot be moved"},
		{"auth/token", "auth/n", "cannot be moved"},
		{"m", "auth/n", "cannot be moved below auth/"},
		{"m", "other", "already in use"},
		{"m", "other/deep", "it is below"},
		{"m", "sys/n", "reserved"},
		{"m", "a b", "letters, digits"},
		{"m", "", "both needed"},
	} {
		s.Refused(route.Write, "sys/remount", `{"from":"`+tt.from+`","to":"`+tt.to+`"}`, fault.Invalid, tt.says)
	}
	wantMounted(t, s, "m/", "other/")
	a := s.Must(route.Write, "sys/remount", `{"from":"m/","to":"m/deeper"}`)
	wantMounted(t, s, "m/deeper/", "other/")
	if got := s.Must(route.Read, "m/deeper/a", "").Data["v"]; got != "1" {
		t.Errorf("the secret is %v", got)
	}
	if got := s.Must(route.Read, "sys/remount/status/"+a.Data["migration_id"].(string),
		"").Data["migration_info"]; !cmp.Equal(got,
		map[string]any{"source_mount": "m/", "target_mount": "m/deeper/", "status": "success"}) {
		t.Errorf("the move reads %v", got)
	}
	s.Restart()
	wantMounted(t, s, "m/deeper/", "other/")
}

// TestRetire: a disabled mount issues nothing, continues to revoke its leases, and is then removed
// with all its data. Its path is free at once.
func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coretest.Start(t)
		s.Must(route.Write, "sys/mounts/m", `{"type":"things","options":{"color":"red"}}`)
		s.Must(route.Read, "m/creds/r", "")
		s.Things.Undo(errors.New("away"))
		s.Must(route.Delete, "sys/mounts/m", "")
		wantMounted(t, s)
		s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`) // a new mount
		if got := s.Must(route.Read, "m/status", "").Data["painted"]; got != "" {
			t.Errorf("a new mount has the old one's data: %v", got)
		}
		s.Restart() // the job continues
		if n := len(s.Things.Alive()); n != 1 {
			t.Fatalf("%d things, want the one that cannot be undone", n)
		}
		s.Things.Undo(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(s.Things.Alive()); n != 0 {
			t.Errorf("%d things are left", n)
		}
		if n := rows(t, s, "mount/"); n != 1 { // that of the new mount
			t.Errorf("%d rows of engines are left, want the new one's alone", n)
		}
		wantMounted(t, s, "m/")
		s.Must(route.Delete, "sys/mounts/m", "")
		s.Must(route.Delete, "sys/mounts/m", "")
		for _, fixed := range []string{"sys", "cubbyhole"} {
			s.Refused(route.Delete, "sys/mounts/"+fixed, "", fault.Invalid, "cannot be disabled")
		}
		s.Refused(route.Delete, "sys/auth/token", "", fault.Invalid, "cannot be disabled")
		s.Stop()
	})
}

func rows(t *testing.T, s *coretest.Server, prefix string) (n int) {
	t.Helper()
	for _, err := range s.Store.Scan(t.Context(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestRetireWhileBusy: a mount with unfinished work cannot be disabled, except by force.
func TestRetireWhileBusy(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
	s.Things.Busy(fault.New("things", fault.Conflict, "a rotation is under way; wait for its end"))
	s.Refused(route.Delete, "sys/mounts/m", "", fault.Conflict, "wait for its end")
	wantMounted(t, s, "m/")
	s.MustDo(coretest.Request{Op: route.Delete, Path: "sys/mounts/m", Query: map[string][]string{"force": {"true"}}})
	wantMounted(t, s)
}

func TestBounds(t *testing.T) {
	s := coretest.Start(t, func(c *core.Config) { c.DefaultTTL, c.MaxTTL = 2*time.Hour, 3*time.Hour })
	s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
	for _, tt := range []struct {
		tune          string
		ttl, leaseTTL int
	}{
		{`{}`, 7200, 7200},
		{`{"default_lease_ttl":"30m"}`, 1800, 1800},
		// the server's, within the mount's maximum
		{`{"default_lease_ttl":"system","max_lease_ttl":"1h"}`, 3600, 3600},
		{`{"max_lease_ttl":"system"}`, 7200, 7200},
		{`{"max_lease_ttl":"24h","default_lease_ttl":"12h"}`, 43200, 43200}, // a mount may have more than the server
	} {
		s.Must(route.Write, "sys/mounts/m/tune", tt.tune)
		if got := s.Must(route.Read, "sys/mounts/m/tune", "").Data["default_lease_ttl"]; got != float64(tt.ttl) {
			t.Errorf("after %s the TTL is %v, want %d", tt.tune, got, tt.ttl)
		}
		if a := s.Must(route.Read, "m/creds/r", ""); a.TTL < tt.leaseTTL-1 || a.TTL > tt.leaseTTL {
			t.Errorf("after %s a lease lives %d s, want %d", tt.tune, a.TTL, tt.leaseTTL)
		}
	}
}

// TestRows: the mounts of a new installation are checked like later ones.
func TestRows(t *testing.T) {
	types := mounts.Types{Engines: []engine.Type{new(coretest.Things).Type()}, Auths: []auth.Type{}}
	if !types.Has("things") || types.Has("kv") {
		t.Error("Has is wrong")
	}
	ops, err := mounts.Rows(types, time.Hour, []mount.Entry{
		{Path: "m", Type: "things", Options: map[string]string{"color": "red"}}, {Path: "n", Type: "things"},
	})
	if err != nil || len(ops) != 4 { // two mounts, each with a record and the engine's operation
		t.Fatalf("%d rows, %v", len(ops), err)
	}
	keys := map[string]bool{}
	for _, op := range ops {
		keys[op.Key[:strings.IndexByte(op.Key, '/')]] = true
	}
	if !cmp.Equal(keys, map[string]bool{"core": true, "mount": true}) {
		t.Errorf("rows below %v", keys)
	}
	for says, e := range map[string][]mount.Entry{
		"already in use":    {{Path: "m", Type: "things"}, {Path: "m", Type: "things"}},
		"no secrets engine": {{Path: "m", Type: "kv"}},
		"reserved":          {{Path: "sys", Type: "things"}},
		`not "green"`:       {{Path: "m", Type: "things", Options: map[string]string{"color": "green"}}},
	} {
		_, err := mounts.Rows(types, time.Hour, e)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), says) {
			t.Errorf("%v: %v, want %q", e, err, says)
		}
	}
}

// TestMissingType: a server that was built without the engine of a mount reports it when it is
// unsealed, and loses nothing.
func TestMissingType(t *testing.T) {
	s := coretest.Start(t)
	s.Must(route.Write, "sys/mounts/m", `{"type":"things"}`)
	without := *s
	c := s.Config()
	c.Engines = slices.DeleteFunc(slices.Clone(c.Engines), func(e engine.Type) bool { return e.Name == "things" })
	without.Core = core.New(c)
	go func() { _ = without.Core.Run(t.Context()) }()
	err := without.AutoUnseal(t.Context())
	if err == nil || !strings.Contains(err.Error(), "opening the mount at m/") {
		t.Errorf("unsealed without the engine: %v", err)
	}
	s.Restart()
	wantMounted(t, s, "m/")
}
