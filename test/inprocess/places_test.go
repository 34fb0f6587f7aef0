package inprocess_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/test/await"
)

// publishing configures a key that publishes to a path. Its provider refuses every key.
func publishing(name, path string) string {
	return `{"recipe":"http-demo","params":{"url":"http://127.0.0.1:1"},"admin":{"token":"t"},"path":"` + path + `",
		"skip_import_rotation":true,"current_key_id":"key_` + name + `"}`
}

// says are the warnings and the error of a request.
func (w *everything) says(t *testing.T, op route.Op, path, token, body string) (text string, err error) {
	t.Helper()
	a, err := w.ask(t, op, path, token, body)
	if err != nil {
		return fault.Message(err), err
	}
	return strings.Join(a.Warnings, " "), nil
}

// TestWritersSeeOnlyTheirKeys: the answer to a write of a secret names the keys that publish there
// which the writer may read, and no others, by the path at which the rotation mount is now.
func TestWritersSeeOnlyTheirKeys(t *testing.T) {
	w := startEverything(t)
	w.must(t, route.Write, "rotation/keys/stripe", w.root, publishing("stripe", "secret/pay"))
	const write = `path "secret/data/*" { capabilities = ["create", "read", "update", "patch"] } `
	for name, tt := range map[string]struct {
		rules string
		shown bool
	}{
		"no rule":        {"", false},
		"the key":        {`path "rotation/keys/stripe" { capabilities = ["read"] }`, true},
		"all keys":       {`path "rotation/keys/*" { capabilities = ["read"] }`, true},
		"but this":       {`path "rotation/keys/*" { capabilities = ["read"] } path "rotation/keys/stripe" { capabilities = ["deny"] }`, false},
		"another":        {`path "rotation/keys/other" { capabilities = ["read"] }`, false},
		"to list":        {`path "rotation/keys/*" { capabilities = ["list", "update"] }`, false},
		"its history":    {`path "rotation/keys/stripe/*" { capabilities = ["read"] }`, false},
		"no path of its": {`path "keys/stripe" { capabilities = ["read"] }`, false},
	} {
		w.must(t, route.Write, "sys/policies/acl/writer", w.root,
			`{"policy":"`+strings.ReplaceAll(write+tt.rules, `"`, `\"`)+`"}`)
		token := w.must(t, route.Write, "auth/token/create", w.root,
			`{"policies":["writer"]}`).Auth["client_token"].(string)
		dead, err := w.says(t, route.Write, "secret/data/pay", token, `{"data":{"api_key":"by-`+name+`"}}`)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: a write of a key that the provider refuses: %v, want it refused", name, err)
		}
		forced, err := w.says(t, route.Write, "secret/data/pay", token,
			`{"data":{"api_key":"by-`+name+`"},"options":{"force":true}}`)
		if err != nil || forced == "" {
			t.Errorf("%s: by force: warned %q, %v", name, forced, err)
		}
		lacking, err := w.says(t, route.Write, "secret/data/pay", token, `{"data":{"note":"no key"}}`)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: a write without the key's field: %v, want it refused", name, err)
		}
		if strings.Contains(forced, "stripe") && !tt.shown {
			t.Errorf("%s: a write by force names the key: %s", name, forced)
		}
		for _, text := range []string{dead, lacking} {
			if got := strings.Contains(text, "stripe"); got != tt.shown {
				t.Errorf("%s: the key is named: %t, want %t: %s", name, got, tt.shown, text)
			}
		}
	}
}

