package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// placeRows are by the hash of a path and field. The row names the record that publishes there,
// and is written in the same commit as that record.
const placeRows barrier.Rows[publisher] = "place/"

// places stores which record publishes to a path and field. At most one record does.
type places struct {
	view     *barrier.View
	mounts   *mounts.Manager
	policies *policies.Manager
}

// A publisher is the record that publishes to a place. Its row is ignored if the record is gone.
type publisher struct {
	Record string `json:"record"` // absolute
	Name   string `json:"name"`   // shown to users, below its mount
	Mount  string `json:"mount"`  // uuid
}

// placeName is the name of a place's row. No path contains NUL, so no two places share a row.
func placeName(place engine.Place) string {
	sum := sha256.Sum256([]byte(place.Path + "\x00" + place.Field))
	return hex.EncodeToString(sum[:])
}

// reserve returns the operations that make a record the only publisher to the places that it
// wants, and release those that it had. If two requests want one place, one of the two commits
// fails.
func (p *places) reserve(ctx context.Context, uuid string, r engine.Reservation) (ops []storage.Op, err error) {
	own := publisher{Record: "mount/" + uuid + "/" + r.Record, Name: r.Name, Mount: uuid}
	wanted, expected := map[string]bool{}, map[string]bool{}
	for _, place := range r.Want {
		name := placeName(place)
		wanted[name] = true
		other, version, err := placeRows.Get(ctx, p.view, name)
		switch {
		case err != nil:
			return nil, err
		case other != nil && other.Record == own.Record:
			continue // no other record can reserve it while this one exists
		}
		if err := publishable(p.mounts, place.Path); err != nil {
			return nil, err
		}
		// The mount that follows one which is disabled at this moment must know of the record, see
		// mounts.Manager: the record is committed before that, or not at all.
		if at := p.mounts.Snapshot().Route(place.Path).Entry(); !expected[at.Key()] {
			expected[at.Key()] = true
			ops = append(ops, at.Expect())
		}
		if other != nil {
			record, err := p.view.Get(ctx, other.Record)
			if err != nil {
				return nil, err
			}
			if record.Version != 0 {
				return nil, fault.New("core.reserve", fault.Conflict,
					"fields \"path\" and \"fields\": %s already publishes to %q at %q; choose another path or "+
						"field, or delete that key first",
					p.publisherName(*other),
					place.Field,
					place.Path)
			}
			if !expected[other.Record] { // the record is gone, and only its row is left
				expected[other.Record] = true
				ops = append(ops, storage.Expect(other.Record, 0))
			}
		}
		op, err := placeRows.Set(name, own)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op.If(version))
	}
	for _, place := range r.Had {
		name := placeName(place)
		if wanted[name] {
			continue
		}
		other, version, err := placeRows.Get(ctx, p.view, name)
		if err != nil {
			return nil, err
		}
		if other != nil && other.Record == own.Record {
			ops = append(ops, storage.Remove(placeRows.Key(name)).If(version))
		}
	}
	marks, err := p.markOps(ctx, r)
	return append(ops, marks...), err
}

// markOps returns the operations that note in the secrets themselves which fields are published,
// so that a write of such a secret knows it without another read.
func (p *places) markOps(ctx context.Context, r engine.Reservation) (ops []storage.Op, err error) {
	type fields struct{ published, released []string }
	paths := map[string]fields{}
	for _, place := range r.Want {
		f := paths[place.Path]
		f.published = append(f.published, place.Field)
		paths[place.Path] = f
	}
	for _, place := range r.Had {
		if !slices.Contains(r.Want, place) {
			f := paths[place.Path]
			f.released = append(f.released, place.Field)
			paths[place.Path] = f
		}
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		o, rest, err := kvTarget(p.mounts, path)
		if err != nil {
			continue // the mount is gone, and the secret with it
		}
		more, err := o.Versioned.Mark(ctx, rest, paths[path].published, paths[path].released)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

// releaseAll releases the places of all records of a mount that is about to be removed, one record
// in each commit. It is repeatable: after a crash it goes on with those that are left.
func (p *places) releaseAll(ctx context.Context, uuid string) error {
	if o := p.mounts.Snapshot().ByUUID(uuid); o != nil && o.Publisher != nil {
		for r, err := range o.Publisher.Reserved(ctx) {
			if err == nil {
				err = p.release(ctx, uuid, r)
			}
			if err != nil {
				return err
			}
		}
	}
	for row, err := range p.view.Scan(ctx, string(placeRows), storage.PrefixEnd(string(placeRows))) {
		if err != nil {
			return err
		}
		who, err := placeRows.Decode(row) // of a record that cannot be read
		if err == nil && who.Mount == uuid {
			if err := p.view.Delete(ctx, row.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxReleases is how often the release of a record's places is attempted, because a client may
// write one of the secrets at the same time.
const maxReleases = 8

// release releases the places of one record, but for those that another record has by now.
func (p *places) release(ctx context.Context, uuid string, r engine.Reservation) error {
	for try := 1; ; try++ {
		had := engine.Reservation{Record: r.Record}
		for _, place := range r.Had {
			who, _, err := placeRows.Get(ctx, p.view, placeName(place))
			if err != nil {
				return err
			}
			if who == nil || who.Record == "mount/"+uuid+"/"+r.Record {
				had.Had = append(had.Had, place)
			}
		}
		ops, err := p.reserve(ctx, uuid, had)
		if err != nil || len(ops) == 0 {
			return err
		}
		if _, err = p.view.Commit(ctx, ops...); !errors.Is(err, storage.ErrConflict) || try == maxReleases {
			return err
		}
	}
}

// overwrite commits a client's write of published fields, after it has asked each publisher of one
// of the fields, in the order of the records, for the operations to add.
func (p *places) overwrite(ctx context.Context, o engine.Overwrite, commit func([]storage.Op) error) error {
	fields, owners := map[string][]string{}, map[string]publisher{}
	for _, field := range o.Changed {
		owner, _, err := placeRows.Get(ctx, p.view, placeName(engine.Place{Path: o.Path, Field: field}))
		if err != nil {
			return err
		}
		if owner != nil {
			fields[owner.Record], owners[owner.Record] = append(fields[owner.Record], field), *owner
		}
	}
	for _, record := range slices.Backward(slices.Sorted(maps.Keys(fields))) {
		owner := owners[record]
		m := p.mounts.Snapshot().ByUUID(owner.Mount)
		if m == nil || m.Publisher == nil || !m.Entry().Gone.IsZero() {
			continue // a disabled mount no longer publishes
		}
		share, next := o, commit
		share.Changed = fields[record]
		d, err := p.policies.Decide(ctx, o.Of, policies.Query{Path: p.publisherName(owner), Op: route.Read})
		share.Shown = err == nil && d.Allowed
		record := strings.TrimPrefix(record, "mount/"+owner.Mount+"/")
		commit = func(earlier []storage.Op) error {
			return m.Publisher.Overwritten(ctx, record, share,
				func(more []storage.Op) error { return next(slices.Concat(earlier, more)) })
		}
	}
	return commit(nil)
}

func (p *places) publisherName(who publisher) string {
	if o := p.mounts.Snapshot().ByUUID(who.Mount); o != nil {
		return o.Entry().Path + who.Name
	}
	return "another mount's " + who.Name
}
