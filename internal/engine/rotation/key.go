package rotation

import (
	"context"
	"regexp"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// keys loads, changes and rotates the keys of a mount, and serves their routes.
type keys struct {
	m         *engine.Mount
	catalog   *catalog
	config    mountConfigs
	rotations *rotate.Manager
}

// A key is the loaded record of one key, with its decoded data.
type key struct {
	*rotate.Edit
	data keyData
}

// loaded decodes the data of a loaded record. A new record has no data yet.
func loaded(e *rotate.Edit) (*key, error) {
	k := &key{Edit: e}
	if len(e.Rec.Data) == 0 {
		return k, nil
	}
	return k, decodeData(e.Rec, &k.data)
}

// save encodes the key's data into the record and commits the record.
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

// change runs f on the key while holding the key's lock. change returns an error if there is no
// such key.
func (ks *keys) change(ctx context.Context, name string, f func(k *key) error) error {
	return ks.changeOr(ctx, name, noKey(name), f)
}

func (ks *keys) changeOr(ctx context.Context, name string, missing error, f func(k *key) error) error {
	return ks.rotations.Change(ctx, keyKind, name, missing, func(e *rotate.Edit) error {
		k, err := loaded(e)
		if err != nil {
			return err
		}
		return f(k)
	})
}

// view reads a key without taking its lock. view returns nil if there is no such key.
func (ks *keys) view(ctx context.Context, name string) (*key, error) {
	e, err := ks.rotations.View(ctx, keyKind, name)
	if err != nil || e == nil {
		return nil, err
	}
	return loaded(e)
}

// viewExisting is view, but returns an error if there is no such key.
func (ks *keys) viewExisting(ctx context.Context, name string) (*key, error) {
	k, err := ks.view(ctx, name)
	if err == nil && k == nil {
		err = noKey(name)
	}
	return k, err
}

// boundTo lists the keys that are bound to a recipe.
func (ks *keys) boundTo(ctx context.Context, recipe string) (names []string, err error) {
	for r, err := range ks.rotations.Records(ctx, keyKind) {
		if err != nil {
			return nil, err
		}
		var data keyData
		if err := decodeData(r, &data); err != nil {
			return nil, err
		}
		if data.Bind.Name == recipe {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fault.New("rotation.name", fault.Invalid,
			"field \"name\": %q is refused; use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", name)
	}
	return nil
}
