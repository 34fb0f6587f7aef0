package inprocess_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

const upgradeBody = `{"options":{"version":"2"}}`

// current returns the value and version of a versioned secret.
func (s *server) current(t testing.TB, path string) (value string, version int) {
	t.Helper()
	a, err := s.ask(t, route.Read, path, s.root, "")
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return "", 0
		}
		t.Fatalf("read %s: %v", path, err)
	}
	data, _ := a.Data["data"].(map[string]any)
	value, _ = data["v"].(string)
	n, _ := a.Data["metadata"].(map[string]any)["version"].(float64)
	return value, int(n)
}

// TestKVUpgradeAtOnce checks that the mount is versioned once tune has answered: all secrets
// exist, and every request of version 2 works, although the migration continues.
func TestKVUpgradeAtOnce(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/mounts/old", s.root, `{"type":"kv"}`)
	const secrets = 300
	for n := range secrets {
		s.must(t, route.Write, fmt.Sprintf("old/app/%03d", n), s.root, fmt.Sprintf(`{"v":"%d"}`, n))
	}
	s.must(t, route.Write, "old/top", s.root, `{"v":"top","n":1e400}`)
	s.must(t, route.Write, "sys/mounts/old/tune", s.root, upgradeBody)

	if a := s.must(t, route.List, "old/metadata/app", s.root, ""); len(a.Data["keys"].([]any)) != secrets {
		t.Errorf("%d names are listed, want %d", len(a.Data["keys"].([]any)), secrets)
	}
	if a := s.must(t, route.List, "old/metadata", s.root, ""); !cmp.Equal(a.Data["keys"], []any{"app/", "top"}) {
		t.Errorf("at the top are %v", a.Data["keys"])
	}
	for n := secrets - 1; n >= 0; n-- { // in reverse order of the migration
		if v, version := s.current(t, fmt.Sprintf("old/data/app/%03d", n)); v != fmt.Sprint(n) || version != 1 {
			t.Fatalf("secret %d is %q in version %d", n, v, version)
		}
	}
	if _, err := s.ask(t, route.Write, "old/data/top", s.root,
		`{"data":{"v":"x"},"options":{"cas":0}}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("cas=0 over a secret that was there: %v, want it refused", err)
	}
	s.must(t, route.Write, "old/data/top", s.root, `{"data":{"v":"new"},"options":{"cas":1}}`)
	if v, version := s.current(t, "old/data/top"); v != "new" || version != 2 {
		t.Errorf("after a write with cas it is %q in version %d", v, version)
	}
	if got := s.must(t, route.Read, "sys/mounts/old", s.root, "").Data["options"]; !cmp.Equal(got,
		map[string]any{"version": "2"}) {
		t.Errorf("options are %v", got)
	}
	if _, err := s.ask(t, route.Write, "old/top", s.root, `{"v":"lost"}`); err == nil {
		t.Error("a write of version 1 was taken, and lands nowhere")
	}
}

// TestTuneJudgesOptions checks that the engine decides about changes of its options, for a new
// mount and for tune.
func TestTuneJudgesOptions(t *testing.T) {
	s := start(t, memory.Open())
	s.must(t, route.Write, "sys/mounts/one", s.root, `{"type":"kv","options":{"version":"1"}}`)
	s.must(t, route.Write, "sys/mounts/none", s.root, `{"type":"kv"}`)
	s.must(t, route.Write, "sys/mounts/two", s.root, `{"type":"kv-v2"}`)
	s.must(t, route.Write, "two/data/a", s.root, `{"data":{"v":"1"}}`)
	s.must(t, route.Write, "two/data/a", s.root, `{"data":{"v":"2"}}`)
	for _, c := range []struct{ mount, options, want string }{
		{"one", `{"version":"3"}`, `must be "1" or "2", not "3"`},
		{"one", `{"version":"abc"}`, `must be "1" or "2", not "abc"`},
		{"one", `{"version":""}`, `must be "1" or "2", not ""`},
		{"none", `{"version":3}`, `must be "1" or "2", not "3"`},
		{"two", `{"version":"3"}`, `must be "1" or "2", not "3"`},
		{"two", `{"version":"1"}`, "cannot be made unversioned"},
		{"two", `{"version":null}`, "cannot be made unversioned"},
	} {
		_, err := s.ask(t, route.Write, "sys/mounts/"+c.mount+"/tune", s.root, `{"options":`+c.options+`}`)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.want) {
			t.Errorf("options %s at %s: %v, want it refused with %q", c.options, c.mount, err, c.want)
		}
	}
	if _, err := s.ask(t, route.Write, "sys/mounts/three", s.root,
		`{"type":"kv","options":{"version":"3"}}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("a new mount of version 3: %v", err)
	}
	for _, c := range []struct {
		mount, options string
		want           any
		warned         bool
	}{
		{"one", `null`, map[string]any{"version": "1"}, false}, // the Go API sends it with every tune
		{"one", `{}`, map[string]any{"version": "1"}, false},
		{"none", `null`, nil, false},
		{"two", `{"version":"2"}`, map[string]any{"version": "2"}, false},
		{"two", `{"version":"2","type":"kv-v2"}`, map[string]any{"version": "2", "type": "kv-v2"}, true},
		{"two", `{"type":null}`, map[string]any{"version": "2"}, false},
		{"none", `{"version":"1"}`, map[string]any{"version": "1"}, false},
		{"none", `{"version":null}`, nil, false},
	} {
		a := s.must(t, route.Write, "sys/mounts/"+c.mount+"/tune", s.root, `{"options":`+c.options+`}`)
		if got := s.must(t, route.Read, "sys/mounts/"+c.mount, s.root, "").Data["options"]; !cmp.Equal(got, c.want) {
			t.Errorf("after options %s of %s they are %v, want %v", c.options, c.mount, got, c.want)
		}
		if (len(a.Warnings) > 0) != c.warned {
			t.Errorf("options %s of %s: warnings %q", c.options, c.mount, a.Warnings)
		}
	}
	if v, version := s.current(t, "two/data/a"); v != "2" || version != 2 {
		t.Errorf("the versioned secret is %q in version %d", v, version)
	}
}

