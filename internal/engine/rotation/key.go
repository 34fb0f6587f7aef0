package rotation

import (
	"context"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// keyKind is the kind of the records and the due items of keys.
const keyKind = "key"

// Keys of the store, below the mount. [rotate] keeps the others.
//
//	config                  the mount's configuration
//	recipe/<name>           a user's recipe, its text
//	k/<name>                a key's record
//	s/<name>                its secrets
//	b/<name>                the definition that it is bound to
//	h/<name>/<number>       a rotation that has ended
//	j/<name>/<commit>       its journal: one row for each commit
//	u/<name>                there while its path was written unjudged and is to be looked at
const (
	configKey      = "config"
	recipePrefix   = "recipe/"
	recordPrefix   = "k/"
	secretPrefix   = "s/"
	boundPrefix    = "b/"
	historyPrefix  = "h/"
	journalPrefix  = "j/"
	unjudgedPrefix = "u/"
)

// keyData is what a key's record keeps for this engine: what was configured, and by whom.
type keyData struct {
	Config    settings `json:"config"`
	Bind      binding  `json:"bind"`
	Principal []string `json:"principal"` // policy names; evaluated at each rotation
	Owner     string   `json:"owner"`     // display name of whoever configured the key
}

// settings are what a user configures, but for the admin credentials.
type settings struct {
	Params map[string]json.RawMessage `json:"params"`
	Path   string                     `json:"path"`
	Fields map[string]string          `json:"fields"` // output → field
	Policy schedule.Policy            `json:"policy"`
	Settle rotate.Settle              `json:"settle"`       // zero fields: the definition's
	CA     string                     `json:"ca,omitempty"` // PEM; "": the system's authorities
}

// A binding says which text a key is rotated by.
type binding struct {
	Provider string    `json:"provider"`
	Name     string    `json:"name"`
	Hash     string    `json:"hash"`
	At       time.Time `json:"at"`
}

// A key is one record in hand, with its data.
type key struct {
	*rotate.Edit
	b    *backend
	data keyData
}

// key decodes the data of a record in hand.
func (b *backend) key(e *rotate.Edit) (*key, error) {
	k := &key{Edit: e, b: b}
	if len(e.Rec.Data) == 0 {
		return k, nil
	}
	return k, decodeData(e.Rec, &k.data)
}

func decodeData(r *rotate.Record, into *keyData) error {
	return fault.Wrap("rotation.data", fault.Internal, json.Unmarshal(r.Data, into))
}

// adopt takes the data of a record that was stored before it had its own field: they stood among the record's.
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

// save commits a key with its data.
func (k *key) save(ctx context.Context, what string, due time.Time) error {
	b, err := encode(k.data)
	if err != nil {
		return err
	}
	k.Rec.Data = b
	return k.Commit(ctx, what, due)
}

func noKey(name string) error {
	return fault.New("rotation.load", fault.NotFound, "there is no rotation key %q; list keys/", name)
}

// change runs f on a key with its lock held, if there is one of the name.
func (b *backend) change(ctx context.Context, name string, f func(k *key) error) error {
	return b.changeOr(ctx, name, noKey(name), f)
}

func (b *backend) changeOr(ctx context.Context, name string, missing error, f func(k *key) error) error {
	return b.rotations.Change(ctx, keyKind, name, missing, func(e *rotate.Edit) error {
		k, err := b.key(e)
		if err != nil {
			return err
		}
		return f(k)
	})
}

// view reads a key without its lock; nil if there is none.
func (b *backend) view(ctx context.Context, name string) (*key, error) {
	e, err := b.rotations.View(ctx, keyKind, name)
	if err != nil || e == nil {
		return nil, err
	}
	return b.key(e)
}

// have is view for a request that wants the key to exist.
func (b *backend) have(ctx context.Context, name string) (*key, error) {
	k, err := b.view(ctx, name)
	if err == nil && k == nil {
		err = noKey(name)
	}
	return k, err
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fault.New("rotation.name", fault.Invalid, "field \"name\": %q is refused; use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", name)
	}
	return nil
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return b, fault.Wrap("rotation.encode", fault.Internal, err)
}

func decode(e storage.Entry, into any) error {
	return fault.Wrap("rotation.decode", fault.Internal, json.Unmarshal(e.Value, into))
}

// kind is what [rotate] is told of keys.
func (b *backend) kind() rotate.Kind {
	data := func(r *rotate.Record) (d keyData) {
		_ = decodeData(r, &d) // checked when the record was read
		return d
	}
	return rotate.Kind{
		Name: keyKind, Noun: "key", Style: rotate.TwoKey, Resumable: true,
		Records: recordPrefix, Secrets: secretPrefix, History: historyPrefix, Journal: journalPrefix, Unjudged: unjudgedPrefix,
		Path: func(name string) string { return "keys/" + name },
		Details: func(r *rotate.Record) map[string]string {
			return map[string]string{"key": r.Name, "path": data(r).Config.Path}
		},
		Place:  func(r *rotate.Record) string { return data(r).Config.Path },
		Timing: func(r *rotate.Record) rotate.Timing { return data(r).Config.Policy.Timing() },
		Open: func(ctx context.Context, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (rotate.Target, error) {
			return open(ctx, b, r, s, red)
		},
		Ready: func(ctx context.Context, r *rotate.Record) (string, error) {
			d := data(r)
			changed, err := b.changed(ctx, d.Bind)
			if !changed {
				return "", err
			}
			return "recipe \"" + d.Bind.Name + "\" is not the one any more that key \"" + r.Name + "\" is bound to; bind it anew: write keys/" + r.Name + "/rebind", nil
		},
		Brake: func(ctx context.Context) (bool, error) {
			c, err := b.config(ctx)
			return c.Brake, err
		},
		Adopt: adopt,
	}
}

// A target is a key at its provider and at the path where it is published.
type target struct {
	Source
	def    Definition
	b      *backend
	record *rotate.Record
	data   keyData

	mu   sync.Mutex // guards made
	made []rotate.Exchange
}

// maxMade bounds the exchanges of one step in memory: a list may have many pages.
const maxMade = 20

// tell notes an exchange with the provider.
func (t *target) tell(x rotate.Exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.made) == maxMade {
		t.made = t.made[1:]
	}
	t.made = append(t.made, x)
}

