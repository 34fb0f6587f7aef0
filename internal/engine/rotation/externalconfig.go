package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

type externalIn struct {
	Name   string              `path:"name" doc:"The name of the registration."`
	Path   string              `json:"path" doc:"The path that somebody else writes, in a KV version 2 mount, such as static/stripe/production."`
	Fields []string            `json:"fields" default:"those that the recipe uses" doc:"The fields of the secret that hold the key. A write in which one of them is empty or null is refused."`
	Class  string              `json:"class" default:"standard" doc:"How sensitive the key is: financial, standard or low-risk; sets the default rotation period."`
	Period time.Duration       `json:"rotation_period" default:"30, 60 or 90 days, by class" doc:"How long after a rotation the key is overdue; at least 1m."`
	Recipe string              `json:"recipe" doc:"A recipe of style external, which verifies a key; without one, a key is not verified."`
	Params map[string]wire.Raw `json:"params" doc:"The recipe's parameters."`
	CA     string              `json:"ca" default:"the system's authorities" doc:"Certificates, as PEM, of the authorities that the certificate of the provider's API is verified against."`
}

// write registers a path, or replaces its registration.
func (x externals) write(ctx context.Context, req *route.Request, in externalIn) (route.None, error) {
	if err := checkName(in.Name); err != nil {
		return route.None{}, err
	}
	ks := x.keys
	return route.None{}, ks.rotations.Change(ctx, externalKind, in.Name, nil, func(e *rotate.Edit) error {
		k, err := loaded(e)
		if err != nil {
			return err
		}
		if err := k.Unlock(ctx); err != nil {
			return err
		}
		before := k.data
		there, err := x.configure(ctx, k, req, in)
		if err != nil {
			return err
		}
		abs, err := ks.m.Host.Reserve(ctx, engine.Reservation{Record: externalPrefix + in.Name,
			Name: externalAPIPath + in.Name, Had: before.places(), Want: k.data.places()})
		if err != nil {
			return err
		}
		k.Abs = append(k.Abs, abs...)
		if k.Rec.Data, err = encode(k.data); err != nil {
			return err
		}
		changed := before.Bind.Hash != k.data.Bind.Hash || !maps.Equal(before.Config.Fields, k.data.Config.Fields)
		rotate.Watch(k.Edit, there, before.Config.Path != k.data.Config.Path, changed)
		what := "configured"
		if k.New() {
			what = "created-key"
		}
		return k.save(ctx, what, k.Planned())
	})
}

// configure validates a registration and applies it to the record in hand. configure returns what
// the path holds.
func (x externals) configure(
	ctx context.Context, k *key, req *route.Request, in externalIn,
) (*rotate.Published, error) {
	path, err := secretPath(in.Path)
	if err != nil {
		return nil, err
	}
	host := x.keys.m.Host
	if err := host.MayPublish(ctx, req.Caller.Policies, path); err != nil {
		return nil, err
	}
	if err := host.MayRead(ctx, req.Caller.Policies, path); err != nil {
		return nil, err
	}
	policy := schedule.Policy{Class: schedule.Class(in.Class), When: cron.When{Period: in.Period}}.
		WithDefaults(schedule.Policy{})
	if problems := policy.Problems(); len(problems) > 0 {
		return nil, invalid("%s", strings.Join(problems, "; "))
	}
	next := keyData{Principal: slices.Clone(req.Caller.Policies), Owner: req.Caller.DisplayName,
		Config: settings{Path: path, Policy: policy, CA: in.CA, Fields: map[string]string{},
			Params: map[string]json.RawMessage{}}}
	for name, v := range in.Params {
		next.Config.Params[name] = v.Reveal()
	}
	d, err := x.bind(ctx, k, &next, in)
	if err != nil {
		return nil, err
	}
	if len(in.Fields) == 0 {
		in.Fields = outputNames(d)
	}
	for _, field := range in.Fields {
		if field == "" || field == "rotated_at" || field == "next_rotation" {
			return nil, invalid("field \"fields\": %q is not the name of a field that holds a key; name those of the "+
				"secret, such as api_key", field)
		}
		next.Config.Fields[field] = field
	}
	switch {
	case len(in.Fields) == 0:
		return nil, invalid(
			`field "fields" is required without a recipe: name the fields that hold the key, such as ` +
				"api_key")
	case len(in.Fields) > maxExternalFields:
		return nil, invalid("field \"fields\": at most %d, not %d", maxExternalFields, len(in.Fields))
	}
	for _, name := range outputNames(d) {
		if next.Config.Fields[name] == "" {
			return nil, invalid("field \"fields\": recipe %q verifies the field %q, which is missing; add it",
				in.Recipe, name)
		}
	}
	p, err := host.Published(ctx, engine.Publication{Path: path})
	if err != nil {
		return nil, err
	}
	k.data = next
	if p == nil || len(p.Fields) == 0 {
		return nil, nil
	}
	return k.data.publishedFields(p), nil
}