// TestKVUpgradeCrashes crashes at each commit of an upgrade, stored and not stored, with
// background work and requests in flight. The next server has each secret once, with the last
// acknowledged value.
func TestKVUpgradeCrashes(t *testing.T) {
	const secrets = 4
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for n, crashed := 0, true; crashed; n++ {
			synctest.Test(t, func(t *testing.T) {
				st := faulty.New(memory.Open(), 1)
				s := start(t, st)
				s.must(t, route.Write, "sys/mounts/old", s.root, `{"type":"kv"}`)
				want := map[string]string{}
				for i := range secrets {
					name := fmt.Sprintf("s%d", i)
					s.must(t, route.Write, "old/"+name, s.root, `{"v":"first"}`)
					want[name] = "first"
				}
				st.CrashAfter(n, mode)
				_, terr := s.ask(t, route.Write, "sys/mounts/old/tune", s.root, upgradeBody)
				unsure := "" // the key whose last write is uncertain
				if terr == nil {
					_, werr := s.ask(t, route.Write, "old/data/s2", s.root,
						`{"data":{"v":"second"},"options":{"cas":1}}`)
					if werr == nil {
						want["s2"] = "second"
					} else {
						unsure = "s2"
					}
				}
				synctest.Wait()
				select {
				case <-st.Crashed():
				default:
					crashed = false
				}
				st.Revive()
				s = start(t, st)
				options, _ := s.must(t, route.Read, "sys/mounts/old", s.root, "").Data["options"].(map[string]any)
				if options["version"] != "2" {
					if terr == nil {
						t.Fatalf("crash at %d: tune has answered, and the options are %v", n, options)
					}
					for name, v := range want {
						if a := s.must(t, route.Read, "old/"+name, s.root, ""); a.Data["v"] != v {
							t.Fatalf("crash at %d: unversioned %s is %v", n, name, a.Data)
						}
					}
					s.must(t, route.Write, "sys/mounts/old/tune", s.root, upgradeBody)
				}
				for name, v := range want {
					got, version := s.current(t, "old/data/"+name)
					first, second := got == "first" && version == 1, got == "second" && version == 2
					if !first && !second || name != unsure && got != v {
						t.Fatalf("crash at %d (mode %d): %s is %q in version %d, want %q", n, mode, name, got, version,
							v)
					}
				}
				if a := s.must(t, route.List, "old/metadata", s.root, ""); len(a.Data["keys"].([]any)) != secrets {
					t.Fatalf("crash at %d: listed are %v", n, a.Data["keys"])
				}
			})
		}
	}
}

