package rotate

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Secrets are the secrets of one record. They are stored beside the record, in the same commits.
type Secrets struct {
	Admin    map[string]secret.Value // credentials of the provider's management API
	Keys     map[string]Credential   // by ID: current, pending, previous
	Previous map[string]secret.Value // what consumers read before the rotation in flight
}

// sealed is the stored form of Secrets; the barrier encrypts it.
type sealed struct {
	Admin    map[string][]byte    `json:"admin"`
	Keys     map[string]sealedKey `json:"keys"`
	Previous map[string][]byte    `json:"previous"`
}

type sealedKey struct {
	Account string            `json:"account,omitempty"`
	Secret  map[string][]byte `json:"hidden"`
	Public  map[string]string `json:"public"`
	Expires time.Time         `json:"expires"`
}

func revealed(in map[string]secret.Value) map[string][]byte {
	out := map[string][]byte{}
	for k, v := range in {
		out[k] = v.Reveal()
	}
	return out
}

func hidden(in map[string][]byte) map[string]secret.Value {
	out := map[string]secret.Value{}
	for k, v := range in {
		out[k] = secret.New(v)
	}
	return out
}

func (s *Secrets) encode() ([]byte, error) {
	out := sealed{revealed(s.Admin), map[string]sealedKey{}, revealed(s.Previous)}
	for id, c := range s.Keys {
		out.Keys[id] = sealedKey{c.Account, revealed(c.Secret), c.Public, c.Expires}
	}
	b, err := json.Marshal(out)
	return b, fault.Wrap("rotate.Secrets", fault.Internal, err)
}

func decodeSecrets(b []byte) (*Secrets, error) {
	var in sealed
	if len(b) > 0 {
		if err := json.Unmarshal(b, &in); err != nil {
			return nil, fault.New("rotate.Secrets", fault.Internal,
				"the stored secrets of a rotation record cannot be read")
		}
	}
	s := &Secrets{hidden(in.Admin), map[string]Credential{}, hidden(in.Previous)}
	for id, k := range in.Keys {
		s.Keys[id] = Credential{ID: id, Account: k.Account, Secret: hidden(k.Secret), Public: k.Public,
			Expires: k.Expires}
	}
	return s, nil
}

// Know teaches r every secret of s.
func (s *Secrets) Know(r *secret.Redactor) {
	for _, m := range []map[string]secret.Value{s.Admin, s.Previous} {
		for _, v := range m {
			r.Know(v)
		}
	}
	for _, c := range s.Keys {
		for _, v := range c.Secret {
			r.Know(v)
		}
	}
}

// forget drops the secrets that no credential of the record needs any more.
func (s *Secrets) forget(r *Record) {
	keep := map[string]bool{r.Current.Key(): true}
	for _, idle := range r.Idle {
		keep[idle.Key()] = true
	}
	s.Previous = nil
	maps.DeleteFunc(s.Keys, func(id string, _ Credential) bool { return !keep[id] })
}
