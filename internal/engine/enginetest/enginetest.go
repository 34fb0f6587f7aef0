// Package enginetest runs an engine in a test as core does: over a real barrier, with
// real leases and the real due loop, but for audit, tokens and policies. It
// works in a synctest bubble, and a [World] can die and be opened again.
package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/token"
	"github.com/keyturn/keyturn/internal/wire"
)

// UUID is the mount's, Path where it is mounted.
const (
	UUID = "m"
	Path = "mount/"
)

const (
	workLane = "work-" + UUID
	workKind = "work"
	owner    = "owner"
)

// Config of a [World]. The zero value is one for an engine without needs.
type Config struct {
	Store    storage.Store // nil: memory; one that another World has is shared with it, as by another server
	Log      *slog.Logger  // nil: none
	Settings engine.Settings
	// Caller makes the requests; nil: one who is called "tester".
	Caller *route.Caller
	// ByHand: what falls due is done in [World.Drive] alone, so that a test can stop where it
	// wants to.
	ByHand bool
	// Host changes what the engine is lent.
	Host func(h *engine.Host)
	// Between is called at every point where a process can die: "planned", "reserved",
	// "created". An error ends the request there, without any clearing up.
	Between func(step string) error
}

// A World is one mount of an engine with what is around it.
type World struct {
	Engine engine.Engine
	Leases *lease.Manager
	View   *barrier.View // of the whole store, decrypted
	cfg    Config
	typ    engine.Type
	table  *route.Table
	loop   *due.Loop
	root   secret.Value
	scope  func() context.Context // ends when the process dies
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events []string
}

// An Answer is what a client would see.
type Answer struct {
	Data     map[string]any
	Text     string        // data as JSON
	Status   int           // 0: 200, or 204 without data
	TTL      time.Duration // lease_duration of an answer without a lease
	Warnings []string
	Lease    *lease.Lease // nil: none
}

// Memory is the store of a [World] that is given none, for tests that put something over it.
func Memory() storage.Store { return faulty.Quiet(memory.Open()) }

// Open mounts an engine. It ends with the test.
func Open(t testing.TB, typ engine.Type, c Config) *World {
	t.Helper()
	if c.Store == nil {
		c.Store = Memory()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Settings.Path == "" {
		c.Settings.Path = Path
	}
	if c.Caller == nil {
		c.Caller = &route.Caller{ID: owner, DisplayName: "tester", Policies: []string{"default"}}
	}
	if c.Settings.DefaultTTL == 0 {
		c.Settings.DefaultTTL = 768 * time.Hour
	}
	if c.Settings.MaxTTL == 0 {
		c.Settings.MaxTTL = 768 * time.Hour
	}
	w := &World{cfg: c, typ: typ, root: secret.New(make([]byte, barrier.RootKeySize))}
	if err := barrier.Initialize(t.Context(), c.Store, w.root); err != nil && !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	w.boot(t)
	t.Cleanup(func() { w.Stop(); _ = c.Store.Close() })
	return w
}

// Rows are all that is stored below prefixes, decrypted, for [World.Load] and for testdata.
func (w *World) Rows(t testing.TB, prefixes ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, prefix := range prefixes {
		for e, err := range w.View.Scan(context.WithoutCancel(t.Context()), prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%q %s\n", e.Key, e.Value)
		}
	}
	return out.Bytes()
}

// Load stores rows that were written before.
func (w *World) Load(t testing.TB, rows []byte) {
	t.Helper()
	for line := range strings.Lines(string(rows)) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatal(err)
		}
		key, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.View.Commit(t.Context(),
			storage.Set(key, []byte(strings.TrimSpace(line[len(quoted):])))); err != nil {
			t.Fatal(err)
		}
	}
}

// Reopen is what happens when the process has died and starts again.
func (w *World) Reopen(t testing.TB) {
	t.Helper()
	w.Stop()
	w.boot(t)
}

// Tune gives the mount other options, as core does: the engine judges them, what it adds is
// committed, and it is opened again.
func (w *World) Tune(t testing.TB, options map[string]string) {
	t.Helper()
	judged, err := w.typ.Options(w.cfg.Settings.Options, options)
	if err != nil {
		t.Fatal(err)
	}
	if len(judged.Along) > 0 {
		if _, err := w.View.CommitWith(context.WithoutCancel(t.Context()), nil, absolute(judged.Along)); err != nil {
			t.Fatal(err)
		}
	}
	w.cfg.Settings.Options = judged.Stored
	w.Reopen(t)
}

