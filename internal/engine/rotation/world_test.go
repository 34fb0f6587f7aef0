package rotation_test

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

const adminToken = "admin-canary-4711"

// world is the engine with a vendor and a fake KV.
type world struct {
	*testing.T
	*enginetest.World
	store  storage.Store
	vendor *rotationtest.Vendor
	kv     *fakeKV
	types  []rotation.Provider

	// hook is called before and after each effect. Its error replaces that of the effect. If hook
	// fails before the effect, the effect does not happen.
	hook func(what string, before bool) error

	mu       sync.Mutex
	logged   bytes.Buffer // written by the goroutine that works
	audits   []engine.Automatic
	held     atomic.Bool // the clock
	unlisted atomic.Bool // the store cannot list
}

var ann = &route.Caller{DisplayName: "ann", Policies: []string{"rotators"}}

// newWorld returns a world whose due work the test runs by hand.
func newWorld(t *testing.T, vendor rotationtest.VendorConfig) *world {
	t.Helper()
	return open(t, vendor, enginetest.Config{ByHand: true})
}

func open(t *testing.T, vendor rotationtest.VendorConfig, c enginetest.Config) *world {
	t.Helper()
	vendor.AdminToken = adminToken
	w := &world{T: t, store: c.Store, vendor: rotationtest.NewVendor(vendor), kv: &fakeKV{paths: map[string]*kvPath{}}}
	if w.store == nil {
		w.store = enginetest.Memory()
	}
	w.types = []rotation.Provider{rotationtest.Fake(w.vendor)}
	c.Log, c.Caller, c.Settings.Path = slog.New(slog.NewTextHandler(&w.logged, nil)), ann, "rotation/"
	w.World = w.open(c, rotation.Network{})
	return w
}

// open opens the mount, as a server does.
func (w *world) open(c enginetest.Config, network rotation.Network) (opened *enginetest.World) {
	typ := rotation.New()
	typ.Open = func(ctx context.Context, m *engine.Mount) (engine.Engine, error) { // reads w.types at each opening
		var ps []rotation.Provider
		for _, p := range w.types {
			open := p.Open
			p.Open = func(c rotation.OpenConfig) (rotation.Source, error) {
				s, err := open(c)
				return &hookedSource{s, func(what, _ string, call func() error) error { return w.around(what, call) }},
					err
			}
			ps = append(ps, p)
		}
		return rotation.NewWith(network, ps...).Open(ctx, m)
	}
	c.Store = &hookedStore{w.store, w}
	more := c.Host
	c.Host = func(h *engine.Host) {
		w.kv.attach(h, func() *enginetest.World { return opened })
		h.ClockHeld = func() bool { return w.held.Load() }
		reserve, publish := h.Reserve, h.Publish
		h.Reserve = func(ctx context.Context, r engine.Reservation) (ops []storage.Op, err error) {
			if ops, err = reserve(ctx, r); err != nil {
				return nil, err
			}
			return ops, w.around("reserve", func() error { return nil })
		}
		h.Publish = func(ctx context.Context, p engine.Publication) (n int, err error) {
			return n, w.around("publish", func() error { n, err = publish(ctx, p); return err })
		}
		h.Audited = func(ctx context.Context, a engine.Automatic, act func(context.Context) error) error {
			if err := w.around("audit", func() error { return nil }); err != nil {
				return err
			}
			w.mu.Lock()
			w.audits = append(w.audits, a)
			w.mu.Unlock()
			return act(ctx)
		}
		if more != nil {
			more(h)
		}
	}
	return enginetest.Open(w, typ, c)
}

// another opens a second server over the same store.
func (w *world) another() *enginetest.World {
	w.Helper()
	return w.open(enginetest.Config{ByHand: true, Caller: ann, Settings: engine.Settings{Path: "rotation/"}},
		rotation.Network{})
}

// rotations returns the mount's manager.
func (w *world) rotations() *rotate.Manager { return w.Engine.(engine.Rotator).Rotations() }

