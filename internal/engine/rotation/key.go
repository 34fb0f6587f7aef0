package rotation

import (
	"context"
	"regexp"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A key is the loaded record of one key, with its decoded data.
type key struct {
	*rotate.Edit
	b    *backend
	data keyData
}

// key decodes the data of a loaded record. A new record has no data yet.
func (b *backend) key(e *rotate.Edit) (*key, error) {
	k := &key{Edit: e, b: b}
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

// view reads a key without taking its lock. view returns nil if there is no such key.
func (b *backend) view(ctx context.Context, name string) (*key, error) {
	e, err := b.rotations.View(ctx, keyKind, name)
	if err != nil || e == nil {
		return nil, err
	}
	return b.key(e)
}

// have is view, but returns an error if there is no such key.
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
