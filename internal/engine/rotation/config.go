package rotation

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// keyIn is the request that configures a key. A nil field was not given.
type keyIn struct {
	Name     string                   `path:"name" doc:"The key's name."`
	Provider *string                  `json:"provider" default:"the recipe's" doc:"The provider of the recipe; checked against the recipe's own."`
	Recipe   **string                 `json:"recipe" doc:"The kind of key, such as http-demo; list recipes/."`
	Params   *map[string]wire.Raw     `json:"params" doc:"The recipe's parameters that are not secret, such as a region."`
	Admin    map[string]*secret.Value `json:"admin" doc:"The credentials of the provider's management API."`
	CA       *string                  `json:"ca" default:"the system's authorities" doc:"Certificates, as PEM, of the authorities that the certificate of the provider's API is verified against."`
	Path     *string                  `json:"path" doc:"Where the key is published, in a KV version 2 mount, such as secret/stripe."`
	Fields   *map[string]string       `json:"fields" default:"each to its own name" doc:"Maps outputs of the recipe to fields of the published secret."`

	timingIn

	Successes *int           `json:"settle_successes" default:"the recipe's" doc:"How many times in a row a new key must pass verification before it is published; at most 100."`
	Interval  *time.Duration `json:"settle_interval" default:"the recipe's" doc:"How long to wait between two verifications of a new key."`
	Timeout   *time.Duration `json:"settle_timeout" default:"the recipe's" doc:"How long the verification of a new key may take in all."`

	CurrentID     *string                 `json:"current_key_id" doc:"The ID of an existing key that is in use now and was not created by Keyturn. It is retired after the first rotation."`
	CurrentSecret map[string]secret.Value `json:"current_secret" doc:"The secret outputs of that key. With them, a rollback can publish it again."`
	SkipImport    *bool                   `json:"skip_import_rotation" default:"false" doc:"Whether the first rotation waits for a whole period."`

	unsupportedIn
}

// unsupportedIn holds the fields of planned features. A request that sets one is refused.
type unsupportedIn struct {
	Groups  wire.Raw `json:"groups" doc:"Not implemented yet; refused."`
	Rollout wire.Raw `json:"rollout" doc:"Not implemented yet; refused."`
	Notify  wire.Raw `json:"notify" doc:"Not implemented yet; refused."`
}

func (l *unsupportedIn) refuse() error {
	for name, v := range map[string]wire.Raw{"groups": l.Groups, "rollout": l.Rollout, "notify": l.Notify} {
		if text := bytes.TrimSpace(v.Reveal()); v.IsNull() ||
			slices.Contains([]string{`""`, "0", "[]", "{}", "false", `"0"`}, string(text)) {
			continue
		}
		return fault.New("rotation.key", fault.Invalid,
			"field %q: it is not implemented yet; leave it out", name)
	}
	return nil
}

// A change is one write to a key's configuration.
type change struct {
	keys    *keys
	k       *key
	in      *keyIn
	req     *route.Request
	replace bool // a field that is not given gets its default
	isNew   bool
	rebind  bool // bind the key to the present text of its recipe

	def            Definition
	oldPlaces      []engine.Place // that the key published to before the write
	newPrincipal   bool           // the caller becomes the principal
	newRecipe      bool           // with other outputs
	newDestination bool           // secrets are sent elsewhere
	newCA          bool           // another authority vouches for the provider
	newEffect      bool           // the credential is published elsewhere, or something else is created or retired
}

