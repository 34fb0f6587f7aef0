package rotation

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// externals are the registered paths whose keys somebody else rotates. Each is a record of
// [rotate], whose current credential is the last one that was written and verified.
type externals struct{ keys *keys }

// externalKind is the kind of the records and the due items of registered paths.
const externalKind = "external"

// Prefixes of their rows, as those of keys. The bound recipe is at b/external/<name>.
const (
	externalPrefix  = "x/"
	externalBound   = "external/"
	externalAPIPath = "external/"
)

// kind describes registered paths to [rotate].
func (x externals) kind() rotate.Kind {
	data := func(r *rotate.Record) (d keyData) {
		_ = decodeData(r, &d) // checked when the record was read
		return d
	}
	return rotate.Kind{
		Name: externalKind, Noun: "external key", Style: rotate.External,
		Records: externalPrefix, Secrets: "xs/", History: "xh/", Journal: "xj/", Unchecked: "xu/",
		Path: func(name string) string { return externalAPIPath + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"key": r.Name, "path": data(r).Config.Path}
		},
		Place: func(r *rotate.Record) string { return data(r).Config.Path },
		Class: func(r *rotate.Record) rotate.Class { return data(r).Config.Policy.Class },
		Timing: func(r *rotate.Record) rotate.Timing {
			return rotate.Timing{When: cron.When{Period: data(r).Config.Policy.Period}}
		},
		Open: func(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (rotate.Target,
			error) {
			return x.open(ctx, r, red)
		},
	}
}

// wrongFields says which field cannot be a key, and why; "": none. Scripts write an empty text if
// the provider's reply was empty, and "null" if jq has not found the field in the reply.
func wrongFields(wanted map[string]string, written map[string]secret.Value) string {
	for _, field := range slices.Sorted(maps.Values(wanted)) {
		switch text := strings.TrimSpace(written[field].RevealString()); text {
		case "":
			return fmt.Sprintf("the field %q is empty or is no text; check what the provider replied", field)
		case "null":
			return fmt.Sprintf("the field %q is %q, which jq prints for a field that is missing; check what the "+
				"provider replied", field, text)
		}
	}
	return ""
}

// definition returns the recipe of a registered path. Without a recipe, it only names the fields.
func (x externals) definition(ctx context.Context, name string, data *keyData) (d Definition, err error) {
	if data.Bind.Name != "" {
		d, err = x.keys.catalog.definition(ctx, externalBound+name, data.Bind)
	} else {
		d.Can.Proof = rotate.ProofNone
	}
	for _, field := range slices.Sorted(maps.Keys(data.Config.Fields)) {
		if !slices.Contains(outputNames(d), field) {
			d.Outputs = append(d.Outputs, Output{Name: field, Secret: true})
		}
	}
	return d, err
}

// open returns the target of a registered path. Without a recipe, its Source is nil: its
// capabilities allow no call. The recipe gets keys only as long as the policies of its owner allow
// to read them.
func (x externals) open(ctx context.Context, r *rotate.Record, red *secret.Redactor) (*target, error) {
	t := &target{host: x.keys.m.Host, record: r}
	t.wrong = func(fields map[string]secret.Value) string { return wrongFields(t.data.Config.Fields, fields) }
	err := decodeData(r, &t.data)
	if err == nil {
		t.def, err = x.definition(ctx, r.Name, &t.data)
	}
	if err == nil && t.data.Bind.Name != "" {
		err = t.host.MayRead(ctx, t.data.Principal, t.data.Config.Path)
	}
	if err == nil && t.data.Bind.Name != "" {
		t.Source, err = x.keys.catalog.source(t.def, t.data.Config, nil, red, t.RecordExchange)
	}
	return t, err
}

// reserved yields the places of each registered path.
func (x externals) reserved(ctx context.Context) iter.Seq2[engine.Reservation, error] {
	return x.keys.reservedOf(ctx, externalKind, externalPrefix, externalAPIPath)
}

// overwritten judges a client's write to a registered path before the write is committed.
func (x externals) overwritten(ctx context.Context, record string, o engine.Overwrite,
	commit func([]storage.Op) error) error {
	name := strings.TrimPrefix(record, externalPrefix)
	e, err := x.keys.rotations.View(ctx, externalKind, name)
	if err != nil {
		return err
	}
	if e == nil {
		return commit(nil)
	}
	k, err := loaded(e)
	if err != nil {
		return err
	}
	if k.data.Config.Path != o.Path {
		return commit(nil) // the reservation outlived its record
	}
	w := rotate.Overwrite{By: o.By, Version: o.Version, Remedy: o.Remedy, Force: o.Force, Shown: o.Shown, Warn: o.Warn}
	if !o.Empties {
		w.Fields = map[string]secret.Value{}
		for _, field := range k.data.Config.Fields {
			w.Fields[field] = o.Fields[field]
		}
	}
	if why := wrongFields(k.data.Config.Fields, w.Fields); why != "" && w.Fields != nil && !o.Force {
		if _, err := x.open(ctx, k.Rec, k.Redactor); err != nil { // then rotate cannot tell
			return fault.New("rotation.external", fault.Invalid, "a registration refuses the write: %s", why)
		}
	}
	return x.keys.rotations.Overwrite(ctx, externalKind, name, w, commit)
}
