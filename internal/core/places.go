package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// placePrefix is where it is noted who publishes to a path and field: one row for each, in the same commits as what publishes.
const placePrefix = "place/"

// A holder is what publishes to a place. Its row counts as long as its record is there.
type holder struct {
	Record string `json:"record"` // absolute
	Name   string `json:"name"`   // for people, below its mount
	Mount  string `json:"mount"`  // uuid
}

// placeKey is the row of a path and field. A path has no NUL in it, so that no two places have one row.
func placeKey(p engine.Place) string {
	sum := sha256.Sum256([]byte(p.Path + "\x00" + p.Field))
	return placePrefix + hex.EncodeToString(sum[:])
}

// reserve returns the operations that make a record of a mount the only one that publishes to some places, and give up others. Two requests
// for one place, on whatever servers, have commits of which one fails.
func (h lending) reserve(ctx context.Context, uuid string, r engine.Reservation) (ops []storage.Op, err error) {
	ours := holder{Record: "mount/" + uuid + "/" + r.Record, Name: r.Name, Mount: uuid}
	value, err := json.Marshal(ours)
	if err != nil {
		return nil, fault.Wrap("core.reserve", fault.Internal, err)
	}
	wanted, gone := map[string]bool{}, map[string]bool{}
	for _, p := range r.Want {
		key := placeKey(p)
		wanted[key] = true
		row, theirs, err := h.holder(ctx, key)
		switch {
		case err != nil:
			return nil, err
		case row.Version != 0 && theirs.Record == ours.Record:
			continue // nobody else takes it while our record is there
		}
		if err := h.publishable(p.Path); err != nil {
			return nil, err
		}
		if row.Version != 0 {
			record, err := h.view.Get(ctx, theirs.Record)
			if err != nil {
				return nil, err
			}
			if record.Version != 0 {
				return nil, fault.New("core.reserve", fault.Conflict, "fields \"path\" and \"fields\": %s already publishes to %q at %q; choose another path or field, or delete that key first", h.holderName(theirs), p.Field, p.Path)
			}
			if !gone[theirs.Record] { // it has left its rows behind
				gone[theirs.Record] = true
				ops = append(ops, storage.Expect(theirs.Record, 0))
			}
		}
		ops = append(ops, storage.Set(key, value).If(row.Version))
	}
	for _, p := range r.Had {
		key := placeKey(p)
		if wanted[key] {
			continue
		}
		row, theirs, err := h.holder(ctx, key)
		if err != nil {
			return nil, err
		}
		if row.Version != 0 && theirs.Record == ours.Record {
			ops = append(ops, storage.Remove(key).If(row.Version))
		}
	}
	return ops, nil
}

func (h lending) holder(ctx context.Context, key string) (storage.Entry, holder, error) {
	var who holder
	row, err := h.view.Get(ctx, key)
	if err == nil && row.Version != 0 {
		err = fault.Wrap("core.reserve", fault.Internal, json.Unmarshal(row.Value, &who))
	}
	return row, who, err
}

func (h lending) holderName(who holder) string {
	if o := h.mounts.Snapshot().ByUUID(who.Mount); o != nil {
		return o.Entry().Path + who.Name
	}
	return "another mount's " + who.Name
}

// apiSegments are those that requests of a versioned kv mount have before the path of a secret.
var apiSegments = []string{"data", "metadata", "delete", "undelete", "destroy", "subkeys"}

// publishable refuses what is no path of a secret, and paths as requests have them: "static/data/e" would be the secret "data/e".
func (h lending) publishable(path string) error {
	o, rest, err := h.target(path)
	if err != nil {
		return err
	}
	for _, segment := range apiSegments {
		if below, ok := strings.CutPrefix(rest, segment+"/"); ok || rest == segment {
			right := o.Entry().Path + below
			if below == "" {
				right = o.Entry().Path + "name"
			}
			return fault.New("core.publish", fault.Invalid, "field \"path\": %q is how requests name a secret; write it without %q, as %q", path, segment+"/", right)
		}
	}
	return nil
}
