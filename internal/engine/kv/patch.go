package kv

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// patch merges into the current version (RFC 7396), and stores the result as a new version.
func (a dataAPI) patch(ctx context.Context, r *route.Request, in putIn) (*versionOut, error) {
	if in.Data.IsNull() || !in.Data.IsObject() {
		return nil, fault.New("kv.patch", fault.Invalid,
			"field \"data\": no data provided; the changes go into {\"data\": {…}}")
	}
	return a.store(ctx, r, in, func(m *record) ([]byte, error) {
		ver := m.readable(time.Now())
		if ver == nil {
			return nil, fault.New("kv.patch", fault.NotFound, "")
		}
		e, err := a.secrets.table.mount.Store.Get(ctx, versionKey(in.Path, ver.N))
		if err != nil {
			return nil, err
		}
		if e.Version == 0 {
			return nil, fault.New("kv.patch", fault.NotFound, "")
		}
		return mergePatch(e.Value, in.Data.Reveal())
	})
}

// mergePatch applies a JSON merge patch (RFC 7396). Numbers keep their digits.
func mergePatch(target, patch []byte) ([]byte, error) {
	t, err := decodeNumbers(target)
	if err != nil {
		return nil, err
	}
	p, err := decodeNumbers(patch)
	if err != nil {
		return nil, err
	}
	return encodeText("kv.mergePatch", merge(t, p))
}

func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
			continue
		}
		t[k] = merge(t[k], v)
	}
	return t
}

type subkeysIn struct {
	Path    string `path:"path" doc:"The secret's path."`
	Version int    `json:"version" default:"0" doc:"Which version; 0: the current one."`
	Depth   int    `json:"depth" default:"0" doc:"How many levels of objects are shown; 0: all."`
}

type subkeysOut struct {
	Metadata versionOut `json:"metadata"`
	Subkeys  wire.Raw   `json:"subkeys"`
}

// subkeys returns the structure of a version, with null instead of each value.
func (a dataAPI) subkeys(ctx context.Context, r *route.Request, in subkeysIn) (*subkeysOut, error) {
	got, err := a.read(ctx, r, readIn{Path: in.Path, Version: in.Version})
	if err != nil || got == nil {
		return nil, err
	}
	out := &subkeysOut{Metadata: got.Metadata}
	if got.Data.IsNull() {
		return out, nil
	}
	x, err := decodeNumbers(got.Data.Reveal())
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(blank(x, in.Depth, 1))
	if err != nil {
		return nil, fault.Wrap("kv.subkeys", fault.Internal, err)
	}
	out.Subkeys = wire.RawOf(b)
	return out, nil
}

// blank replaces values by null, down to a depth (0: all levels).
func blank(x any, depth, level int) any {
	m, ok := x.(map[string]any)
	if !ok || depth > 0 && level > depth {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = blank(v, depth, level+1)
		if sub, ok := v.(map[string]any); ok && len(sub) == 0 {
			out[k] = map[string]any{}
		}
	}
	return out
}