// maxExternalFields is the largest number of fields of a registration.
const maxExternalFields = 20

// bind binds the registration to the present text of its recipe, if it has one.
func (x externals) bind(ctx context.Context, k *key, next *keyData, in externalIn) (d Definition, err error) {
	row := boundPrefix + externalBound + in.Name
	if in.Recipe == "" {
		if len(in.Params) > 0 || in.CA != "" {
			return d, invalid(
				`fields "params" and "ca" belong to a recipe; name it in "recipe", or leave them out`)
		}
		k.Ops = append(k.Ops, storage.Remove(row))
		return d, nil
	}
	if d, err = x.keys.catalog.find(ctx, in.Recipe); err != nil {
		return d, err
	}
	if d.Style != rotate.External {
		return d, invalid("field \"recipe\": %q is of style %q and creates keys itself; write keys/NAME to rotate "+
			"with it, or name a recipe of style %q", in.Recipe, d.Style, rotate.External)
	}
	next.Bind = binding{Provider: d.Provider, Name: d.Name, Hash: d.Hash, At: k.Now}
	if _, err := x.keys.catalog.source(d, next.Config, nil, new(secret.Redactor), nil); err != nil {
		return d, err
	}
	b, err := encode(boundText{d.Source})
	k.Ops = append(k.Ops, storage.Set(row, b))
	return d, err
}

// externalOut is the response to a read of a registration.
type externalOut struct {
	Path      string              `json:"path"`
	Fields    []string            `json:"fields"`
	Class     schedule.Class      `json:"class"`
	Period    time.Duration       `json:"rotation_period"`
	Recipe    string              `json:"recipe"`
	Hash      string              `json:"recipe_hash"`
	Params    map[string]wire.Raw `json:"params"`
	CA        string              `json:"ca"`
	Principal []string            `json:"policies"`
	Owner     string              `json:"configured_by"`
	keyStatus
}

func (x externals) read(ctx context.Context, _ *route.Request, in nameIn) (*externalOut, error) {
	e, err := x.keys.rotations.View(ctx, externalKind, in.Name)
	if err != nil || e == nil {
		return nil, err
	}
	k, err := loaded(e)
	if err == nil {
		err = k.Unlock(ctx)
	}
	if err != nil {
		return nil, err
	}
	d, _ := x.definition(ctx, in.Name, &k.data) // of a damaged one, no param is shown
	shown := k.showConfig(d)
	out := &externalOut{Path: shown.Path, Class: shown.Class, Period: shown.Period, Recipe: shown.Recipe,
		Hash: shown.Hash, Params: shown.Params, CA: shown.CA, Principal: shown.Principal, Owner: shown.Owner,
		keyStatus: k.showStatus()}
	for field := range k.data.Config.Fields {
		out.Fields = append(out.Fields, field)
	}
	slices.Sort(out.Fields)
	return out, nil
}

func (x externals) exists(ctx context.Context, r *route.Request) (bool, error) {
	return x.keys.m.Store.Has(ctx, externalPrefix+r.Param("name"))
}

func (x externals) list(ctx context.Context, _ *route.Request, in listIn) (out route.Keys, err error) {
	return x.keys.namesOf(ctx, externalKind, in)
}

func (x externals) history(ctx context.Context, _ *route.Request, in historyIn) (*rotate.History, error) {
	return x.keys.rotations.History(ctx, externalKind, in.Name, noExternal(in.Name), in.HistoryQuery)
}

// delete ends a registration. Later writes of its path are not checked.
func (x externals) delete(ctx context.Context, _ *route.Request, in nameIn) (route.None, error) {
	err := x.keys.rotations.Change(ctx, externalKind, in.Name, errNoKey, func(e *rotate.Edit) error {
		k, err := loaded(e)
		if err != nil {
			return err
		}
		abs, err := x.keys.m.Host.Reserve(ctx,
			engine.Reservation{Record: externalPrefix + in.Name, Had: k.data.places()})
		if err != nil {
			return err
		}
		k.Ops = append(k.Ops, storage.Remove(boundPrefix+externalBound+in.Name))
		k.Abs = append(k.Abs, abs...)
		return k.Delete(ctx)
	})
	if errors.Is(err, errNoKey) {
		err = nil
	}
	return route.None{}, err
}

func noExternal(name string) error {
	return fault.New("rotation.load", fault.NotFound, "there is no external key %q; list external/", name)
}