// Exchanges are the requests since it was last asked. [rotate] keeps them with the commit that follows.
func (t *target) Exchanges() []rotate.Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := t.made
	t.made = nil
	return made
}

// open readies a key's provider.
func open(ctx context.Context, b *backend, r *rotate.Record, s *rotate.Secrets, red *secret.Redactor) (*target, error) {
	t := &target{b: b, record: r}
	if err := decodeData(r, &t.data); err != nil {
		return nil, err
	}
	var err error
	if t.def, err = b.definition(ctx, r.Name, t.data.Bind); err != nil {
		return nil, err
	}
	t.Source, err = b.source(t.def, t.data.Config, s.Admin, red, t.tell)
	return t, err
}

// Capabilities implements [rotate.Target].
func (t *target) Capabilities() rotate.Capabilities { return t.def.Can }

// Settle implements [rotate.Target].
func (t *target) Settle() rotate.Settle { return t.data.Config.settle(t.def) }

// settle is the definition's settling with the key's own settings over it.
func (c settings) settle(d Definition) rotate.Settle {
	s, own := d.Settle, c.Settle
	if own.Successes > 0 {
		s.Successes = own.Successes
	}
	if own.Interval > 0 {
		s.Interval = own.Interval
	}
	if own.Timeout > 0 {
		s.Timeout = own.Timeout
	}
	return rotate.Settle{Successes: max(s.Successes, 1), Interval: max(s.Interval, time.Second), Timeout: max(s.Timeout, time.Minute)}
}

// Place implements [rotate.Target].
func (t *target) Place() *rotate.Place {
	return &rotate.Place{Fields: t.fields, Publish: t.publish, Read: t.published, Credential: t.credential, Versions: t.versions}
}

// fields are the key's, by the field of the path.
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

// publish writes the path as the principal that configured the key.
func (t *target) publish(ctx context.Context, p rotate.Publication) (version int, err error) {
	custom := customOf(rotate.Reads{ID: p.NewID, OldID: p.OldID, RetireAfter: p.RetireAfter})
	policy := t.data.Config.Policy
	return t.b.m.Host.Publish(ctx, engine.Publication{
		Turn: p.ID, Key: t.record.Name, Path: t.data.Config.Path, Policies: append([]string(nil), t.data.Principal...),
		Fields: maps.Clone(p.Fields), Custom: custom, CAS: p.CAS,
		Plain:  map[string]string{"rotated_at": p.Asked.Format(time.RFC3339), "next_rotation": p.Next.Format(time.RFC3339)},
		Period: policy.Period, Next: p.Next, ReadTTL: policy.ReadTTL,
	})
}

// customOf is what the custom metadata of a key's path says of what is read there.
func customOf(r rotate.Reads) map[string]string {
	custom := map[string]string{"key_id": r.ID, "previous_key_id": r.OldID, "retire_after": ""}
	if !r.RetireAfter.IsZero() {
		custom["retire_after"] = r.RetireAfter.UTC().Format(time.RFC3339)
	}
	return custom
}

// published reads the key's fields of what the path holds.
func (t *target) published(ctx context.Context) (*rotate.Published, error) {
	there, err := t.b.m.Host.Published(ctx, engine.Publication{Path: t.data.Config.Path})
	if err != nil || there == nil {
		return nil, err
	}
	return t.data.reading(there), nil
}

// reading is a key's part of what a path holds.
func (d *keyData) reading(p *engine.Published) *rotate.Published {
	out := &rotate.Published{Version: p.Version, At: p.At, ID: p.Turn, Deleted: p.Deleted, Fields: map[string]secret.Value{}}
	for _, field := range d.Config.Fields {
		if v, ok := p.Fields[field]; ok {
			out.Fields[field] = v
		}
	}
	return out
}

// versions are the key's fields of all that the path has held.
func (t *target) versions(ctx context.Context) (all []rotate.Published, err error) {
	there, err := t.b.m.Host.Versions(ctx, t.data.Config.Path)
	for i := range there {
		all = append(all, *t.data.reading(&there[i]))
	}
	return all, err
}

// credential is what the fields of the path say of a key.
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

// secret reports whether an output of the definition is one.
func (d *Definition) secret(output string) bool {
	return slices.ContainsFunc(d.Outputs, func(o Output) bool { return o.Name == output && o.Secret })
}

// manager is what keeps a mount's keys.
func (b *backend) manager() *rotate.Manager {
	m := b.m
	return rotate.New(m.Rotations(), b.kind())
}
