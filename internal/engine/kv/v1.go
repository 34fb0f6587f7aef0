package kv

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// unversioned is KV version 1: a path holds one JSON object.
type unversioned struct{ mount *engine.Mount }

// Close has nothing to close.
func (u *unversioned) Close() error { return nil }

// Routes of version 1. Reading, writing and deleting are one path each.
func (u *unversioned) Routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "{path...}", u.read).WithLeaf().WithHelp("Read a secret."),
		route.On(route.Write, "{path...}", u.write).WithExists(u.exists).WithLeaf().
			WithHelp("Write a secret. It replaces the previous one."),
		route.On(route.Delete, "{path...}", u.remove).WithLeaf().WithHelp("Delete a secret."),
		route.On(route.List, "{path...}", u.listing).WithHelp("List the names below a folder."),
	}
}

func (u *unversioned) read(ctx context.Context, r *route.Request, in pathIn) (*wire.Raw, error) {
	e, err := u.mount.Store.Get(ctx, dataPrefix+in.Path)
	if err != nil {
		return nil, err
	}
	if e.Version == 0 {
		return nil, u.checkNotUpgraded(ctx)
	}
	r.SetLeaseDuration(u.mount.Settings().DefaultTTL)
	if ttl := fieldText(e.Value, "ttl"); ttl != "" {
		if d, err := wire.ParseDuration(ttl); err == nil && d > 0 {
			r.SetLeaseDuration(d)
		}
	}
	raw := wire.RawOf(e.Value)
	return &raw, nil
}

type writeIn struct {
	Path string `path:"path" doc:"The secret's path."`
	//lint:ignore SA5008 the option is wire's
	Data wire.Raw `json:",whole" doc:"The secret, any fields."`
}

func (u *unversioned) write(ctx context.Context, _ *route.Request, in writeIn) (route.None, error) {
	body := in.Data.Reveal()
	fields := 0
	if err := wire.EachField(body, func(string, []byte) error { fields++; return nil }); err != nil || fields == 0 {
		return route.None{}, fault.New("kv.write", fault.Invalid,
			"missing data fields: the request's body must be a JSON object with at least one field")
	}
	return route.None{}, u.commit(ctx, storage.Set(dataPrefix+in.Path, body))
}

func (u *unversioned) remove(ctx context.Context, _ *route.Request, in pathIn) (route.None, error) {
	return route.None{}, u.commit(ctx, storage.Remove(dataPrefix+in.Path))
}

func (u *unversioned) exists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := u.mount.Store.Get(ctx, dataPrefix+r.Param("path"))
	if err != nil || e.Version != 0 {
		return e.Version != 0, err
	}
	return false, u.checkNotUpgraded(ctx)
}

func (u *unversioned) listing(ctx context.Context, _ *route.Request, in listIn) (route.Keys, error) {
	keys, err := list(ctx, u.mount.Store, in, dataPrefix)
	if err != nil {
		return route.Keys{}, err
	}
	return keys, u.checkNotUpgraded(ctx)
}

// commit stores op, unless the mount has become versioned.
func (u *unversioned) commit(ctx context.Context, op storage.Op) error {
	_, err := u.mount.Store.Commit(ctx, op, storage.Expect(upgradedKey, 0))
	if fault.Is(err, fault.Conflict) {
		return errUpgraded()
	}
	return err
}

// checkNotUpgraded fails if the mount has become versioned, because a secret that is not at d/ may
// have been migrated.
func (u *unversioned) checkNotUpgraded(ctx context.Context) error {
	e, err := u.mount.Store.Get(ctx, upgradedKey)
	if err == nil && e.Version != 0 {
		err = errUpgraded()
	}
	return err
}
