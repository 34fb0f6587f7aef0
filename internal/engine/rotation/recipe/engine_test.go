package recipe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// TestBuiltInRecipes binds a key to each built-in recipe, and rotates it in front of the vendor's
// scripted server. In the second rotation, the process dies after the vendor created the key and
// before its reply arrived (for an operation: before the operation was found to have ended). The
// next process finds that key by its marker, retires it and creates another one.
func TestBuiltInRecipes(t *testing.T) {
	for _, shape := range rotationtest.Shapes() {
		t.Run(shape.Recipe, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rotateShape(t, shape) })
		})
	}
}

// A place is the secret that a key is published to.
type place struct {
	version int
	turns   map[string]int
	last    engine.Publication
}

// attach makes the place the only secret of a host.
func (p *place) attach(h *engine.Host, server func() *enginetest.World) {
	h.MayPublish = func(context.Context, []string, string) error { return nil }
	h.Reserve = func(context.Context, engine.Reservation) ([]storage.Op, error) { return nil, nil }
	h.Publish = func(ctx context.Context, pub engine.Publication) (int, error) {
		if n, ok := p.turns[pub.Turn]; ok {
			return n, nil
		}
		if _, err := server().View.CommitWith(ctx, nil, pub.Along); err != nil {
			return 0, err
		}
		p.version++
		p.turns[pub.Turn], p.last = p.version, pub
		return p.version, nil
	}
	h.Published = func(context.Context, engine.Publication) (*engine.Published, error) {
		if p.version == 0 {
			return nil, nil
		}
		return &engine.Published{Version: p.version, Turn: p.last.Turn, Fields: p.last.Fields}, nil
	}
}

func rotateShape(t *testing.T, shape rotationtest.Shape) {
	vendor := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
	published := &place{turns: map[string]int{}}
	var w *enginetest.World
	var dies atomic.Bool
	var issued atomic.Int32
	handler := shape.Handler(vendor, adminCanary)
	dial, roots := rotationtest.PipeTLS(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(&killing{out, func() {
			begun := shape.Operation && r.Method == http.MethodPost
			if len(vendor.Issued()) > int(issued.Load()) && !begun && dies.CompareAndSwap(true, false) {
				w.Kill()
				panic(http.ErrAbortHandler)
			}
		}}, r)
	}))
	w = enginetest.Open(t, rotation.NewWith(rotation.Network{Dial: dial, Roots: roots}, Provider), enginetest.Config{
		ByHand: true, Settings: engine.Settings{Path: "rotation/"},
		Host: func(h *engine.Host) { published.attach(h, func() *enginetest.World { return w }) }})
	do := func(op route.Op, path string, body any) map[string]any {
		t.Helper()
		a, err := w.Do(op, path, body)
		if err != nil {
			t.Fatalf("%s %s: %v", op, path, err)
		}
		return a.Data
	}
	until := func(state rotate.State) {
		t.Helper()
		reached := func() bool { return do(route.Read, "keys/demo", nil)["state"] == string(state) }
		if !reached() {
			w.Drive(t, time.Now().Add(7*24*time.Hour), reached)
		}
		if !reached() {
			t.Fatalf("the key never came to %s: %v", state, do(route.Read, "keys/demo", nil))
		}
	}
	current := func() string {
		for _, k := range vendor.Issued() {
			if k.Secret == published.last.Fields[shape.Secret].RevealString() {
				return k.ID
			}
		}
		return ""
	}
	wantLive := func(want ...string) {
		t.Helper()
		if got := rotationtest.LiveIDs(vendor)(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("valid at the vendor: %v, want %v", got, want)
		}
	}
	admin := map[string]string{}
	for _, name := range shape.Admin {
		admin[name] = adminCanary
	}
	do(route.Write, "keys/demo", map[string]any{"recipe": shape.Recipe, "admin": admin, "params": shape.Params,
		"path": "secret/demo", "rotation_period": "720h", "grace_period": "48h"})
	plan := fmt.Sprint(do(route.Read, "keys/demo/plan", nil)["steps"])
	for _, want := range []string{"create", "verify", "publish", "retire"} {
		if !strings.Contains(strings.ToLower(plan), want) {
			t.Errorf("the plan lacks %q: %s", want, plan)
		}
	}
	if disables := definition(t, shape.Recipe).Can.Disable; strings.Contains(plan, "isable") != disables {
		t.Errorf("the recipe can disable: %v; the plan: %s", disables, plan)
	}
	w.Drive(t, time.Now().Add(time.Hour), func() bool { return false })
	until(rotate.Scheduled)
	first := current()
	wantLive(first)

	issued.Store(int32(len(vendor.Issued())))
	dies.Store(true)
	_, _ = w.Do(route.Write, "keys/demo/rotate", nil)
	w.Drive(t, time.Now().Add(time.Hour), func() bool { return false })
	if got := current(); dies.Load() || got != first || len(vendor.Live()) != 2 {
		t.Fatalf("the process is to die: %v; %q is published, and valid are %v", dies.Load(), got, vendor.Live())
	}
	w.Reopen(t)
	until(rotate.Grace)
	second := current()
	wantLive(first, second)
	until(rotate.Scheduled)
	wantLive(second)
	if s := do(route.Read, "keys/demo", nil); first == second || s["current_key_id"] != second || s["alert"] != "" ||
		len(s["unproven"].([]any)) != 0 {
		t.Errorf("after the second rotation: %v", s)
	}
}

// killing calls a function before each reply.
type killing struct {
	http.ResponseWriter
	before func()
}

// WriteHeader implements [http.ResponseWriter].
func (k *killing) WriteHeader(status int) {
	k.before()
	k.ResponseWriter.WriteHeader(status)
}
