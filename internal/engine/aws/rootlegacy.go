package aws

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A legacyRoot is the rotation in the row of config/root, as versions without [rotate] stored it.
type legacyRoot struct {
	KeyID  string `json:"key"`
	Made   bool   `json:"made"`
	Secret []byte `json:"secret"`
	New    []byte `json:"new"` // the secret of Turn.New
	Turn   *struct {
		User    string    `json:"user"`
		Account string    `json:"account"`
		At      time.Time `json:"at"`
		Before  []string  `json:"before"`
		New     string    `json:"new"` // once it was created
		Old     string    `json:"old"` // once it was replaced: to be deleted
	} `json:"turn"`
	Due  time.Time `json:"due"`
	Auto struct {
		When   cron.When `json:"when"`
		Last   time.Time `json:"last"`
		Next   time.Time `json:"next"`
		Failed int       `json:"failed"`
		Again  time.Time `json:"again"`
		Why    string    `json:"why"`
	} `json:"auto"`
	Dropped []string `json:"dropped"`
}

// recordFromLegacy makes a record of the row of config/root, if there is one.
func (s *rootRotation) recordFromLegacy(ctx context.Context, name string) (*rotate.Record, *rotate.Secrets, error) {
	row, err := s.m.Store.Get(ctx, string(rootRow))
	if err != nil || row.Version == 0 {
		return nil, nil, err
	}
	var was legacyRoot
	if err := json.Unmarshal(row.Value, &was); err != nil {
		return nil, nil, fault.Wrap("aws.root", fault.Internal, err)
	}
	r := &rotate.Record{
		Name: name, Tag: rotate.Tag(name), Created: time.Now().UTC(), LastRotated: was.Auto.Last, Next: was.Auto.Next,
		Due:      was.Due,
		Failures: was.Auto.Failed, LastError: was.Auto.Why,
	}
	if r.Failures > 0 {
		r.Retry = was.Auto.Again
	}
	secrets := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	add := func(id string, secretKey []byte) {
		secrets.Keys[id] = rotate.Credential{ID: id,
			Secret: map[string]secret.Value{secretField: secret.New(secretKey)}}
	}
	if was.KeyID != "" {
		r.Current = &rotate.Ref{ID: was.KeyID, At: was.Auto.Last, Adopted: !was.Made}
		add(was.KeyID, was.Secret)
	}
	d := rootData{When: was.Auto.When, Deleted: was.Dropped}
	if was.Turn != nil {
		r.Turns, d.Turn, d.User, d.Account = 1, 1, was.Turn.User, was.Turn.Account
		r.Turn = was.inFlight(r)
		if was.Turn.New != "" {
			add(was.Turn.New, was.New)
		}
	}
	return r, secrets, d.store(r)
}

// inFlight makes the rotation in flight.
func (w *legacyRoot) inFlight(r *rotate.Record) *rotate.Turn {
	why := rotate.Start{Reason: "manual"}
	t := legacyTurn(r, why, w.Turn.At, w.Turn.New, slices.Concat(w.Turn.Before, w.Dropped))
	if w.Turn.Old == "" {
		return t
	}
	t.State, t.New, t.Old, t.Proof = rotate.Retiring, r.Current, &rotate.Ref{ID: w.Turn.Old}, rotate.ProofUse
	t.Put = rotate.Put{IntendedAt: w.Turn.At, At: w.Turn.At, Next: w.Auto.Next}
	t.End = rotate.Ending{After: w.Turn.At, Now: true}
	t.Attempts[0].Outcome = "created"
	return t
}
