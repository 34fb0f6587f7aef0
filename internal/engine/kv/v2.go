package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// versioned is KV version 2.
type versioned struct {
	*backend
	upgrade upgrade
	config  atomic.Pointer[config] // as it was read last; see settings
	parsed  parsedCache
}

// Routes of version 2.
func (v *versioned) Routes() []route.Route {
	all := []route.Route{
		route.On(route.Read, "config", v.readConfig).WithHelp("Read the mount's settings."),
		route.On(route.Write, "config", v.writeConfig).WithHelp("Change the mount's settings."),
		route.On(route.Read, "data/{path...}", v.read).WithLeaf().WithHelp("Read a version of a secret."),
		route.On(route.Write, "data/{path...}", v.write).WithExists(v.exists).WithLeaf().WithHelp("Write a new version of a secret."),
		route.On(route.Patch, "data/{path...}", v.patch).WithLeaf().WithHelp("Merge into the current version, as a new one."),
		route.On(route.Delete, "data/{path...}", v.deleteLatest).WithLeaf().WithHelp("Soft-delete the newest version."),
		route.On(route.Write, "delete/{path...}", v.deleteVersions).WithLeaf().WithHelp("Soft-delete versions."),
		route.On(route.Write, "undelete/{path...}", v.undelete).WithLeaf().WithHelp("Undo a soft delete."),
		route.On(route.Write, "destroy/{path...}", v.destroy).WithLeaf().WithHelp("Destroy versions for good."),
		route.On(route.Read, "subkeys/{path...}", v.subkeys).WithLeaf().WithHelp("Read the structure of a version, without values."),
		route.On(route.Read, "metadata/{path...}", v.readMeta).WithLeaf().WithHelp("Read a secret's metadata."),
		route.On(route.Write, "metadata/{path...}", v.writeMeta).WithExists(v.exists).WithLeaf().WithHelp("Change a secret's settings and custom metadata."),
		route.On(route.Patch, "metadata/{path...}", v.patchMeta).WithLeaf().WithHelp("Merge into a secret's settings and custom metadata."),
		route.On(route.Delete, "metadata/{path...}", v.deleteMeta).WithLeaf().WithHelp("Delete a secret with all its versions."),
		route.On(route.List, "metadata/{path...}", v.listMeta).WithHelp("List the names below a folder."),
	}
	for _, of := range []struct {
		op      route.Op
		command string
	}{{route.Read, "get"}, {route.Write, "put"}, {route.Patch, "patch"}, {route.Delete, "delete"}, {route.List, "list"}} {
		all = append(all, route.On(of.op, "{path...}", elsewhere(of.op, of.command)).WithHelp("Not a path of version 2: the answer names the right one."))
	}
	return all
}

// elsewhere answers who takes the mount for one of version 1. Clients drop what a 404 of a read says, but for warnings; of
// other requests they show the error.
func elsewhere(op route.Op, command string) func(context.Context, *route.Request, writeIn) (route.None, error) {
	at := "data/"
	if op == route.List {
		at = "metadata/"
	}
	return func(_ context.Context, r *route.Request, in writeIn) (route.None, error) {
		hint := fmt.Sprintf("%q is version 2 of the key-value engine, and nothing is at %q: use %q, or \"kv %s\" on the command line", r.Mount.Path, r.Shown(), r.Mount.Path+at+in.Path, command)
		if op != route.Read && op != route.List {
			return route.None{}, fault.New("kv.elsewhere", fault.NotFound, "%s", hint)
		}
		r.SetStatus(http.StatusNotFound)
		r.Warn("%s", hint)
		return route.None{}, nil
	}
}

// settings are the mount's, as they are stored now: another server may have changed them. They are decoded once.
func (v *versioned) settings(ctx context.Context) (*config, error) {
	e, err := v.m.Store.Get(ctx, configKey)
	if err != nil {
		return nil, err
	}
	if c := v.config.Load(); c != nil && c.stored == e.Version {
		return c, nil
	}
	c := &config{stored: e.Version}
	if e.Version != 0 {
		if err := json.Unmarshal(e.Value, c); err != nil {
			return nil, fault.Wrap("kv.settings", fault.Internal, err)
		}
	}
	v.config.Store(c)
	return c, nil
}

// load reads the metadata of a path; nil where there is none.
func (v *versioned) load(ctx context.Context, path string) (*record, storage.Version, error) {
	m, ver, err := v.row(ctx, path)
	return m.visible(), ver, err
}