// TestWritesAreJudgedInTheNextMount: what is published to a mount that is disabled by force is
// judged in the next mount there from its first write on, whether that one is new, was moved
// there, or becomes versioned there.
func TestWritesAreJudgedInTheNextMount(t *testing.T) {
	for name, next := range map[string][]string{
		"new":             {`sys/mounts/static {"type":"kv-v2"}`},
		"by its old name": {`sys/mounts/static {"type":"generic","options":{"version":"2"}}`},
		"below":           {`sys/mounts/static/pay {"type":"kv-v2"}`},
		"moved": {`sys/mounts/other {"type":"kv-v2"}`, `other/data/pay/x {"data":{"note":"old"}}`,
			`sys/remount {"from":"other","to":"static"}`},
		"becomes versioned": {`sys/mounts/static {"type":"kv"}`, `sys/mounts/static/tune {"options":{"version":"2"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := startEverything(t)
			w.must(t, route.Write, "sys/mounts/static", w.root, `{"type":"kv-v2"}`)
			w.must(t, route.Write, "rotation/keys/stripe", w.root, publishing("stripe", "static/pay/x"))
			w.must(t, route.Delete, "sys/mounts/static", w.root, `{"force":true}`)
			for _, request := range next {
				path, body, _ := strings.Cut(request, " ")
				w.must(t, route.Write, path, w.root, body)
			}
			path := "static/data/pay/x"
			if name == "below" {
				path = "static/pay/data/x"
			}
			if said, err := w.says(t, route.Write, path, w.root, `{"data":{"api_key":"a","note":"b"}}`); !fault.Is(err,
				fault.Invalid) || !strings.Contains(said, "rotation/keys/stripe") {
				t.Errorf("the first write of a dead key: %q, %v, want it refused", said, err)
			}
			w.must(t, route.Write, path, w.root, `{"data":{"api_key":"a","note":"b"},"options":{"force":true}}`)
			if _, err := w.says(t, route.Write, path, w.root, `{"data":{"note":"b"}}`); !fault.Is(err, fault.Invalid) {
				t.Errorf("a write that takes the key from its readers: %v, want it refused", err)
			}
			w.must(t, route.Write, path, w.root, `{"data":{"api_key":"a","note":"c"}}`)
			w.must(t, route.Delete, "rotation/keys/stripe", w.root, "")
			w.must(t, route.Write, path, w.root, `{"data":{"note":"b"}}`)
		})
	}
}

// TestRemovedMountsPublishNothing: once a rotation mount is disabled by force, nothing is left of
// what its keys had reserved, and the secrets are their writers' own again. What the keys of
// another mount have reserved stays.
func TestRemovedMountsPublishNothing(t *testing.T) {
	w := startEverything(t)
	w.must(t, route.Write, "sys/mounts/second", w.root, `{"type":"rotation"}`)
	for _, name := range []string{"one", "two"} {
		w.must(t, route.Write, "second/keys/"+name, w.root, publishing(name, "secret/"+name))
	}
	w.must(t, route.Write, "rotation/keys/stays", w.root, publishing("stays", "secret/stays"))
	w.must(t, route.Delete, "sys/mounts/second", w.root, `{"force":true}`)
	await.Eventually(t, "the mount is forgotten", func() bool {
		_, err := w.ask(t, route.List, "sys/jobs", w.root, "")
		return fault.Is(err, fault.NotFound)
	})
	for _, name := range []string{"one", "two"} {
		if warned, err := w.says(t, route.Write, "secret/data/"+name, w.root,
			`{"data":{"api_key":"a"}}`); err != nil || warned != "" {
			t.Errorf("a write of a secret that nothing publishes to any more: %q, %v", warned, err)
		}
		w.must(t, route.Write, "rotation/keys/"+name, w.root, publishing(name, "secret/"+name))
	}
	if warned, err := w.says(t, route.Write, "secret/data/stays", w.root, `{"data":{"api_key":"a"}}`); !fault.Is(err,
		fault.Invalid) || !strings.Contains(warned, "rotation/keys/stays") {
		t.Errorf("a write of a secret that a key of another mount publishes to: %q, %v, want it refused", warned, err)
	}
	keys := w.must(t, route.List, "rotation/keys", w.root, "").Data["keys"].([]any)
	if len(keys) != 3 || slices.Contains(keys, any("")) {
		t.Errorf("keys %v", keys)
	}
}

// TestCrashWhileReleasing dies at each commit from the disabling of a rotation mount on, stored
// and not: the next server leaves nothing of what the mount's keys had reserved, and the secrets
// keep their data.
func TestCrashWhileReleasing(t *testing.T) {
	for name, mode := range map[string]faulty.Mode{"not stored": faulty.NotStored, "stored": faulty.Stored} {
		for n := range 12 {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := faulty.New(memory.Open(), 1)
					s, stop := startRotating(t, st)
					s.must(t, route.Write, "sys/mounts/secret", s.root, `{"type":"kv-v2"}`)
					s.must(t, route.Write, "sys/mounts/second", s.root, `{"type":"rotation"}`)
					for _, name := range []string{"one", "two"} {
						s.must(t, route.Write, "second/keys/"+name, s.root, publishing(name, "secret/"+name))
					}
					s.must(t, route.Write, "secret/data/one", s.root, `{"data":{"note":"kept"}}`)
					if got := reserved(t, st); len(got) < 3 {
						t.Fatalf("rows %q: this tests nothing", got)
					}
					st.CrashAfter(n, mode)
					_, _ = s.ask(t, route.Delete, "sys/mounts/second", s.root, `{"force":true}`)
					time.Sleep(time.Minute)
					stop()
					st.Clear()
					st.Revive()
					s, stop = startRotating(t, st)
					// the crash may have been before
					s.must(t, route.Delete, "sys/mounts/second", s.root, `{"force":true}`)
					time.Sleep(2 * time.Minute)
					if got := reserved(t, st); len(got) > 0 {
						t.Errorf("rows that are left: %q", got)
					}
					if got := s.must(t, route.Read, "secret/data/one", s.root,
						"").Data["data"]; fmt.Sprint(got) != "map[note:kept]" {
						t.Errorf("the secret is %v", got)
					}
					for _, name := range []string{"one", "two"} {
						if a := s.must(t, route.Write, "secret/data/"+name, s.root,
							`{"data":{"api_key":"a"}}`); len(a.Warnings) > 0 {
							t.Errorf("a write warns of %q", a.Warnings)
						}
						s.must(t, route.Write, "rotation/keys/"+name, s.root, publishing(name, "secret/"+name))
					}
					stop()
				})
			})
		}
	}
}

// reserved are the rows that say what is published where, and that of the empty secret, which is
// there for its mark alone.
func reserved(t *testing.T, st storage.Store) (keys []string) {
	t.Helper()
	for e, err := range st.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Key, "place/") || strings.HasSuffix(e.Key, "/m/two") {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

// startRotating starts a server with every engine over a store, in a bubble.
func startRotating(t *testing.T, st storage.Store) (s *server, stop func()) {
	t.Helper()
	s, end := launch(t, core.Config{
		Store: st, Types: core.Types{Engines: plugins.Engines, Auths: plugins.AuthMethods},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil,
				errors.New("there is no network")
		},
	})
	return s, func() { end(); synctest.Wait() }
}
