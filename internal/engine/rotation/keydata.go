package rotation

import (
	"encoding/json"
	"slices"
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
//	u/<name>                exists while the path holds a value that was written unchecked
//	x/, xs/, xh/, xj/, xu/  the same rows of registered paths, whose keys somebody else rotates
//	claims                  the key that last adopted a credential or retired an orphan
const (
	configKey       = "config"
	recipePrefix    = "recipe/"
	recordPrefix    = "k/"
	secretPrefix    = "s/"
	boundPrefix     = "b/"
	historyPrefix   = "h/"
	journalPrefix   = "j/"
	uncheckedPrefix = "u/"
	claimsRow       = "claims"
)

// keyData is the part of a key's record that belongs to this engine: the configuration, and the
// caller who wrote it.
type keyData struct {
	Config    settings `json:"config"`
	Bind      binding  `json:"bind"`
	Principal []string `json:"principal"` // policy names; evaluated at each rotation
	Owner     string   `json:"owner"`     // display name of the caller who configured the key
}

// settings are the configuration that a user writes, except the admin credentials.
type settings struct {
	Params map[string]json.RawMessage `json:"params"`
	Path   string                     `json:"path"`
	Fields map[string]string          `json:"fields"` // output → field
	Policy schedule.Policy            `json:"policy"`
	Settle rotate.Settle              `json:"settle"`       // zero fields: the definition's
	CA     string                     `json:"ca,omitempty"` // PEM; "": the system's authorities
}

// A binding identifies the definition that a key is rotated with.
type binding struct {
	Provider string    `json:"provider"`
	Name     string    `json:"name"`
	Hash     string    `json:"hash"`
	At       time.Time `json:"at"`
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return b, fault.Wrap("rotation.encode", fault.Internal, err)
}

func decode(e storage.Entry, into any) error {
	return fault.Wrap("rotation.decode", fault.Internal, json.Unmarshal(e.Value, into))
}

func decodeData(r *rotate.Record, into *keyData) error {
	return fault.Wrap("rotation.data", fault.Internal, json.Unmarshal(r.Data, into))
}

// settle returns the definition's settle parameters, overridden by the key's own. Each has a lower
// bound.
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
	return rotate.Settle{Successes: max(s.Successes, 1), Interval: max(s.Interval, time.Second),
		Timeout: max(s.Timeout, time.Minute)}
}

// publishedFields returns the key's fields of one version of the path.
func (d *keyData) publishedFields(p *engine.Published) *rotate.Published {
	out := &rotate.Published{Version: p.Version, At: p.At, ID: p.Turn, Deleted: p.Deleted,
		Fields: map[string]secret.Value{}}
	for _, field := range d.Config.Fields {
		if v, ok := p.Fields[field]; ok {
			out.Fields[field] = v
		}
	}
	return out
}

// places returns the fields that the key publishes to, each with its path.
func (d *keyData) places() (all []engine.Place) {
	for _, field := range d.Config.Fields {
		all = append(all, engine.Place{Path: d.Config.Path, Field: field})
	}
	return all
}

// customMetadata returns the custom metadata of a key's path: the IDs of the published and the
// previous key, and when the previous key is retired.
func customMetadata(r rotate.Reads) map[string]string {
	return map[string]string{"key_id": r.ID, "previous_key_id": r.OldID, "retire_after": rfc3339(r.RetireAfter)}
}

// rfc3339 is the text of a time; "" for none.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// secret reports whether the definition marks the output as secret.
func (d *Definition) secret(output string) bool {
	return slices.ContainsFunc(d.Outputs, func(o Output) bool { return o.Name == output && o.Secret })
}
