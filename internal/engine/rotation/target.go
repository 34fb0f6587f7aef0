package rotation

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A target is a key at its provider and at the path where it is published.
type target struct {
	Source
	def    Definition
	host   engine.Host
	record *rotate.Record
	data   keyData
	wrong  func(fields map[string]secret.Value) string // see [rotate.Place]
	rotate.Recorder
}

// open returns the target of a key's record, bound to the key's provider.
func (ks *keys) open(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (*target, error) {
	t := &target{host: ks.m.Host, record: r}
	if err := decodeData(r, &t.data); err != nil {
		return nil, err
	}
	var err error
	if t.def, err = ks.catalog.definition(ctx, r.Name, t.data.Bind); err != nil {
		return nil, err
	}
	t.Source, err = ks.catalog.source(t.def, t.data.Config, s.Admin, red, t.RecordExchange)
	return t, err
}

// Capabilities implements [rotate.Target].
func (t *target) Capabilities() rotate.Capabilities {
	can, name := t.def.Can, t.record.Name
	can.Task = rotate.Task{Instructions: t.def.Instructions, Supply: "keyturn rotate supply " + name + " key_id=ID",
		Confirm: "keyturn rotate confirm " + name}
	for _, o := range t.def.Outputs {
		can.Task.Supply += " " + o.Name + "=@FILE"
	}
	return can
}

// Settle implements [rotate.Target].
func (t *target) Settle() rotate.Settle { return t.data.Config.settle(t.def) }

// Place implements [rotate.Target].
func (t *target) Place() *rotate.Place {
	return &rotate.Place{Fields: t.fields, Publish: t.publish, Read: t.published, Credential: t.credential,
		Versions: t.versions, Wrong: t.wrong}
}

// fields maps the outputs of a credential to the fields of the path.
func (t *target) fields(c rotate.Credential) map[string]secret.Value {
	fields := map[string]secret.Value{}
	for output, field := range t.data.Config.Fields {
		if v, ok := c.Secret[output]; ok {
			fields[field] = v
		} else if text, ok := c.Public[output]; ok {
			fields[field] = secret.Text(text)
		}
	}
	return fields
}

// publish writes the path under the policies of the principal that configured the key.
func (t *target) publish(ctx context.Context, p rotate.Publication) (version int, err error) {
	custom := customMetadata(rotate.Reads{ID: p.NewID, OldID: p.OldID, RetireAfter: p.RetireAfter})
	policy := t.data.Config.Policy
	return t.host.Publish(ctx, engine.Publication{
		Turn: p.ID, Key: t.record.Name, Path: t.data.Config.Path, Policies: append([]string(nil), t.data.Principal...),
		Fields: maps.Clone(p.Fields), Custom: custom, CAS: p.CAS, Along: p.Along,
		Plain:  map[string]string{"rotated_at": rfc3339(p.IntendedAt), "next_rotation": rfc3339(p.Next)},
		Period: cmp.Or(policy.Interval(), policy.ReadTTL), Next: p.Next, ReadTTL: policy.ReadTTL,
	})
}

// published reads the key's fields from the path. published returns nil if the path holds nothing.
func (t *target) published(ctx context.Context) (*rotate.Published, error) {
	p, err := t.host.Published(ctx, engine.Publication{Path: t.data.Config.Path})
	if err != nil || p == nil {
		return nil, err
	}
	return t.data.publishedFields(p), nil
}

// versions reads the key's fields from every version of the path.
func (t *target) versions(ctx context.Context) (all []rotate.Published, err error) {
	versions, err := t.host.Versions(ctx, t.data.Config.Path)
	for i := range versions {
		all = append(all, *t.data.publishedFields(&versions[i]))
	}
	return all, err
}

// credential is the inverse of fields. The credential has no ID, because the fields do not hold
// one.
func (t *target) credential(fields map[string]secret.Value) rotate.Credential {
	c := rotate.Credential{Secret: map[string]secret.Value{}, Public: map[string]string{}}
	for output, field := range t.data.Config.Fields {
		v, ok := fields[field]
		switch {
		case !ok:
		case t.def.secret(output):
			c.Secret[output] = v
		default:
			c.Public[output] = v.RevealString()
		}
	}
	return c
}

// kind describes keys to [rotate].
func (ks *keys) kind() rotate.Kind {
	data := func(r *rotate.Record) (d keyData) {
		_ = decodeData(r, &d) // checked when the record was read
		return d
	}
	return rotate.Kind{
		Name: keyKind, Noun: "key", Style: rotate.TwoKey, Resumable: true,
		Records: recordPrefix, Secrets: secretPrefix, History: historyPrefix, Journal: journalPrefix,
		Unchecked: uncheckedPrefix, Claims: claimsRow,
		Path: func(name string) string { return "keys/" + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"key": r.Name, "path": data(r).Config.Path}
		},
		Place:  func(r *rotate.Record) string { return data(r).Config.Path },
		Class:  func(r *rotate.Record) rotate.Class { return data(r).Config.Policy.Class },
		Timing: func(r *rotate.Record) rotate.Timing { return data(r).Config.Policy.Timing() },
		Open: func(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (rotate.Target,
			error) {
			return ks.open(ctx, r, s, red)
		},
		Ready: func(ctx context.Context, r *rotate.Record) (string, error) {
			d := data(r)
			changed, err := ks.catalog.changed(ctx, d.Bind)
			if !changed {
				return "", err
			}
			return fmt.Sprintf(
				"recipe %q has changed since key %q was bound to it; bind the key again: write keys/%s/rebind",
				d.Bind.Name, r.Name, r.Name), nil
		},
		Limits: func(ctx context.Context) (rotate.Limits, error) {
			c, err := ks.config.load(ctx)
			return rotate.Limits{Brake: c.Brake, Blackout: c.Blackout}, err
		},
		Migrate: adopt,
	}
}

// adopt migrates a record that was stored before records had the field Data. Such a record holds
// this engine's data among its own fields.
func adopt(row []byte, r *rotate.Record) (*rotate.Secrets, error) {
	if len(r.Data) != 0 {
		return nil, nil
	}
	var d keyData
	r.Data = row
	if err := decodeData(r, &d); err != nil {
		return nil, err
	}
	var err error
	r.Data, err = encode(d)
	return nil, err
}