// apply validates the whole write and applies it to the loaded record. apply commits nothing.
func (c *change) apply(ctx context.Context) error {
	c.oldPlaces = c.k.data.places()
	for _, step := range []func(context.Context) error{
		func(context.Context) error { return c.in.refuse() }, c.definition, c.params, c.path, c.fields, c.adopt,
		c.admin, c.places, c.timing, c.openSource,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if c.newPrincipal {
		if err := c.mayPublish(ctx, c.k.data.Config.Path); err != nil {
			return err
		}
		c.k.data.Principal, c.k.data.Owner = slices.Clone(c.req.Caller.Policies), c.req.Caller.DisplayName
	}
	return nil
}

// definition finds the definition that the key is rotated with. definition binds a new key, a key
// that gets another recipe, and a key that is bound again.
func (c *change) definition(ctx context.Context) error {
	rec, data := c.k.Rec, &c.k.data
	name := data.Bind.Name
	switch {
	case c.in.Recipe != nil && *c.in.Recipe == nil: // null clears the field, which is required
		name = ""
	case c.in.Recipe != nil && **c.in.Recipe != "":
		name = **c.in.Recipe
	case c.in.Provider != nil && *c.in.Provider != "" && *c.in.Provider != data.Bind.Provider:
		name = *c.in.Provider // a provider written in Go has one definition, with its own name
	}
	if name == "" {
		return invalid(
			`field "recipe" is required: give the kind of key, such as "http-demo"; list recipes/ for those that exist`)
	}
	if c.rebind && name != data.Bind.Name {
		return invalid(`field "recipe": rebind keeps the recipe; to give the key another one, write keys/%s`, rec.Name)
	}
	if !c.isNew && !c.rebind && name == data.Bind.Name {
		d, err := c.keys.catalog.definition(ctx, rec.Name, data.Bind)
		if err != nil {
			return err
		}
		c.def = d
		if changed, err := c.keys.catalog.changed(ctx, data.Bind); err != nil {
			return err
		} else if changed {
			c.req.Warn("recipe %q has changed since the key was bound to it; the key keeps the text that it was "+
				"bound to and does not begin a rotation until it is bound again at keys/%s/rebind, which needs sudo",
				name, rec.Name)
		}
		return nil
	}
	if rec.Turn != nil {
		return fault.New("rotation.key", fault.Conflict,
			"field \"recipe\": rotation %d is in flight (%s); to continue, %s", rec.Turn.N, rec.Turn.State,
			rec.Turn.Advice())
	}
	d, err := c.keys.catalog.find(ctx, name)
	if err != nil {
		return err
	}
	if p := c.in.Provider; p != nil && *p != "" && *p != d.Provider {
		return invalid("field \"provider\": recipe %q belongs to provider %q, not %q; leave the field out", name,
			d.Provider, *p)
	}
	if rec.Current != nil && !c.rebind {
		c.req.Warn("key %s was created by %q and is no longer managed here: nobody will retire it", rec.Current.ID,
			data.Bind.Name)
		c.k.Control().Disown()
	}
	c.def, c.newPrincipal, c.newRecipe, c.newDestination = d, true, !c.rebind, !c.rebind
	return c.bind(d)
}

// bind binds the key to the definition and stores the definition's text with the key.
func (c *change) bind(d Definition) error {
	if styles := []rotate.Style{rotate.TwoKey, rotate.Slots, rotate.Manual}; !slices.Contains(styles, d.Style) {
		return fault.New("rotation.key", fault.Invalid,
			"field \"recipe\": %q is of style %q, which is not implemented yet; choose a recipe of one of the "+
				"styles %q",
			d.Name, d.Style, styles)
	}
	c.k.data.Bind = binding{Provider: d.Provider, Name: d.Name, Hash: d.Hash, At: c.k.Now}
	row, err := encode(boundText{d.Source})
	if err != nil {
		return err
	}
	c.k.Ops = append(c.k.Ops, storage.Set(boundPrefix+c.k.Rec.Name, row))
	return nil
}

func (c *change) params(context.Context) error {
	cfg := &c.k.data.Config
	old := cfg.Params
	next := map[string]json.RawMessage{}
	given := c.in.Params
	if !c.replace && (given == nil || *given != nil) { // null clears all
		maps.Copy(next, old)
	}
	if given == nil {
		given = new(map[string]wire.Raw)
	}
	for name, v := range *given {
		if v.IsNull() {
			delete(next, name)
			continue
		}
		next[name] = v.Reveal()
	}
	for name := range union(old, next) {
		if bytes.Equal(bytes.TrimSpace(old[name]), bytes.TrimSpace(next[name])) {
			continue
		}
		c.newPrincipal = true
		i := slices.IndexFunc(c.def.Params, func(f Field) bool { return f.Name == name })
		c.newDestination = c.newDestination || i < 0 || c.def.Params[i].Routes
		c.newEffect = c.newEffect || !c.isNew && !c.newDestination && c.def.Params[i].Acts
		if i >= 0 && (c.def.Params[i].Routes || c.def.Params[i].Locates) {
			if err := c.dropCurrent(name); err != nil {
				return err
			}
		}
	}
	cfg.Params = next
	ca := cfg.CA
	if c.replace {
		ca = ""
	}
	set(&ca, c.in.CA)
	if ca != cfg.CA { // the trusted authorities decide which server gets the credentials
		cfg.CA, c.newPrincipal, c.newCA = ca, true, true
	}
	return nil
}

// dropCurrent drops the current credential from the key's record, because the write changes a
// parameter that decides where credentials are. With the new value, the ID may belong to somebody
// else's credential, and a rotation would retire that one.
func (c *change) dropCurrent(param string) error {
	rec := c.k.Rec
	t := rec.Turn
	if t != nil && t.Touched() {
		return fault.New("rotation.key", fault.Conflict,
			"field \"params\": rotation %d is in flight (%s), and %q decides where its keys are; to continue, %s", t.N,
			t.State, param, t.Advice())
	}
	if rec.Current != nil {
		c.req.Warn("key %s is where the previous params point, and is no longer managed here: it stays valid until "+
			"somebody deletes it at the provider; do so once readers have a new one", rec.Current.ID)
	}
	c.k.Control().Disown()
	return nil
}

func union(a, b map[string]json.RawMessage) map[string]struct{} {
	out := map[string]struct{}{}
	for _, m := range []map[string]json.RawMessage{a, b} {
		for k := range m {
			out[k] = struct{}{}
		}
	}
	return out
}

// admin stores the credentials of the provider's management API. The write must give these
// credentials again if it changes where they are sent, where the issued credential is published,
// or what is created or retired. Otherwise a caller who may only change a key could obtain a
// credential that the provider issues, or have credentials of others deleted.
func (c *change) admin(context.Context) error {
	sec := c.k.Sec
	if len(c.in.Admin) == 0 {
		switch {
		case len(sec.Admin) == 0: // the key is new, or its recipe needs none
		case c.newDestination || c.newCA:
			return invalid(
				`field "admin": the write changes where secrets are sent, so it must give the admin credentials again`)
		case c.newEffect:
			return invalid(
				`field "admin": the write changes where the credential is published, or what is created or retired, so it must give the admin credentials again`)
		}
		c.newPrincipal = c.newPrincipal || c.newEffect
		return nil
	}
	// Drop stored credentials if the write replaces the configuration, sends secrets elsewhere,
	// publishes elsewhere, or creates or retires something else.
	next := map[string]secret.Value{}
	if !c.replace && !c.newDestination && !c.newCA && !c.newEffect {
		maps.Copy(next, sec.Admin)
	}
	for name, v := range c.in.Admin {
		if v == nil { // null
			delete(next, name)
		} else {
			next[name] = *v
		}
	}
	sec.Admin, c.newPrincipal = next, true
	c.k.Control().RetryCorrected()
	return nil
}

func (c *change) path(ctx context.Context) error {
	cfg := &c.k.data.Config
	if c.in.Path == nil && !c.replace {
		return nil
	}
	if c.in.Path == nil || *c.in.Path == "" {
		if !c.isNew {
			return invalid(
				`field "path" is required: a write replaces the whole configuration; to change some fields and keep the others, patch keys/%s`, c.in.Name)
		}
		return invalid(
			`field "path" is required: name where the key is published, in a KV version 2 mount, such as "secret/stripe"`)
	}
	path, err := secretPath(*c.in.Path)
	if err != nil || path == cfg.Path {
		return err
	}
	if err := c.mayPublish(ctx, path); err != nil {
		return err
	}
	if t := c.k.Rec.Turn; t != nil {
		return fault.New("rotation.key", fault.Conflict,
			"field \"path\": rotation %d is in flight (%s); to continue, %s", t.N, t.State, t.Advice())
	}
	if !c.isNew && c.k.Rec.Current != nil {
		c.req.Warn("nothing is published at %q before the next rotation; rotate the key now, or copy the secret", path)
	}
	cfg.Path, c.newPrincipal, c.newEffect = path, true, !c.isNew
	_, err = c.keys.m.Host.Published(ctx, engine.Publication{Path: cfg.Path})
	return err
}

// mayPublish refuses a caller who may not write the path, because the caller becomes the principal
// under whose policies the key is published.
func (c *change) mayPublish(ctx context.Context, path string) error {
	return c.keys.m.Host.MayPublish(ctx, c.req.Caller.Policies, path)
}

func (c *change) fields(context.Context) error {
	cfg := &c.k.data.Config
	next := cfg.Fields
	if c.in.Fields != nil || c.replace || c.newRecipe {
		next = nil
		set(&next, c.in.Fields)
	}
	if len(next) == 0 {
		next = map[string]string{}
		for _, o := range c.def.Outputs {
			next[o.Name] = o.Name
		}
	}
	refused := map[string]string{"": "is not a name", "rotated_at": "Keyturn writes itself",
		"next_rotation": "Keyturn writes itself"}
	for output, field := range next {
		if !slices.ContainsFunc(c.def.Outputs, func(o Output) bool { return o.Name == output }) {
			return invalid("field \"fields\": recipe %q has no output %q; its outputs are %q", c.def.Name, output,
				outputNames(c.def))
		}
		if why, ok := refused[field]; ok {
			return invalid("field \"fields\": %q cannot be written to %q, which %s; choose another name", output,
				field, why)
		}
		refused[field] = "is taken by " + output
	}
	if t := c.k.Rec.Turn; t != nil && !maps.Equal(cfg.Fields, next) {
		return fault.New("rotation.key", fault.Conflict,
			"field \"fields\": rotation %d is in flight (%s); to continue, %s", t.N, t.State, t.Advice())
	}
	for output, field := range next {
		if len(field) > maxField || !utf8.ValidString(field) {
			return invalid(
				"field \"fields\": the name for %q is longer than %d bytes, or is not UTF-8; choose a shorter one",
				output, maxField)
		}
	}
	if len(next) > maxFields {
		return invalid(
			"field \"fields\": %d outputs would be published, and at most %d can be; name those that readers need",
			len(next), maxFields)
	}
	c.newEffect = c.newEffect || !c.isNew && !maps.Equal(cfg.Fields, next)
	cfg.Fields = next
	return nil
}

// Limits on what one key publishes. The store holds one reservation for each published field.
const (
	maxFields = 24
	maxField  = 256
)

// places reserves the fields that the key publishes to, in the same commit as the write. If two
// keys published to one field, one would retire the credential that readers of the other use.
func (c *change) places(ctx context.Context) error {
	want := c.k.data.places()
	if c.isNew || c.newEffect {
		if err := c.unreserved(ctx, want); err != nil {
			return err
		}
	}
	ops, err := c.keys.m.Host.Reserve(ctx,
		engine.Reservation{Record: recordPrefix + c.k.Rec.Name, Name: "keys/" + c.k.Rec.Name, Had: c.oldPlaces,
			Want: want})
	c.k.Abs = append(c.k.Abs, ops...)
	return err
}

// unreserved returns a conflict if another key of this mount already publishes to one of the
// fields. unreserved finds keys without a reservation, which were configured before fields were
// reserved.
func (c *change) unreserved(ctx context.Context, want []engine.Place) error {
	for other, err := range c.keys.reserved(ctx) {
		if err != nil {
			return err
		}
		for _, p := range other.Had {
			if name := strings.TrimPrefix(other.Record, recordPrefix); name != c.k.Rec.Name &&
				slices.Contains(want, p) {
				return fault.New("rotation.key", fault.Conflict, "fields \"path\" and \"fields\": key %q already "+
					"publishes to %q at %q; choose another path or field, or delete that key first", name, p.Field,
					p.Path)
			}
		}
	}
	return nil
}

func outputNames(d Definition) (names []string) {
	for _, o := range d.Outputs {
		names = append(names, o.Name)
	}
	return names
}

// timing sets when the key is rotated and how long an old key stays valid. If the schedule
// changes, timing also moves the next rotation.
func (c *change) timing(ctx context.Context) error {
	cfg := &c.k.data.Config
	before, p, s := cfg.Policy, cfg.Policy, cfg.Settle
	if c.replace {
		p, s = schedule.Policy{}, rotate.Settle{}
	}
	if err := c.in.timingIn.apply(&p); err != nil {
		return err
	}
	set(&s.Interval, c.in.Interval)
	set(&s.Timeout, c.in.Timeout)
	set(&s.Successes, c.in.Successes)
	base, err := c.keys.config.load(ctx)
	if err != nil {
		return err
	}
	p = p.WithDefaults(schedule.Policy{Grace: base.Grace, ReadTTL: base.ReadTTL})
	if problems := p.Problems(); len(problems) > 0 {
		return invalid("%s", strings.Join(problems, "; "))
	}
	if s.Successes < 0 || s.Successes > 100 {
		return invalid(`field "settle_successes": give 1 to 100`)
	}
	is := withBlackout(p, base.Blackout)
	if err := is.Check(schedule.MinPeriod); err != nil {
		return invalid("%s; the dates of the mount count, too", fault.Message(err))
	}
	cfg.Policy, cfg.Settle = p, s
	if c.isNew {
		planFirst(c.k, is, c.in.SkipImport != nil && *c.in.SkipImport)
		return nil
	}
	planNext(c.k, withBlackout(before, base.Blackout), is)
	if before := c.in.dropped(before.When, p.When); c.replace && before != "" {
		c.req.Warn("%s is now %s, the default, because a write replaces the whole configuration; to change some "+
			"fields and keep the others, patch keys/%s", before, p.Period, c.k.Rec.Name)
	}
	return nil
}

// adopt records a key that Keyturn did not create as the current one, so that a rotation may
// retire it.
func (c *change) adopt(ctx context.Context) error {
	rec := c.k.Rec
	if c.in.CurrentID == nil || *c.in.CurrentID == "" {
		if len(c.in.CurrentSecret) > 0 {
			return invalid(`field "current_secret" needs current_key_id, which is missing; give both`)
		}
		if len(c.def.Slots) > 0 && rec.Current == nil && rec.Turn == nil {
			return invalid("field \"current_key_id\" is required for recipe %q: name the slot whose key readers use "+
				"now, one of %q; the first rotation regenerates another one", c.def.Name, c.def.Slots)
		}
		return nil
	}
	id := *c.in.CurrentID
	if len(c.def.Slots) > 0 && !slices.Contains(c.def.Slots, id) && (rec.Current == nil || rec.Current.ID != id) {
		return invalid("field \"current_key_id\": recipe %q has the slots %q, not %q; name the one whose key readers "+
			"use now", c.def.Name, c.def.Slots, id)
	}
	if rec.Current != nil && rec.Current.ID == id && len(c.in.CurrentSecret) == 0 {
		return nil
	}
	// after a change of the recipe or of its account, only a user can say which slot readers use
	lost := len(c.def.Slots) > 0 && (rec.Current == nil || !slices.Contains(c.def.Slots, SlotOf(rec.Current.ID)))
	if rec.Turns > 0 && !lost || rec.Turn != nil {
		return fault.New("rotation.key", fault.Conflict,
			"field \"current_key_id\": the key has been rotated since %q was current (now %q); leave the field out",
			id, rec.Current.Key())
	}
	for name := range c.in.CurrentSecret {
		if !slices.Contains(outputNames(c.def), name) {
			return invalid("field \"current_secret\": recipe %q has no output %q; its outputs are %q", c.def.Name,
				name, outputNames(c.def))
		}
	}
	c.newEffect = c.newEffect || !c.isNew
	if err := c.k.Control().Adopt(ctx, rotate.Credential{ID: id, Secret: c.in.CurrentSecret}); err != nil {
		return err
	}
	return c.slotsTaken(ctx)
}

// slotsTaken returns a conflict if another key rotates the slots of the same account: each would
// regenerate the slot that readers of the other use. Adopt makes all adoptions of the mount
// conflict that happen at once, so that no two keys pass this check together.
func (c *change) slotsTaken(ctx context.Context) error {
	if len(c.def.Slots) == 0 {
		return nil
	}
	for r, err := range c.keys.rotations.Records(ctx, keyKind) {
		if err != nil {
			return err
		}
		var data keyData
		if err := decodeData(r, &data); err != nil {
			return err
		}
		same := maps.EqualFunc(data.Config.Params, c.k.data.Config.Params, func(a, b json.RawMessage) bool {
			return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b))
		})
		if r.Name != c.k.Rec.Name && data.Bind.Name == c.def.Name && same {
			return fault.New("rotation.key", fault.Conflict, "field \"params\": key %q rotates the slots %q with the "+
				"same recipe and params; delete that key first, or give the params of another account", r.Name,
				c.def.Slots)
		}
	}
	return nil
}

// openSource opens the provider, because opening validates the parameters and the credentials
// without a call.
func (c *change) openSource(context.Context) error {
	c.k.Sec.Know(c.k.Redactor)
	_, err := c.keys.catalog.source(c.def, c.k.data.Config, c.k.Sec.Admin, c.k.Redactor, nil)
	return err
}
