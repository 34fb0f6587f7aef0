// Package outsidetest contains the surroundings of a core in a test: an engine whose leases create
// [Things], an audit device that fails on command, and a seal that needs no key shares.
package outsidetest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Things are what the leases of the engine "things" create. They are outside of the server and
// survive it. Reading creds/<role> creates one; writing later/<id> schedules work. The zero value
// is ready to use.
type Things struct {
	mu     sync.Mutex        // guards all
	alive  map[string]string // attempt → lease
	last   string            // last lease; the role "same" reuses it
	opened int
	worked []string

	renew, busy error
	onPlan      func()
	onCreate    func(ctx context.Context, create func()) error
	onUndo      func(role string) error
}

// Create makes every create fail with err. If late, the thing is created nevertheless.
func (h *Things) Create(err error, late bool) {
	h.OnCreate(func(_ context.Context, create func()) error {
		if err == nil || late {
			create()
		}
		return err
	})
}

// OnCreate makes f serve the creates; create creates the thing.
func (h *Things) OnCreate(f func(ctx context.Context, create func()) error) {
	h.set(func() { h.onCreate = f })
}

// OnPlan makes each plan call f.
func (h *Things) OnPlan(f func()) { h.set(func() { h.onPlan = f }) }

// Undo makes every undo fail with err.
func (h *Things) Undo(err error) { h.OnUndo(func(string) error { return err }) }

// OnUndo makes each undo call f, and fail with its error.
func (h *Things) OnUndo(f func(role string) error) { h.set(func() { h.onUndo = f }) }

// Renew makes every renewal fail with err.
func (h *Things) Renew(err error) { h.set(func() { h.renew = err }) }

// Busy makes disabling the mount fail with err.
func (h *Things) Busy(err error) { h.set(func() { h.busy = err }) }

func (h *Things) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// Alive returns the leases of the existing things.
func (h *Things) Alive() []string { return slices.Sorted(maps.Values(h.Attempts())) }

// Attempts returns the lease of each existing thing by the attempt that created it.
func (h *Things) Attempts() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.alive)
}

// Opened returns how often an engine was opened.
func (h *Things) Opened() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened
}

// Worked returns the work that was done, in order.
func (h *Things) Worked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.worked)
}

// Type is the engine type. Its option "color" may be "red" or "blue"; red cannot be changed to
// blue.
func (h *Things) Type() engine.Type {
	return engine.Type{
		Name: "things",
		Options: func(was, want map[string]string) (engine.Options, error) {
			switch color := want["color"]; {
			case !slices.Contains([]string{"", "red", "blue"}, color):
				return engine.Options{}, fault.New("things", fault.Invalid,
					"options.color must be \"red\" or \"blue\", not %q", color)
			case was["color"] == "red" && color != "red":
				return engine.Options{}, fault.New("things", fault.Invalid, "options.color: what is red stays so")
			}
			out := engine.Options{Stored: want, Along: []storage.Op{storage.Set("painted", []byte(want["color"]))}}
			if want["color"] == "blue" {
				out.Warnings = []string{"blue fades"}
			}
			return out, nil
		},
		Open: func(_ context.Context, m *engine.Mount) (engine.Engine, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.opened++
			return &maker{h, m, m.Settings().Options["color"]}, nil
		},
	}
}

// maker is the engine of one mount.
type maker struct {
	h     *Things
	m     *engine.Mount
	color string
}

type credsIn struct {
	Role  string        `path:"role"`
	TTL   time.Duration `json:"ttl"`
	Fixed bool          `json:"fixed"`
}

type credsOut struct {
	Attempt string `json:"attempt"`
}

type statusOut struct {
	Color   string `json:"color"`
	Painted string `json:"painted"`
}

type workIn struct {
	ID string `path:"id"`
}

// publishIn is a value to publish like a rotated credential.
type publishIn struct {
	Turn     string   `json:"turn"`
	Path     string   `json:"path"`
	Value    string   `json:"value"`
	Policies []string `json:"policies"`
}

type publishOut struct {
	Version int    `json:"version"`
	Turn    string `json:"turn,omitempty"`
}

func (e *maker) publish(ctx context.Context, _ *route.Request, in publishIn) (*publishOut, error) {
	version, err := e.m.Host.Publish(ctx, engine.Publication{
		Turn: in.Turn, Key: "k", Path: in.Path, Policies: in.Policies,
		Fields: map[string]secret.Value{"value": secret.Text(in.Value)}, CAS: -1,
	})
	return &publishOut{Version: version}, err
}

// claim checks whether the caller may configure a publication.
func (e *maker) claim(ctx context.Context, r *route.Request, in publishIn) (*publishOut, error) {
	return &publishOut{}, e.m.Host.MayPublish(ctx, r.Caller.Policies, in.Path)
}

func (e *maker) published(ctx context.Context, _ *route.Request, in struct {
	Path string `path:"path"`
}) (*publishOut, error) {
	p, err := e.m.Host.Published(ctx, engine.Publication{Path: in.Path})
	if p == nil || err != nil {
		return nil, err
	}
	return &publishOut{p.Version, p.Turn}, nil
}

// Routes of the engine.
func (e *maker) Routes() []route.Route {
	return []route.Route{
		route.Lease(route.Read, "creds/{role}", e.plan, e.create),
		route.Lease(route.Write, "creds/{role}", e.plan, e.create),
		route.On(route.Read, "status", e.status),
		route.On(route.Write, "later/{id}", e.schedule),
		route.On(route.Write, "publish", e.publish),
		route.On(route.Write, "claim", e.claim),
		route.On(route.Read, "published/{path...}", e.published),
	}
}