func absolute(ops []storage.Op) (out []storage.Op) {
	for _, op := range ops {
		op.Key = "mount/" + UUID + "/" + op.Key
		out = append(out, op)
	}
	return out
}

// Kill is what happens when the process dies in the middle of a request, or of [World.Drive],
// which ends. [World.Reopen] starts it again.
func (w *World) Kill() { w.cancel() }

// Stop ends the engine and the loop.
func (w *World) Stop() {
	if w.cancel == nil {
		return
	}
	w.cancel()
	<-w.done
	_ = w.Engine.Close()
	w.cancel = nil
}

func (w *World) boot(t testing.TB) {
	t.Helper()
	b, err := barrier.Open(context.Background(), w.cfg.Store, w.root)
	if err != nil {
		t.Fatal(err)
	}
	w.View = b.View("")
	ctx, cancel := context.WithCancel(context.Background())
	w.scope, w.cancel = func() context.Context { return ctx }, cancel
	w.Leases = lease.NewManager(lease.Config{
		Barrier: b, Due: func(lane, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: lane, Kind: lease.DueKind, ID: id}, from, to)
		},
		Undo: w.undo, Renew: w.renew, Event: func(string, *lease.Lease) []storage.Op { return nil },
	})
	m := &engine.Mount{
		UUID: UUID, Type: w.typ.Name, Store: b.View("mount/" + UUID + "/"), Log: w.cfg.Log,
		Host:     w.host(b.Installation()),
		Settings: func() engine.Settings { return w.cfg.Settings },
	}
	if w.Engine, err = w.typ.Open(ctx, m); err != nil {
		t.Fatal(err)
	}
	routes, err := engine.RoutesOf(w.Engine)
	if err != nil {
		t.Fatal(err)
	}
	if w.table, err = route.NewTable(routes); err != nil {
		t.Fatal(err)
	}
	w.loop = due.NewLoop(due.Config{Store: w.View, Handle: w.handle, Log: w.cfg.Log, Workers: 4})
	w.done = make(chan struct{})
	if w.cfg.ByHand {
		close(w.done)
		return
	}
	go func() {
		defer close(w.done)
		_ = w.loop.Run(ctx) // it ends when it is told to
	}()
}

func (w *World) host(installation string) engine.Host {
	h := engine.Host{
		Installation: installation,
		Schedule: func(kind, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: workLane, Kind: workKind, ID: kind + "/" + id}, from, to)
		},
		Event: func(kind string, details ...engine.Detail) storage.Op {
			data := map[string]string{}
			for _, d := range details {
				data[d.Name] = d.Value
			}
			b, _ := json.Marshal(data)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, kind+" "+string(b))
			return storage.Append("event/", b)
		},
		ClockHeld: func() bool { return false },
		Password: func(_ context.Context, policy string) (secret.Value, error) {
			return secret.Text("Pw-" + policy + token.Random(20)), nil
		},
		LeaseCount: func(ctx context.Context, target string, limit int) (int, error) {
			return w.Leases.CountOf(ctx, due.Prefix+lease.Lane(UUID, target)+"/", limit)
		},
		Overwrite: func(_ context.Context, _ engine.Overwrite, commit func([]storage.Op) error) error {
			return commit(nil)
		},
		Audited: func(ctx context.Context, _ engine.Automatic, act func(context.Context) error) error {
			return act(ctx)
		},
	}
	if w.cfg.Host != nil {
		w.cfg.Host(&h)
	}
	return h
}

// Events are those that were recorded, tries that did not commit included.
func (w *World) Events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.events...)
}