// around calls the hook before and after an effect.
func (w *world) around(what string, effect func() error) error {
	hook := w.hook
	if hook == nil {
		return effect()
	}
	if err := hook(what, true); err != nil {
		return err
	}
	err := effect()
	if herr := hook(what, false); herr != nil {
		return herr
	}
	return err
}

// as makes a request as another caller, with one policy.
func (w *world) as(name, policy string, op route.Op, path string, body any) error {
	w.Helper()
	_, err := w.As(w.Context(), &route.Caller{DisplayName: name, Policies: []string{policy}}, op, path, body)
	return err
}

// do makes a request and returns the answer's data, with its warnings.
func (w *world) do(op route.Op, path string, body any) (map[string]any, error) {
	w.Helper()
	a, err := w.Do(op, path, body)
	if err != nil || a.Data == nil {
		return nil, err
	}
	a.Data["warnings"] = a.Warnings
	return a.Data, nil
}

// must is do for a request that must succeed.
func (w *world) must(op route.Op, path string, body any) map[string]any {
	w.Helper()
	out, err := w.do(op, path, body)
	if err != nil {
		w.Fatalf("%s %s: %v", op, path, err)
	}
	return out
}

// refused is do for a request that must be refused with a message that contains want.
func (w *world) refused(op route.Op, path string, body any, k fault.Kind, want string) {
	w.Helper()
	w.Refused(w, op, path, body, k, want)
}

func (w *world) status() map[string]any { w.Helper(); return w.must(route.Read, "keys/demo", nil) }

// run runs the due loop, in a bubble, until a time, until the process dies, or until stop, called
// after each step, returns true.
func (w *world) run(until time.Time, stop func() bool) { w.Helper(); w.Drive(w, until, stop) }

// nap sleeps, in a bubble.
func nap(d time.Duration) { time.Sleep(d) }

func never() bool { return false }

// after runs the loop for d.
func (w *world) after(d time.Duration) { w.Helper(); w.run(time.Now().Add(d), never) }

// until runs the loop until the key is in a state, at most a week.
func (w *world) until(state rotate.State) map[string]any {
	w.Helper()
	s := w.status()
	if s["state"] != string(state) {
		w.run(time.Now().Add(7*24*time.Hour), func() bool { s = w.status(); return s["state"] == string(state) })
	}
	if s["state"] != string(state) {
		w.Fatalf("the key never came to %s: %v", state, s)
	}
	return s
}

// rotated requests a rotation and waits for its end.
func (w *world) rotated() {
	w.Helper()
	w.must(route.Write, "keys/demo/rotate", nil)
	w.until(rotate.Grace)
	w.until(rotate.Scheduled)
}

// wantLive checks that exactly these keys are valid at the vendor.
func (w *world) wantLive(want ...string) {
	w.Helper()
	got := rotationtest.LiveIDs(w.vendor)()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Errorf("valid at the vendor: %v, want %v", got, want)
	}
}

// value returns what a reader gets.
func (w *world) value() string { return w.kv.read("secret/demo", time.Now()).fields["api_key"] }

// idOf finds the key of a secret.
func (w *world) idOf(value string) string {
	for _, k := range w.vendor.Issued() {
		if k.Secret == value {
			return k.ID
		}
	}
	return ""
}

// basic returns a key's configuration.
func basic(more map[string]any) map[string]any {
	out := map[string]any{
		"recipe": "fake", "admin": map[string]string{"token": adminToken}, "path": "secret/demo",
		"rotation_period": "720h", "grace_period": "48h",
	}
	maps.Copy(out, more)
	return out
}

// fakeKV publishes once per rotation, as the contract says.
type fakeKV struct {
	mu     sync.Mutex
	paths  map[string]*kvPath
	denied bool
	asked  func() // called once, before the place is next read
}

