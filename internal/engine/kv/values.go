package kv

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// dataAPI serves the versions of secrets.
type dataAPI struct{ secrets *secrets }

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
	return versionOut{
		CreatedTime: ver.Created, Custom: m.Custom, DeletionTime: ver.Deleted, Destroyed: ver.Destroyed,
		Version: ver.N,
	}
}

// readOut is a read's answer. The two hints are next to the data, where unmodified agents expect
// them.
type readOut struct {
	Data           wire.Raw   `json:"data"`
	Metadata       versionOut `json:"metadata"`
	RotationPeriod int64      `json:"rotation_period,omitempty" audit:"clear"`
	TTL            int64      `json:"ttl,omitempty" audit:"clear"`
}

func (a dataAPI) read(ctx context.Context, r *route.Request, in readIn) (*readOut, error) {
	if in.Version < 0 {
		return nil, fault.New("kv.read", fault.Invalid, "parameter \"version\" must not be negative")
	}
	m, _, err := a.secrets.load(ctx, in.Path)
	if err != nil || m == nil {
		return nil, err
	}
	ver := m.find(in.Version)
	if ver == nil {
		return nil, nil
	}
	out := &readOut{Metadata: outOf(m, ver)}
	now := time.Now()
	if ver.unreadable(now) {
		r.SetStatus(404)
		return out, nil
	}
	e, err := a.secrets.table.mount.Store.Get(ctx, versionKey(in.Path, ver.N))
	if err != nil {
		return nil, err
	}
	if e.Version == 0 { // removed between the two reads
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
	Version *int `json:"version" doc:"Accepted without effect: old clients send it."`
}

func (in *putIn) cas() *int {
	if in.Options == nil {
		return nil
	}
	return in.Options.CAS
}

func (in *putIn) client(r *route.Request) *client {
	c := clientOf(r)
	c.force = in.Options != nil && in.Options.Force
	return c
}

func (a dataAPI) write(ctx context.Context, r *route.Request, in putIn) (*versionOut, error) {
	if in.Data.IsNull() || !in.Data.IsObject() {
		return nil, fault.New("kv.write", fault.Invalid,
			"field \"data\": no data provided; the secret goes into {\"data\": {…}}")
	}
	return a.store(ctx, r, in, func(*record) ([]byte, error) { return in.Data.Reveal(), nil })
}

// store writes a new version of a secret, with the data that a function makes from its record.
func (a dataAPI) store(
	ctx context.Context, r *route.Request, in putIn, data func(m *record) ([]byte, error),
) (*versionOut, error) {
	var out versionOut
	var stored *record // a key that checks the write may add custom metadata
	by := writer{client: in.client(r)}
	err := a.secrets.change(ctx, in.Path, by, func(c *config, m *record) (*record, []storage.Op, error) {
		b, err := data(m)
		if err != nil {
			return nil, nil, err
		}
		if err := c.checkCAS(m, in.cas()); err != nil {
			return nil, nil, err
		}
		next, ver, ops := c.append(m, in.Path, b, nil)
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
			return fault.New("kv.write", fault.Invalid,
				"check-and-set parameter required for this call: send options.cas with the current version, 0 for a "+
					"new secret")
		}
		return nil
	}
	current := 0
	if m != nil {
		current = m.Current
	}
	if *cas != current {
		return fault.New("kv.write", fault.Invalid,
			"check-and-set parameter did not match the current version: options.cas is %d, the current version is "+
				"%d; read it again and merge",
			*cas,
			current)
	}
	return nil
}

func (a dataAPI) exists(ctx context.Context, r *route.Request) (bool, error) {
	m, _, err := a.secrets.load(ctx, r.Param("path"))
	return m != nil, err
}

func (a dataAPI) deleteLatest(ctx context.Context, r *route.Request, in pathIn) (route.None, error) {
	return route.None{}, a.editVersions(ctx, in.Path, nil, clientOf(r), softDelete)
}

func softDelete(_ *config, _ *record, ver *version, now time.Time) bool {
	if ver.unreadable(now) {
		return false
	}
	ver.Deleted = now
	return true
}

type versionsIn struct {
	Path     string `path:"path" doc:"The secret's path."`
	Versions []int  `json:"versions" doc:"The versions."`
}

func (in *versionsIn) check() error {
	if len(in.Versions) == 0 {
		return fault.New("kv.versions", fault.Invalid,
			"field \"versions\": name at least one version, for example {\"versions\": [2]}")
	}
	if len(in.Versions) > 90 {
		return fault.New("kv.versions", fault.Invalid, "field \"versions\": at most 90 at once, not %d",
			len(in.Versions))
	}
	return nil
}

func (a dataAPI) deleteVersions(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	return route.None{}, a.editVersions(ctx, in.Path, in.Versions, clientOf(r), softDelete)
}

func (a dataAPI) undelete(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	by := clientOf(r)
	by.force = true // an earlier value is not refused
	return route.None{}, a.editVersions(ctx, in.Path, in.Versions,
		by, func(c *config, m *record, ver *version, now time.Time) bool {
			if ver.Destroyed || ver.Deleted.IsZero() {
				return false
			}
			// Restart the time until it is deleted automatically.
			ver.Deleted = m.deletesAt(c, now)
			return true
		})
}

// editVersions applies f to the versions ns or, if there are none, to the newest.
func (a dataAPI) editVersions(
	ctx context.Context, path string, ns []int, by *client,
	f func(c *config, m *record, ver *version, now time.Time) bool,
) error {
	return a.secrets.change(ctx, path, writer{client: by}, func(c *config, m *record) (*record, []storage.Op, error) {
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

func (a dataAPI) destroy(ctx context.Context, r *route.Request, in versionsIn) (route.None, error) {
	if err := in.check(); err != nil {
		return route.None{}, err
	}
	by := writer{client: clientOf(r)}
	return route.None{}, a.secrets.change(ctx, in.Path, by, func(_ *config, m *record) (*record, []storage.Op, error) {
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