// Work is how many items of the engine's own work are waiting.
func (w *World) Work(t testing.TB) (n int) {
	t.Helper()
	prefix := due.Prefix + workLane + "/"
	for _, err := range w.View.Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// Due is the first item that falls due; false: there is none.
func (w *World) Due(t testing.TB) (first due.Item, found bool) {
	t.Helper()
	for e, err := range w.View.Scan(context.Background(), due.Prefix, storage.PrefixEnd(due.Prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		it, ok := due.Parse(e.Key)
		if !ok {
			t.Fatalf("bad due key %q", e.Key)
		}
		if !found || it.At.Before(first.At) {
			first, found = it, true
		}
	}
	return first, found
}

// Drive does what falls due, one item after the other, until a time, until the process dies, or
// until stop, which is asked after each item, says so. It runs in a bubble, for a World of
// [Config.ByHand].
func (w *World) Drive(t testing.TB, until time.Time, stop func() bool) {
	t.Helper()
	for ctx := w.scope(); ctx.Err() == nil && time.Now().Before(until); {
		it, found := w.Due(t)
		if !found || it.At.After(until) {
			it.At = until
		}
		if wait := time.Until(it.At); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		if w.handle(ctx, it) != due.Handled {
			time.Sleep(time.Second)
		}
		if stop() {
			return
		}
	}
}

func (w *World) handle(ctx context.Context, it due.Item) due.Outcome {
	var err error
	if it.Kind == lease.DueKind {
		err = w.Leases.Step(ctx, it.ID, time.Now(), it.At, []storage.Op{storage.Remove(it.Key())})
	} else {
		kind, id, _ := strings.Cut(it.ID, "/")
		err = w.Engine.(engine.Worker).Work(ctx, kind, id)
	}
	switch {
	case err == nil:
		return due.Handled
	case engine.IsLeaseOnly(err), errors.Is(err, lease.ErrBusy):
		return due.ItemFailed
	case ctx.Err() == nil && it.Kind == lease.DueKind && !fault.Is(err, fault.Unavailable):
		return due.TargetFailed
	}
	return due.StoreFailed
}

func undoOf(l *lease.Lease) engine.Undo {
	return engine.Undo{
		LeaseID: l.ID, Attempt: l.Attempt, Kind: l.Kind, Target: l.Target, Data: l.Data,
		Granted: l.Granted, Late: l.Late, Force: l.Force,
	}
}

func (w *World) undo(ctx context.Context, l *lease.Lease) (time.Time, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done, err := w.Engine.(engine.Undoer).Undo(ctx, undoOf(l))
	return done.Again, done.Note, err
}

func (w *World) renew(ctx context.Context, l *lease.Lease, expires time.Time) error {
	return w.Engine.(engine.Undoer).Renew(ctx, undoOf(l), expires)
}

// Do makes a request and returns the answer. body is JSON text or a value, nil for none.
func (w *World) Do(op route.Op, path string, body any) (*Answer, error) {
	return w.As(w.scope(), w.cfg.Caller, op, path, body)
}

// As is Do for another caller, who hangs up when ctx ends.
func (w *World) As(ctx context.Context, caller *route.Caller, op route.Op, path string, body any) (*Answer, error) {
	found, r, err := w.Find(caller, op, path, body)
	if err != nil {
		return nil, err
	}
	a := &Answer{}
	var data any
	if found.Leased() {
		data, a.Lease, err = w.lease(found, r)
	} else {
		data, err = found.Serve(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	a.Warnings, a.Status, a.TTL = r.Reply().Warnings, r.Reply().Status, r.Reply().LeaseDuration
	if data != nil {
		a.Text = string(wire.Append(nil, data))
		if err := json.Unmarshal([]byte(a.Text), &a.Data); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Find is a request, and the route that serves it.
func (w *World) Find(caller *route.Caller, op route.Op, path string, body any) (*route.Route, *route.Request, error) {
	folder := op != route.List && strings.HasSuffix(path, "/")
	path = strings.TrimSuffix(path, "/")
	c := w.cfg.Settings
	r := &route.Request{
		Op: op, Path: route.Path(c.Path + path), Rest: path, Folder: folder, Caller: caller, Time: time.Now(),
		Mount: route.Mount{Path: c.Path, UUID: UUID, Type: w.typ.Name, DefaultTTL: c.DefaultTTL, MaxTTL: c.MaxTTL},
	}
	switch x := body.(type) {
	case nil:
	case string:
		r.Body = []byte(x)
	default:
		b, err := json.Marshal(x)
		if err != nil {
			return nil, nil, err
		}
		r.Body = b
	}
	if len(r.Body) > 0 {
		if err := wire.Check(r.Body, wire.DefaultLimits); err != nil {
			return nil, nil, err
		}
	}
	found, err := w.table.Find(r)
	return found, r, err
}

// lease is plan, reserve, create and grant.
func (w *World) lease(found *route.Route, r *route.Request) (any, *lease.Lease, error) {
	plan, create, err := found.Plan(w.scope(), r)
	if err != nil {
		return nil, nil, err
	}
	draft, err := w.draft(plan, r)
	if err != nil {
		return nil, nil, err
	}
	if plan.Again != nil {
		l, err := w.Leases.Lookup(w.scope(), plan.Again.Lease)
		if err == nil && l.State == lease.Granted && l.Owner == draft.Owner &&
			time.Until(l.Expires) > draft.Expires.Sub(draft.Issued)/10 {
			return plan.Again.Data, l, nil
		}
	}
	if err := w.between("planned"); err != nil {
		return nil, nil, err
	}
	deadline := time.Now().Add(plan.CreateWithin)
	draft.Late = deadline.Add(plan.Late).UTC()
	reserved, err := w.Leases.Reserve(w.scope(), draft, deadline, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := w.between("reserved"); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithDeadline(w.scope(), deadline)
	defer cancel()
	data, err := create(ctx, route.Attempt{ID: reserved.Attempt, LeaseID: reserved.ID, TTL: draft.Expires.Sub(
		draft.Issued), Expires: draft.Expires, Max: draft.Max})
	if died := w.between("created"); died != nil {
		return nil, nil, died
	}
	if err == nil {
		if plan.FromGrant {
			reserved = reserved.StartingAt(time.Now())
		}
		var granted *lease.Lease
		if granted, err = w.Leases.Grant(w.scope(), reserved, time.Now(), nil); err == nil {
			return data, granted, nil
		}
	}
	return nil, nil, errors.Join(err, w.Leases.End(w.scope(), reserved.ID, false, time.Now()))
}

func (w *World) between(step string) error {
	if w.cfg.Between == nil {
		return nil
	}
	return w.cfg.Between(step)
}

func (w *World) draft(plan route.Plan, r *route.Request) (*lease.Lease, error) {
	undo, err := json.Marshal(plan.Undo)
	if err != nil {
		return nil, err
	}
	ttl, longest := plan.TTL, w.cfg.Settings.MaxTTL
	if plan.MaxTTL > 0 {
		longest = min(longest, plan.MaxTTL)
	}
	if ttl == 0 {
		ttl = w.cfg.Settings.DefaultTTL
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	return &lease.Lease{
		ID: string(r.Path) + "/" + token.Random(24), Mount: UUID, Target: plan.Target, Kind: plan.Kind, Data: undo,
		Owner:   owner,
		Attempt: strings.ToLower(token.Random(20)), Issued: now, Expires: now.Add(min(ttl, longest)),
		Max: now.Add(longest), Renewable: plan.Renewable,
	}, nil
}

// Must is Do for what must succeed.
func (w *World) Must(t testing.TB, op route.Op, path string, body any) *Answer {
	t.Helper()
	a, err := w.Do(op, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", op, path, err)
	}
	return a
}

// Refused is Do for what must be refused, with a kind and a message that holds want.
func (w *World) Refused(t testing.TB, op route.Op, path string, body any, k fault.Kind, want string) {
	t.Helper()
	_, err := w.Do(op, path, body)
	if err == nil {
		t.Errorf("%s %s %v: succeeded, want it refused with %q", op, path, body, want)
		return
	}
	if msg := fault.Message(err); fault.KindOf(err) != k || !strings.Contains(msg, want) {
		t.Errorf("%s %s %v: %v %q, want %v with %q", op, path, body, fault.KindOf(err), msg, k, want)
	}
}

// Renew renews a lease within the engine's bounds.
func (w *World) Renew(id string, increment time.Duration) (*lease.Lease, error) {
	l, err := w.Leases.Lookup(w.scope(), id)
	if err != nil {
		return nil, err
	}
	ttl, longest, err := w.Engine.(engine.Undoer).Bounds(w.scope(), undoOf(l))
	if err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = w.cfg.Settings.DefaultTTL
	}
	renewed, _, err := w.Leases.Renew(w.scope(), l, increment, lease.Bounds{TTL: ttl, Max: longest}, time.Now())
	return renewed, err
}

// Revoke undoes a lease now, and returns how that went. The due loop, which would
// go on with it after an error, comes later.
func (w *World) Revoke(id string) error { return w.Leases.RevokeNow(w.scope(), id, false, time.Now()) }

// IDs are those of all leases and reservations.
func (w *World) IDs(t testing.TB) (ids []string) {
	t.Helper()
	for id, err := range w.Leases.Below(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