// row reads the row of a path, which may be vacant.
func (v *versioned) row(ctx context.Context, path string) (*record, storage.Version, error) {
	if v.upgrade.running.Load() {
		if err := v.upgrade.carry(ctx, path); err != nil {
			return nil, 0, err
		}
	}
	return v.stored(ctx, path)
}

// stored reads the row of a path that is known to be carried over.
func (v *versioned) stored(ctx context.Context, path string) (*record, storage.Version, error) {
	e, err := v.m.Store.Get(ctx, metaPrefix+path)
	if err != nil || e.Version == 0 {
		return nil, 0, err
	}
	if m := v.parsed.get(path, e.Version); m != nil {
		return m, e.Version, nil
	}
	m, err := decodeRecord(e.Value)
	if err != nil {
		return nil, 0, err
	}
	v.parsed.put(path, e.Version, m)
	return m, e.Version, nil
}

// An edit makes a new record of a path's, with operations to be committed along. It gets the mount's settings, and nil
// where there is no record; it may be called again. A nil record changes nothing.
type edit func(c *config, m *record) (*record, []storage.Op, error)

// change commits what f makes of a path's record. by is the client that makes the change; nil for a rotation.
func (v *versioned) change(ctx context.Context, path string, by *hand, f edit) error {
	defer v.latch(path)()
	for range 16 {
		row, ver, err := v.row(ctx, path)
		if err != nil {
			return err
		}
		old := row.visible()
		c, err := v.settings(ctx)
		if err != nil {
			return err
		}
		next, ops, err := f(c, old)
		if err != nil || next == nil {
			return err
		}
		if old == nil && row != nil {
			next.hold(row.Held, nil)
		}
		err = v.commit(ctx, revision{path: path, by: by, old: old, next: next, version: ver, ops: ops})
		if !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return errBusy()
}

// A revision is a change of a secret that is about to be committed.
type revision struct {
	path      string
	by        *hand   // nil: a rotation
	old, next *record // of which old may be nil
	version   storage.Version
	ops       []storage.Op // but that of the record
	remove    bool         // the record goes
}

// commit stores a revision, if the record is still at its version. Whoever holds a field that it
// changes is told, and has a say. The latch of the path is held, and is released while a holder
// asks its provider.
func (v *versioned) commit(ctx context.Context, r revision) error {
	write := func(along []storage.Op) error {
		row := storage.Remove(metaPrefix + r.path)
		if !r.remove {
			b, err := r.next.encode()
			if err != nil {
				return err
			}
			row = storage.Set(metaPrefix+r.path, b)
		}
		ops := slices.Concat(r.ops, []storage.Op{row.If(r.version)}, reindex(r.path, r.old, r.next))
		ver, err := v.m.Store.CommitWith(ctx, ops, oneEvent(slices.Concat(along, v.event(r.path, r.next))))
		if err == nil && !r.remove {
			v.parsed.put(r.path, ver, r.next)
		}
		return err
	}
	o, err := r.overwrites(ctx, v.backend)
	if err != nil {
		return err
	}
	if o == nil {
		return write(nil)
	}
	l := v.latchOf(r.path)
	l.Unlock()
	defer l.Lock()
	var said []func() // by a judgement whose write loses, nothing is: the next one says what is true
	o.Custom = func(values map[string]string) {
		r.next.Custom = maps.Clone(r.next.Custom)
		if r.next.Custom == nil {
			r.next.Custom = map[string]string{}
		}
		maps.Copy(r.next.Custom, values)
	}
	o.Warn = func(format string, args ...any) { said = append(said, func() { r.by.warn(format, args...) }) }
	if err := v.m.Host.Overwrite(ctx, *o, write); err != nil {
		return err
	}
	for _, warn := range said {
		warn()
	}
	return nil
}

func errBusy() error {
	return fault.New("kv.change", fault.Unavailable, "the secret is being written by many requests at once; try again")
}

// reindex moves the path in the index of next rotations. Times within one
// second have the same row there.
func reindex(path string, old, next *record) []storage.Op {
	var was, is string
	if old != nil && !old.Indexed.IsZero() {
		was = nextKey(old.Indexed, path)
	}
	if !next.Indexed.IsZero() {
		is = nextKey(next.Indexed, path)
	}
	if was == is {
		return nil
	}
	var ops []storage.Op
	if was != "" {
		ops = append(ops, storage.Remove(was))
	}
	if is != "" {
		ops = append(ops, storage.Set(is, nil))
	}
	return ops
}

func (b *backend) event(path string, m *record) []storage.Op {
	return []storage.Op{b.m.Host.Event("kv/write",
		engine.Detail{Name: "mount", Value: b.m.UUID}, engine.Detail{Name: "path", Value: path}, engine.Detail{Name: "version", Value: itoa(m.Current)},
	)}
}

type readIn struct {
	Path    string `path:"path" doc:"The secret's path."`
	Version int    `json:"version" default:"0" doc:"Which version; 0: the current one."`
}

// versionOut is a version's metadata in answers.
type versionOut struct {
	CreatedTime  time.Time         `json:"created_time" audit:"clear"`
	Custom       map[string]string `json:"custom_metadata"`
	DeletionTime time.Time         `json:"deletion_time" audit:"clear"`
	Destroyed    bool              `json:"destroyed" audit:"clear"`
	Version      int               `json:"version" audit:"clear"`
}

func outOf(m *record, ver *version) versionOut {
	return versionOut{CreatedTime: ver.Created, Custom: m.Custom, DeletionTime: ver.Deleted, Destroyed: ver.Destroyed, Version: ver.N}
}

// readOut is a read's answer. The two hints stand beside the data, never in
// it, where unmodified agents look for them.
type readOut struct {
	Data           wire.Raw   `json:"data"`
	Metadata       versionOut `json:"metadata"`
	RotationPeriod int64      `json:"rotation_period,omitempty" audit:"clear"`
	TTL            int64      `json:"ttl,omitempty" audit:"clear"`
}

func (v *versioned) read(ctx context.Context, r *route.Request, in readIn) (*readOut, error) {
	if in.Version < 0 {
		return nil, fault.New("kv.read", fault.Invalid, "parameter \"version\" must not be negative")
	}
	m, _, err := v.load(ctx, in.Path)
	if err != nil || m == nil {
		return nil, err
	}
	ver := m.find(in.Version)
	if ver == nil {
		return nil, nil
	}
	out := &readOut{Metadata: outOf(m, ver)}
	now := time.Now()
	if ver.gone(now) {
		r.SetStatus(404)
		return out, nil
	}
	e, err := v.m.Store.Get(ctx, versionKey(in.Path, ver.N))
	if err != nil {
		return nil, err
	}
	if e.Version == 0 { // dropped between the two reads
		return nil, nil
	}
	out.Data = wire.RawOf(e.Value)
	if ver.N == m.Current {
		out.RotationPeriod, out.TTL = hints(ver, now)
	}
	return out, nil
}

type putIn struct {
	Path    string   `path:"path" doc:"The secret's path."`
	Data    wire.Raw `json:"data" doc:"The secret, any fields."`
	Options *struct {
		CAS   *int `json:"cas"`
		Force bool `json:"force"`
	} `json:"options" doc:"An object with cas: the version that this write replaces, 0 for a new secret; and force: write a dead key over a rotated one."`
	Version *int `json:"version" doc:"Accepted without effect: old clients send it."` // sent by old clients, without meaning
}

func (in *putIn) cas() *int {
	if in.Options == nil {
		return nil
	}
	return in.Options.CAS
}

func (in *putIn) hand(r *route.Request) *hand {
	h := handOf(r)
	h.force = in.Options != nil && in.Options.Force
	return h
}

func (v *versioned) write(ctx context.Context, r *route.Request, in putIn) (*versionOut, error) {
	if in.Data.IsNull() || !in.Data.IsObject() {
		return nil, fault.New("kv.write", fault.Invalid, "field \"data\": no data provided; the secret goes into {\"data\": {…}}")
	}
	var out versionOut
	var stored *record // its custom metadata may say more once a holder has judged the write
	err := v.change(ctx, in.Path, in.hand(r), func(c *config, m *record) (*record, []storage.Op, error) {
		if err := c.checkCAS(m, in.cas()); err != nil {
			return nil, nil, err
		}
		next, ver, ops := c.append(m, in.Path, in.Data.Reveal(), nil)
		out, stored = outOf(next, ver), next
		return next, ops, nil
	})
	if err != nil {
		return nil, err
	}
	out.Custom = stored.Custom
	return &out, nil
}

func (c *config) checkCAS(m *record, cas *int) error {
	required := c.CASRequired || m != nil && m.Settings.CASRequired
	if cas == nil {
		if required {
			return fault.New("kv.write", fault.Invalid, "check-and-set parameter required for this call: send options.cas with the current version, 0 for a new secret")
		}
		return nil
	}
	current := 0
	if m != nil {
		current = m.Current
	}
	if *cas != current {
		return fault.New("kv.write", fault.Invalid, "check-and-set parameter did not match the current version: options.cas is %d, the current version is %d; read it again and merge", *cas, current)
	}
	return nil
}

// append makes the record with one version more, and the operations that
// store its data and drop what is too old.
func (c *config) append(m *record, path string, data []byte, t *turn) (*record, *version, []storage.Op) {
	now := time.Now().UTC()
	next := &record{Created: now}
	if m != nil {
		next = m.clone()
	}
	next.Updated, next.Current = now, next.Current+1
	ver := version{N: next.Current, Created: now, Deleted: next.deletesAt(c, now), Turn: t}
	ver.Rotated, ver.Next = rotationTimes(data, next.Custom)
	next.Versions = append(next.Versions, ver)
	next.Indexed = ver.Next
	ops := []storage.Op{storage.Set(versionKey(path, ver.N), data)}
	// At most 90 go at once, so that the batch stays within its limit; the
	// next write drops more.
	keep := next.keep(c)
	for n := 0; len(next.Versions) > keep && n < 90; n++ {
		ops = append(ops, storage.Remove(versionKey(path, next.Versions[0].N)))
		next.Versions = next.Versions[1:]
	}
	if len(next.Versions) >= keep { // from now on, each write drops one
		next.Oldest = next.Versions[0].N
	}
	return next, &next.Versions[len(next.Versions)-1], ops
}

func (v *versioned) exists(ctx context.Context, r *route.Request) (bool, error) {
	m, _, err := v.load(ctx, r.Param("path"))
	return m != nil, err
}

func (v *versioned) deleteLatest(ctx context.Context, r *route.Request, in pathIn) (route.None, error) {
	return route.None{}, v.mark(ctx, in.Path, nil, handOf(r), func(ver *version, now time.Time) bool {
		if ver.gone(now) {
			return false
		}
		ver.Deleted = now
		return true
	})
}

type versionsIn struct {
	Path     string `path:"path" doc:"The secret's path."`
	Versions []int  `json:"versions" doc:"The versions."`
}

func (in *versionsIn) check() error {
	if len(in.Versions) == 0 {
		return fault.New("kv.versions", fault.Invalid, "field \"versions\": name at least one version, for example {\"versions\": [2]}")
	}
	if len(in.Versions) > 90 {
		return fault.New("kv.versions", fault.Invalid, "field \"versions\": at most 90 at once, not %d", len(in.Versions))
	}
	return nil
}

func (v *versioned) deleteVersions(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	return route.None{}, v.mark(ctx, in.Path, in.Versions, handOf(r), func(ver *version, now time.Time) bool {
		if ver.gone(now) {
			return false
		}
		ver.Deleted = now
		return true
	})
}

func (v *versioned) undelete(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	by := handOf(r)
	by.force = true // what was there is there again: it is not refused
	return route.None{}, v.changeMarked(ctx, in.Path, in.Versions, by, func(c *config, m *record, ver *version, now time.Time) bool {
		if ver.Destroyed || ver.Deleted.IsZero() {
			return false
		}
		// The version lives anew, and so does its own time to die.
		ver.Deleted = m.deletesAt(c, now)
		return true
	})
}

func (v *versioned) mark(ctx context.Context, path string, ns []int, by *hand, f func(ver *version, now time.Time) bool) error {
	return v.changeMarked(ctx, path, ns, by, func(_ *config, _ *record, ver *version, now time.Time) bool { return f(ver, now) })
}

// changeMarked applies f to the named versions, the newest where none is named.
func (v *versioned) changeMarked(ctx context.Context, path string, ns []int, by *hand, f func(c *config, m *record, ver *version, now time.Time) bool) error {
	return v.change(ctx, path, by, func(c *config, m *record) (*record, []storage.Op, error) {
		if m == nil {
			return nil, nil, nil
		}
		next, changed, now := m.clone(), false, time.Now().UTC()
		if ns == nil {
			ns = []int{next.Current}
		}
		for _, n := range ns {
			if ver := next.find(n); ver != nil && n > 0 && f(c, next, ver, now) {
				changed = true
			}
		}
		if !changed {
			return nil, nil, nil
		}
		next.Updated = now
		return next, nil, nil
	})
}

func (v *versioned) destroy(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	return route.None{}, v.change(ctx, in.Path, handOf(r), func(_ *config, m *record) (*record, []storage.Op, error) {
		if m == nil {
			return nil, nil, nil
		}
		next := m.clone()
		next.Updated = time.Now().UTC()
		var ops []storage.Op
		for _, n := range slices.Compact(slices.Sorted(slices.Values(in.Versions))) {
			if ver := next.find(n); ver != nil && n > 0 {
				ver.Destroyed = true
				ops = append(ops, storage.Remove(versionKey(in.Path, n)))
			}
		}
		return next, ops, nil
	})
}

var _ engine.Versioned = (*versioned)(nil)
