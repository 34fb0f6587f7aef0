package kv

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// metadataAPI serves the metadata of secrets.
type metadataAPI struct{ secrets *secrets }

type settingsIn struct {
	Path               string              `path:"path" doc:"The secret's path."`
	MaxVersions        *int                `json:"max_versions" default:"0" doc:"How many versions are kept; 0: as the mount says, -1: all, of which some thousands fit."`
	CASRequired        *bool               `json:"cas_required" default:"false" doc:"Whether each write must say which version it replaces."`
	DeleteVersionAfter *wire.Lifetime      `json:"delete_version_after" default:"0s" doc:"How long a version is kept before it is deleted; 0s: as the mount says, -1s: never."`
	Custom             *map[string]*string `json:"custom_metadata" doc:"Notes on the secret, at most 64 keys; null removes one."`
}

// metaOut is the metadata of a secret in answers.
type metaOut struct {
	CASRequired            bool                  `json:"cas_required"`
	CreatedTime            time.Time             `json:"created_time"`
	CurrentMetadataVersion int                   `json:"current_metadata_version"`
	CurrentVersion         int                   `json:"current_version"`
	Custom                 map[string]string     `json:"custom_metadata"`
	DeleteVersionAfter     string                `json:"delete_version_after"`
	MaxVersions            int                   `json:"max_versions"`
	MetadataCASRequired    bool                  `json:"metadata_cas_required"`
	OldestVersion          int                   `json:"oldest_version"`
	UpdatedTime            time.Time             `json:"updated_time"`
	Versions               map[string]versionRow `json:"versions"`
}

type versionRow struct {
	CreatedTime  time.Time `json:"created_time"`
	DeletionTime time.Time `json:"deletion_time"`
	Destroyed    bool      `json:"destroyed"`
}

func (a metadataAPI) read(ctx context.Context, _ *route.Request, in pathIn) (*metaOut, error) {
	m, _, err := a.secrets.load(ctx, in.Path)
	if err != nil || m == nil {
		return nil, err
	}
	out := &metaOut{
		CASRequired: m.Settings.CASRequired, CreatedTime: m.Created, CurrentMetadataVersion: m.MetaVer,
		CurrentVersion: m.Current,
		Custom:         m.Custom, DeleteVersionAfter: max(m.Settings.DeleteVersionAfter, 0).String(),
		MaxVersions:   m.Settings.MaxVersions,
		OldestVersion: m.Oldest, UpdatedTime: m.Updated, Versions: map[string]versionRow{},
	}
	for _, ver := range m.Versions {
		out.Versions[itoa(ver.N)] = versionRow{
			CreatedTime: ver.Created, DeletionTime: ver.Deleted, Destroyed: ver.Destroyed,
		}
	}
	return out, nil
}

func (a metadataAPI) write(ctx context.Context, _ *route.Request, in settingsIn) (route.None, error) {
	return route.None{}, a.change(ctx, in, false)
}

func (a metadataAPI) patch(ctx context.Context, _ *route.Request, in settingsIn) (route.None, error) {
	return route.None{}, a.change(ctx, in, true)
}

// change changes settings and custom metadata. A patch merges the custom
// metadata and needs the secret to exist; a write replaces it.
func (a metadataAPI) change(ctx context.Context, in settingsIn, patch bool) error {
	if err := checkMax(in.MaxVersions); err != nil {
		return err
	}
	return a.secrets.change(ctx, in.Path, writer{}, func(_ *config, m *record) (*record, []storage.Op, error) {
		if m == nil && patch {
			return nil, nil, fault.New("kv.patchMeta", fault.NotFound, "")
		}
		now := time.Now().UTC()
		next := &record{Created: now}
		if m != nil {
			next = m.clone()
			next.MetaVer++
		}
		next.Updated = now
		if in.MaxVersions != nil {
			next.Settings.MaxVersions = max(*in.MaxVersions, -1)
		}
		if in.CASRequired != nil {
			next.Settings.CASRequired = *in.CASRequired
		}
		if in.DeleteVersionAfter != nil {
			next.Settings.DeleteVersionAfter = time.Duration(*in.DeleteVersionAfter)
		}
		if in.Custom != nil {
			custom, err := mergeCustom(next.Custom, *in.Custom, patch)
			if err != nil {
				return nil, nil, err
			}
			next.Custom = custom
		}
		return next, nil, nil
	})
}

// mergeCustom applies a write or a patch to custom metadata, within Vault's limits: 64 keys of 128
// bytes, values of 512 bytes. A nil map (JSON null) clears it.
func mergeCustom(old map[string]string, in map[string]*string, patch bool) (map[string]string, error) {
	out := map[string]string{}
	if patch && in != nil {
		maps.Copy(out, old)
	}
	for k, val := range in {
		if val == nil {
			delete(out, k)
			continue
		}
		if k == "" || len(k) > 128 || len(*val) > 512 {
			return nil, fault.New("kv.mergeCustom", fault.Invalid,
				"field \"custom_metadata\": a key must have 1 to 128 bytes and a value at most 512 (key %.20q)", k)
		}
		out[k] = *val
	}
	if len(out) > 64 {
		return nil, fault.New("kv.mergeCustom", fault.Invalid, "field \"custom_metadata\": at most 64 keys, not %d",
			len(out))
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// remove removes a secret: first its versions, in batches, and with the last batch the record,
// unless a key publishes to the path. After a crash, the secret has fewer old versions.
func (a metadataAPI) remove(ctx context.Context, r *route.Request, in pathIn) (route.None, error) {
	defer a.secrets.table.latches.lock(in.Path)()
	for {
		m, ver, err := a.secrets.load(ctx, in.Path)
		if err != nil || m == nil {
			return route.None{}, err
		}
		next := m.clone()
		var ops []storage.Op
		for n := 0; len(next.Versions) > 0 && n < 90; n++ {
			ops = append(ops, storage.Remove(versionKey(in.Path, next.Versions[0].N)))
			next.Versions = next.Versions[1:]
		}
		rev := revision{path: in.Path, by: clientOf(r), old: m, version: ver, ops: ops}
		last := len(next.Versions) == 0
		switch {
		case !last:
			next.Oldest = next.Versions[0].N
		case len(next.Published) > 0:
			next = &record{Vacant: true, Published: next.Published, Current: next.Current}
		default:
			rev.remove = true
		}
		rev.next = next
		err = a.secrets.commit(ctx, rev)
		if err != nil && !errors.Is(err, storage.ErrConflict) || err == nil && last {
			return route.None{}, err
		}
	}
}

func (a metadataAPI) list(ctx context.Context, _ *route.Request, in listIn) (route.Keys, error) {
	if a.secrets.upgrade.running.Load() { // read the source of the migration before its destination
		return list(ctx, a.secrets.table.mount.Store, in, dataPrefix, metaPrefix)
	}
	return list(ctx, a.secrets.table.mount.Store, in, metaPrefix)
}