type kvPath struct {
	version   int
	rotations map[string]int // turn → version
	fields    map[string]string
	custom    map[string]string
	rotation  string
	next      time.Time
	ttl       time.Duration
	at        time.Time
	history   []engine.Published // the oldest first
	deleted   bool
}

// keep records the newest version.
func (p *kvPath) keep() {
	p.deleted = false
	v := engine.Published{Version: p.version, At: time.Now(), Turn: p.rotation, Fields: map[string]secret.Value{}}
	for f, text := range p.fields {
		v.Fields[f] = secret.Text(text)
	}
	p.history = append(p.history, v)
}

// attach sets the functions of an engine's host as a server with such mounts does.
func (k *fakeKV) attach(h *engine.Host, server func() *enginetest.World) {
	h.MayPublish = func(_ context.Context, policies []string, path string) error {
		if slices.Contains(policies, "outsiders") {
			return fault.New("world", fault.Denied, "your policies must allow writing %q", path)
		}
		return nil
	}
	h.MayRead = func(_ context.Context, policies []string, path string) error {
		if slices.Contains(policies, "writers") {
			return fault.New("world", fault.Denied, "your policies must allow reading %q", path)
		}
		return nil
	}
	// records who publishes where, as the contract says
	h.Reserve = func(ctx context.Context, r engine.Reservation) (ops []storage.Op, err error) {
		key := func(p engine.Place) string { return "place/" + p.Path + "|" + p.Field }
		for _, p := range r.Want {
			e, err := server().View.Get(ctx, key(p))
			if err != nil {
				return nil, err
			}
			if e.Version != 0 && string(e.Value) != r.Record {
				return nil, fault.New("world", fault.Conflict, "%s already publishes to %q at %q", e.Value, p.Field,
					p.Path)
			}
			ops = append(ops, storage.Set(key(p), []byte(r.Record)).If(e.Version))
		}
		for _, p := range r.Had {
			if !slices.Contains(r.Want, p) {
				ops = append(ops, storage.Remove(key(p)))
			}
		}
		return ops, nil
	}
	h.Rotating = func(ctx context.Context, _ []string) iter.Seq2[rotate.Status, error] {
		return server().Engine.(engine.Rotator).Rotations().Statuses(ctx)
	}
	h.Publish = func(ctx context.Context, p engine.Publication) (int, error) {
		return k.publish(ctx, p, server().View)
	}
	h.Published = func(_ context.Context, p engine.Publication) (*engine.Published, error) {
		return k.published(p.Path)
	}
	h.Versions = func(_ context.Context, path string) ([]engine.Published, error) { return k.versions(path), nil }
}

func (k *fakeKV) publish(ctx context.Context, p engine.Publication, store *barrier.View) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.denied {
		return 0, fault.New("kv", fault.Denied, "the policies %v do not allow it", p.Policies)
	}
	at := k.paths[p.Path]
	if at == nil {
		at = &kvPath{rotations: map[string]int{}, fields: map[string]string{}}
		k.paths[p.Path] = at
	}
	if n, ok := at.rotations[p.Turn]; ok {
		return n, nil
	}
	if p.CAS >= 0 && p.CAS != at.version {
		return 0, fault.New("kv", fault.Conflict, "at %d, not %d", at.version, p.CAS)
	}
	if _, err := store.CommitWith(ctx, nil, p.Along); err != nil {
		return 0, err
	}
	at.version++
	at.fields = maps.Clone(at.fields)
	for f, v := range p.Fields {
		at.fields[f] = v.RevealString()
	}
	maps.Copy(at.fields, p.Plain)
	at.custom, at.rotation, at.next, at.ttl, at.at = p.Custom, p.Turn, p.Next, p.ReadTTL, time.Now()
	at.rotations[p.Turn] = at.version
	at.keep()
	return at.version, nil
}