func (e *maker) plan(_ context.Context, _ *route.Request, in credsIn) (route.Plan, credsIn, error) {
	if in.Role == "unknown" {
		return route.Plan{}, in, fault.New("things", fault.Invalid, "unknown role: %s", in.Role)
	}
	p := route.Plan{
		Kind: "thing", Undo: in.Role, TTL: in.TTL, Renewable: !in.Fixed, Target: in.Role,
		CreateWithin: 5 * time.Second, Late: 30 * time.Second,
	}
	e.h.mu.Lock()
	onPlan := e.h.onPlan
	e.h.mu.Unlock()
	if onPlan != nil {
		onPlan()
	}
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	if in.Role == "same" && e.h.last != "" {
		p.Again = &route.Again{Lease: e.h.last, Data: &credsOut{"again"}}
	}
	return p, in, nil
}

func (e *maker) create(ctx context.Context, a route.Attempt, _ credsIn) (*credsOut, error) {
	create := func() {
		e.h.mu.Lock()
		defer e.h.mu.Unlock()
		if e.h.alive == nil {
			e.h.alive = map[string]string{}
		}
		e.h.alive[a.ID] = a.LeaseID
		e.h.last = a.LeaseID
	}
	e.h.mu.Lock()
	onCreate := e.h.onCreate
	e.h.mu.Unlock()
	if onCreate == nil {
		create()
	} else if err := onCreate(ctx, create); err != nil {
		return nil, err
	}
	return &credsOut{a.ID}, nil
}

func (e *maker) status(ctx context.Context, _ *route.Request, _ route.None) (*statusOut, error) {
	painted, err := e.m.Store.Get(ctx, "painted")
	return &statusOut{e.color, string(painted.Value)}, err
}

func (e *maker) schedule(ctx context.Context, _ *route.Request, in workIn) (route.None, error) {
	_, err := e.m.Store.CommitWith(ctx, nil,
		e.m.Host.Schedule("job", in.ID, time.Time{}, time.Now().UTC().Truncate(time.Millisecond).Add(time.Second)))
	return route.None{}, err
}

// Work implements [engine.Worker].
func (e *maker) Work(_ context.Context, kind, id string) error {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	e.h.worked = append(e.h.worked, kind+"/"+id)
	return nil
}

// Undo implements [engine.Undoer].
func (e *maker) Undo(_ context.Context, u engine.Undo) (engine.Undone, error) {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	var role string
	if err := json.Unmarshal(u.Data, &role); err != nil {
		return engine.Undone{}, err
	}
	if role == "panics" {
		panic(role)
	}
	if e.h.onUndo != nil {
		if err := e.h.onUndo(role); err != nil {
			return engine.Undone{}, err
		}
	}
	delete(e.h.alive, u.Attempt)
	if !u.Granted && time.Now().Before(u.Late) {
		return engine.Undone{Again: u.Late}, nil
	}
	return engine.Undone{Note: "undone"}, nil
}

// Renew implements [engine.Undoer].
func (e *maker) Renew(context.Context, engine.Undo, time.Time) error {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	return e.h.renew
}

// Bounds implements [engine.Undoer]. The role "short" has a maximum TTL of one hour.
func (e *maker) Bounds(_ context.Context, u engine.Undo) (ttl, most time.Duration, err error) {
	if string(u.Data) == `"short"` {
		return 10 * time.Minute, time.Hour, nil
	}
	return 0, 0, nil
}

// Unfinished implements [engine.Keeper].
func (e *maker) Unfinished(context.Context) error {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	return e.h.busy
}

// Close has nothing to close.
func (e *maker) Close() error { return nil }

// A Tape is an audit device of type "tape" that keeps its lines in memory, or fails.
type Tape struct {
	mu    sync.Mutex // guards all
	lines []string
	fails error
	on    func(lines []byte) error
}

// ErrTape is the error of a failing tape.
var ErrTape = errors.New("the tape is torn")

// Fail makes every write fail, or succeed again.
func (d *Tape) Fail(fail bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails = nil; fail {
		d.fails = ErrTape
	}
}

// On makes each write call f, and fail with its error.
func (d *Tape) On(f func(lines []byte) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on = f
}

// Text returns everything that was written.
func (d *Tape) Text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []byte
	for _, l := range d.lines {
		all = append(all, l...)
	}
	return string(all)
}

// Type of the device.
func (d *Tape) Type() audit.Type {
	return audit.Type{Name: "tape", Open: func(audit.Config) (audit.Device, error) { return recorder{d}, nil }}
}

type recorder struct{ d *Tape }

// Tail implements [audit.Device], as do the others.
func (recorder) Tail() (audit.Tail, error) { return audit.Tail{}, nil }

// Write implements [audit.Device].
func (r recorder) Write(_ context.Context, lines []byte) error {
	r.d.mu.Lock()
	on := r.d.on
	r.d.mu.Unlock()
	if on != nil {
		if err := on(lines); err != nil {
			return err
		}
	}
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.d.fails == nil {
		r.d.lines = append(r.d.lines, string(lines))
	}
	return r.d.fails
}

// Reopen has nothing to open.
func (recorder) Reopen() error { return nil }

// Close has nothing to close.
func (recorder) Close() error { return nil }