// TestKVUpgradeWithTwoServers upgrades the mount on one server while clients of both servers
// write. All acknowledged writes exist afterwards, in order. A write to the place of version 1 is
// refused, so that its client retries.
func TestKVUpgradeWithTwoServers(t *testing.T) {
	st := memory.Open()
	a := start(t, st)
	b := start(t, st)
	b.root = a.root
	a.must(t, route.Write, "sys/mounts/old", a.root, `{"type":"kv"}`)
	eventually(t, "the other server mounts it", func() bool {
		_, err := b.ask(t, route.Write, "old/first", b.root, `{"v":"1"}`)
		return err == nil
	})
	const writers, writes = 4, 60
	var wg sync.WaitGroup
	go2 := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			s, name := []*server{a, b}[w%2], fmt.Sprintf("w%d", w)
			for n := 1; n <= writes; n++ {
				if w == 0 && n == writes/3 {
					close(go2)
				}
				write(t, s, name, fmt.Sprint(n))
				checkRead(t, []*server{b, a}[w%2], name, fmt.Sprint(n))
			}
		})
	}
	wg.Go(func() {
		<-go2
		a.must(t, route.Write, "sys/mounts/old/tune", a.root, upgradeBody)
	})
	wg.Wait()
	for _, s := range []*server{a, b} {
		eventually(t, "the server is versioned", func() bool {
			_, err := s.ask(t, route.List, "old/metadata", s.root, "")
			return err == nil
		})
		var names []string
		for _, k := range s.must(t, route.List, "old/metadata", s.root, "").Data["keys"].([]any) {
			names = append(names, k.(string))
		}
		if want := []string{"first", "w0", "w1", "w2", "w3"}; !slices.Equal(names, want) {
			t.Errorf("listed are %v, want %v", names, want)
		}
		for w := range writers {
			if v, _ := s.current(t, fmt.Sprintf("old/data/w%d", w)); v != fmt.Sprint(writes) {
				t.Errorf("w%d is %q, want %d", w, v, writes)
			}
		}
	}
}

// write stores a value like a client that looks up the version of the mount, and retries.
func write(t *testing.T, s *server, name, value string) {
	t.Helper()
	eventually(t, "a write is taken", func() bool {
		_, err := s.ask(t, route.Write, "old/"+name, s.root, `{"v":"`+value+`"}`)
		if fault.Is(err, fault.NotFound) {
			_, err = s.ask(t, route.Write, "old/data/"+name, s.root, `{"data":{"v":"`+value+`"}}`)
		}
		if err != nil && !fault.Is(err, fault.Unavailable) {
			t.Errorf("writing %s to %s: %v", value, name, err)
			return true
		}
		return err == nil
	})
}

// checkRead reads an acknowledged value on another server.
func checkRead(t *testing.T, s *server, name, want string) {
	t.Helper()
	var got string
	eventually(t, "a read is answered", func() bool {
		r, err := s.ask(t, route.Read, "old/"+name, s.root, "")
		if err == nil && r.Status == 404 { // the mount is versioned
			got, _ = s.current(t, "old/data/"+name)
			return true
		}
		if err == nil {
			got, _ = r.Data["v"].(string)
			return true
		}
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("reading %s: %v", name, err)
			return true
		}
		return false
	})
	if got != want {
		t.Errorf("%s is %q on the other server, want %q", name, got, want)
	}
}

// eventually waits for a condition that takes a moment.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !yes(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not after two minutes: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
