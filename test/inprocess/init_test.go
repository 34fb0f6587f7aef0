package inprocess_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// TestCrashInInit crashes at each commit of an initialization. Afterwards the storage can still be
// initialized, or it is initialized and the chosen root token works.
func TestCrashInInit(t *testing.T) {
	request := core.InitRequest{
		RootToken: secret.Text("hvs.root-token-for-tests"),
		Mounts:    []core.NewMount{{Path: "static", Type: "kv", Options: map[string]string{"version": "2"}}},
	}
	for name, fault := range map[string]func(st *faulty.Store, n int){
		"killed before": func(st *faulty.Store, n int) { st.CrashAfter(n, faulty.NotStored) },
		"killed after":  func(st *faulty.Store, n int) { st.CrashAfter(n, faulty.Stored) },
		"unknown, not": func(st *faulty.Store, n int) {
			st.Inject(faulty.Fault{After: n, Mode: faulty.NotStored})
		},
		"unknown, but was": func(st *faulty.Store, n int) { st.Inject(faulty.Fault{After: n, Mode: faulty.Stored}) },
	} {
		for n := range 8 {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st, out := faulty.New(memory.Open(), 1), newOutside()
					c, ctx, stop := run(t, out.config(st))
					fault(st, n)
					_, answered := c.Init(ctx, request)
					stop()
					synctest.Wait()
					st.Revive()
					st.Clear()
					c, ctx, stop = run(t, out.config(st))
					done, err := c.Initialized(ctx)
					if err != nil {
						t.Fatal(err)
					}
					if answered == nil && !done {
						t.Fatal("it was answered, and is not initialized")
					}
					if done {
						err = c.AutoUnseal(ctx)
					} else {
						_, err = c.Init(ctx, request)
					}
					if err != nil {
						t.Fatalf("going on (initialized %v): %v", done, err)
					}
					s := &server{Core: c, root: "hvs.root-token-for-tests"}
					s.must(t, route.Write, "static/data/x", s.root, `{"data":{"a":"b"}}`)
					s.must(t, route.Write, "cubbyhole/x", s.root, `{"a":"b"}`)
					stop()
					synctest.Wait()
				})
			})
		}
	}
}

// TestInitThatIsRefused checks that a refused initialization stores nothing.
func TestInitThatIsRefused(t *testing.T) {
	c, _, _ := run(t, core.Config{Store: memory.Open()})
	for _, bad := range [][]core.NewMount{
		{{Path: "x", Type: "nothing"}}, {{Path: "sys", Type: "kv"}},
		{{Path: "a", Type: "kv"}, {Path: "a/b", Type: "kv"}}, {{Path: "../x", Type: "kv"}},
	} {
		if _, err := c.Init(t.Context(), core.InitRequest{Mounts: bad}); err == nil {
			t.Errorf("mounts %v were taken", bad)
		}
	}
	if done, err := c.Initialized(context.WithoutCancel(t.Context())); done || err != nil {
		t.Errorf("initialized = %v, %v", done, err)
	}
}
