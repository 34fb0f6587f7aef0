package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// placePrefix is where it is noted who publishes to a path and field: one row for each, in the same commits as what publishes.
const placePrefix = "place/"

// places keeps the rows that say which record publishes to a path and field: one record at most.
type places struct {
	view     *barrier.View
	mounts   *mounts.Manager
	policies *policies.Manager
}

// A holder is what publishes to a place. Its row counts as long as its record is there.
type holder struct {
	Record string `json:"record"` // absolute
	Name   string `json:"name"`   // for people, below its mount
	Mount  string `json:"mount"`  // uuid
}

// placeKey is the row of a path and field. A path has no NUL in it, so that no two places have one row.
func placeKey(place engine.Place) string {
	sum := sha256.Sum256([]byte(place.Path + "\x00" + place.Field))
	return placePrefix + hex.EncodeToString(sum[:])
}

// reserve returns the operations that make a record of a mount the only one that publishes to some places, and give up others. Two requests
// for one place, on whatever servers, have commits of which one fails.
func (p *places) reserve(ctx context.Context, uuid string, r engine.Reservation) (ops []storage.Op, err error) {
	ours := holder{Record: "mount/" + uuid + "/" + r.Record, Name: r.Name, Mount: uuid}
	value, err := json.Marshal(ours)
	if err != nil {
		return nil, fault.Wrap("core.reserve", fault.Internal, err)
	}
	wanted, gone := map[string]bool{}, map[string]bool{}
	for _, place := range r.Want {
		key := placeKey(place)
		wanted[key] = true
		row, theirs, err := p.holder(ctx, key)
		switch {
		case err != nil:
			return nil, err
		case row.Version != 0 && theirs.Record == ours.Record:
			continue // nobody else takes it while our record is there
		}
		if err := publishable(p.mounts, place.Path); err != nil {
			return nil, err
		}
		if row.Version != 0 {
			record, err := p.view.Get(ctx, theirs.Record)
			if err != nil {
				return nil, err
			}
			if record.Version != 0 {
				return nil, fault.New("core.reserve", fault.Conflict, "fields \"path\" and \"fields\": %s already publishes to %q at %q; choose another path or field, or delete that key first", p.holderName(theirs), place.Field, place.Path)
			}
			if !gone[theirs.Record] { // it has left its rows behind
				gone[theirs.Record] = true
				ops = append(ops, storage.Expect(theirs.Record, 0))
			}
		}
		ops = append(ops, storage.Set(key, value).If(row.Version))
	}
	for _, place := range r.Had {
		key := placeKey(place)
		if wanted[key] {
			continue
		}
		row, theirs, err := p.holder(ctx, key)
		if err != nil {
			return nil, err
		}
		if row.Version != 0 && theirs.Record == ours.Record {
			ops = append(ops, storage.Remove(key).If(row.Version))
		}
	}
	marks, err := p.marks(ctx, r)
	return append(ops, marks...), err
}

// marks are the operations that note in the secrets themselves what a record holds there, and
// what it gives up: a write of such a secret finds the record without a read of its own.
func (p *places) marks(ctx context.Context, r engine.Reservation) (ops []storage.Op, err error) {
	type fields struct{ hold, giveUp []string }
	paths := map[string]fields{}
	for _, place := range r.Want {
		f := paths[place.Path]
		f.hold = append(f.hold, place.Field)
		paths[place.Path] = f
	}
	for _, place := range r.Had {
		if !slices.Contains(r.Want, place) {
			f := paths[place.Path]
			f.giveUp = append(f.giveUp, place.Field)
			paths[place.Path] = f
		}
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		o, rest, err := kvTarget(p.mounts, path)
		if err != nil {
			continue // its mount is gone, and the secret with it
		}
		more, err := o.Versioned.Mark(ctx, rest, paths[path].hold, paths[path].giveUp)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

// overwrite tells those that hold fields of a secret of a client's write to them, in the order of
// their records. Each adds its operations.
func (p *places) overwrite(ctx context.Context, o engine.Overwrite, commit func([]storage.Op) error) error {
	fields, owners := map[string][]string{}, map[string]holder{}
	for _, field := range o.Changed {
		row, who, err := p.holder(ctx, placeKey(engine.Place{Path: o.Path, Field: field}))
		if err != nil {
			return err
		}
		if row.Version != 0 {
			fields[who.Record], owners[who.Record] = append(fields[who.Record], field), who
		}
	}
	for _, record := range slices.Backward(slices.Sorted(maps.Keys(fields))) {
		who := owners[record]
		m := p.mounts.Snapshot().ByUUID(who.Mount)
		if m == nil || m.Publisher == nil || !m.Entry().Gone.IsZero() {
			continue // a mount that is gone publishes nothing any more
		}
		theirs, next := o, commit
		theirs.Changed = fields[record]
		d, err := p.policies.Decide(ctx, o.Of, policies.Query{Path: p.holderName(who), Op: route.Read})
		theirs.Shown = err == nil && d.Allowed
		below := strings.TrimPrefix(record, "mount/"+who.Mount+"/")
		commit = func(along []storage.Op) error {
			return m.Publisher.Overwritten(ctx, below, theirs, func(more []storage.Op) error { return next(slices.Concat(along, more)) })
		}
	}
	return commit(nil)
}

func (p *places) holder(ctx context.Context, key string) (storage.Entry, holder, error) {
	var who holder
	row, err := p.view.Get(ctx, key)
	if err == nil && row.Version != 0 {
		err = fault.Wrap("core.reserve", fault.Internal, json.Unmarshal(row.Value, &who))
	}
	return row, who, err
}

func (p *places) holderName(who holder) string {
	if o := p.mounts.Snapshot().ByUUID(who.Mount); o != nil {
		return o.Entry().Path + who.Name
	}
	return "another mount's " + who.Name
}
