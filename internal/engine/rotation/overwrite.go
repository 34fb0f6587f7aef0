package rotation

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// reserved yields the places that each key publishes to. It leaves out damaged records, which
// publish nothing.
func (ks *keys) reserved(ctx context.Context) iter.Seq2[engine.Reservation, error] {
	return ks.reservedOf(ctx, keyKind, recordPrefix, "keys/")
}

// reservedOf yields the places of each record of a kind.
func (ks *keys) reservedOf(ctx context.Context, kind, prefix, shown string) iter.Seq2[engine.Reservation, error] {
	return func(yield func(engine.Reservation, error) bool) {
		for r, err := range ks.rotations.Records(ctx, kind) {
			var data keyData
			switch {
			case r.Name == "" && err != nil:
				yield(engine.Reservation{}, err)
				return
			case err != nil || decodeData(r, &data) != nil:
				continue
			}
			if !yield(engine.Reservation{Record: prefix + r.Name, Name: shown + r.Name, Had: data.places()}, nil) {
				return
			}
		}
	}
}

// overwritten judges a client's write to the path of a key before the write is committed.
func (ks *keys) overwritten(ctx context.Context, record string, o engine.Overwrite,
	commit func([]storage.Op) error) error {
	name := strings.TrimPrefix(record, recordPrefix)
	k, err := ks.view(ctx, name)
	if err != nil {
		return err
	}
	if k == nil || k.data.Config.Path != o.Path {
		return commit(nil) // the reservation outlived its key
	}
	w := rotate.Overwrite{By: o.By, Version: o.Version, Remedy: o.Remedy, Force: o.Force, Shown: o.Shown, Warn: o.Warn}
	w.Reads = func(r rotate.Reads) {
		if o.Custom != nil {
			o.Custom(customMetadata(r))
		}
	}
	if !o.Empties {
		w.Fields = map[string]secret.Value{}
		for _, field := range k.data.Config.Fields {
			if v := o.Fields[field]; !v.Empty() {
				w.Fields[field] = v
			}
		}
	}
	d, err := ks.catalog.definition(ctx, name, k.data.Bind)
	known, hasSecret := err == nil, false
	for output, field := range k.data.Config.Fields {
		hasSecret = hasSecret || !w.Fields[field].Empty() && (!known || d.secret(output))
	}
	for output, field := range k.data.Config.Fields {
		switch {
		case o.Empties || !w.Fields[field].Empty():
		case !slices.Contains(o.Changed, field) && (hasSecret || known && !d.secret(output)):
			// it was not there before, either
		case known && !d.secret(output):
			publisher := "the rotated key"
			if o.Shown {
				publisher = ks.m.Settings().Path + "keys/" + name
			}
			o.Warn("the write leaves out %q, which %s publishes there", field, publisher)
		default:
			w.Lacks = append(w.Lacks, field)
		}
	}
	slices.Sort(w.Lacks)
	return ks.rotations.Overwrite(ctx, keyKind, name, w, commit)
}