func (k *fakeKV) published(path string) (*engine.Published, error) {
	if asked := k.asked; asked != nil {
		k.asked = nil
		asked()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(path) < 8 || path[:7] != "secret/" {
		return nil, fault.New("kv", fault.Invalid, "field \"path\": %q is not below a versioned kv mount", path)
	}
	at := k.paths[path]
	if at == nil {
		return nil, nil
	}
	out := &engine.Published{Version: at.version, Turn: at.rotation, Fields: map[string]secret.Value{}}
	if at.deleted {
		return &engine.Published{Version: at.version}, nil
	}
	for f, v := range at.fields {
		out.Fields[f] = secret.Text(v)
	}
	return out, nil
}

// write is a write by a user.
func (k *fakeKV) write(path string, fields map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.paths[path]
	if at == nil {
		at = &kvPath{rotations: map[string]int{}}
		k.paths[path] = at
	}
	at.version++
	at.fields, at.rotation = maps.Clone(fields), ""
	at.keep()
}

func (k *fakeKV) versions(path string) (all []engine.Published) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at := k.paths[path]; at != nil {
		all = slices.Clone(at.history)
		slices.Reverse(all)
		if len(all) > 0 {
			all[0].Deleted = at.deleted
		}
	}
	return all
}

// read returns what a reader gets, with the hint of how long to wait.
func (k *fakeKV) read(path string, now time.Time) kvPath {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.paths[path]
	if at == nil {
		return kvPath{}
	}
	out := *at
	if out.ttl = min(at.ttl, at.next.Sub(now)); out.ttl < time.Second {
		out.ttl = time.Second
	}
	return out
}

// hookedStore is a store whose commits pass the world's hook.
type hookedStore struct {
	storage.Store
	w *world
}

func (s *hookedStore) Commit(ctx context.Context, b storage.Batch) (v storage.Version, err error) {
	err = s.w.around("commit", func() error { v, err = s.Store.Commit(ctx, b); return err })
	return v, err
}

func (s *hookedStore) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	if s.w.unlisted.Load() {
		return func(yield func(storage.Entry, error) bool) {
			yield(storage.Entry{}, fault.New("unlisted", fault.Upstream, "the disk is gone"))
		}
	}
	return s.Store.Scan(ctx, from, to)
}

// hookedSource is a source whose calls pass a hook, with the ID that they concern.
type hookedSource struct {
	rotation.Source
	pass func(what, id string, call func() error) error
}

func lost(err error) error {
	return &rotate.Failure{Outcome: rotate.Unknown, Err: fault.Wrap("hooked", fault.Upstream, err)}
}

func (s *hookedSource) around(what, id string, call func() error) error {
	var own error
	if err := s.pass(what, id, func() error { own = call(); return nil }); err != nil {
		return lost(err)
	}
	return own
}

func (s *hookedSource) Create(ctx context.Context, o rotate.Order) (c rotate.Credential, err error) {
	err = s.around("create", o.Marker.String(), func() error { c, err = s.Source.Create(ctx, o); return err })
	return c, err
}

func (s *hookedSource) Verify(ctx context.Context, c rotate.Credential) error {
	return s.around("verify", c.ID, func() error { return s.Source.Verify(ctx, c) })
}

func (s *hookedSource) VerifyDead(ctx context.Context, c rotate.Credential) error {
	return s.around("verify-dead", c.ID, func() error { return s.Source.VerifyDead(ctx, c) })
}

func (s *hookedSource) List(ctx context.Context) (l []rotate.Listed, err error) {
	err = s.around("list", "", func() error { l, err = s.Source.List(ctx); return err })
	return l, err
}

func (s *hookedSource) LastUsed(ctx context.Context, id string) (at time.Time, err error) {
	err = s.around("last-used", id, func() error { at, err = s.Source.LastUsed(ctx, id); return err })
	return at, err
}

func (s *hookedSource) Disable(ctx context.Context, id string) error {
	return s.around("disable", id, func() error { return s.Source.Disable(ctx, id) })
}

func (s *hookedSource) Retire(ctx context.Context, id string) error {
	return s.around("retire", id, func() error { return s.Source.Retire(ctx, id) })
}
