package node

import (
	"context"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// rawAPI serves the decrypted rows of the store, and the mount tables. Both are off unless the
// configuration enables them, because they bypass all other policies.
type rawAPI struct{ Config }

func (a *rawAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "raw/{key...}", a.read).WithSudo().
			WithHelp("Read a row of the store. Off unless the configuration has raw_storage_endpoint."),
		route.On(route.Write, "raw/{key...}", a.write).WithSudo().
			WithHelp("Write a row of the store. Off unless the configuration has raw_storage_endpoint."),
		route.On(route.Delete, "raw/{key...}", a.remove).WithSudo().
			WithHelp("Delete a row of the store. Off unless the configuration has raw_storage_endpoint."),
		route.On(route.List, "raw/{key...}", a.list).WithSudo().
			WithHelp("List keys of the store. Off unless the configuration has raw_storage_endpoint."),
		route.On(route.Read, "internal/inspect/router/{tag}", a.inspect).WithSudo().WithHelp(
			"The table by which requests are routed. Off unless the configuration has introspection_endpoint."),
	}
}

type rawIn struct {
	Key         string       `path:"key" doc:"The row's key, as it stands in the store."`
	Value       secret.Value `json:"value" max:"2097152" doc:"The new content of the row."`
	Encoding    string       `json:"encoding" doc:"The encoding of value: base64, or empty for plain text."`
	Compressed  bool         `json:"compressed" default:"false" doc:"Accepted without effect: rows are not compressed."`
	Compression string       `json:"compression_type" doc:"Accepted without effect: rows are not compressed."`
}

// checkRaw refuses everything if sys/raw is off, and rows that contain keys. Only a root token may
// access the rows of tokens, cubbyholes and wrapped answers, because writing them, or reading a
// wrapped answer, can turn any token into a root token.
func (a *rawAPI) checkRaw(r *route.Request, in rawIn) error {
	if !a.RawStorage {
		return fault.New("node.raw", fault.Unsupported,
			"sys/raw is off; set raw_storage_endpoint = true in the server's configuration, for as long as it is "+
				"needed")
	}
	if in.Key == barrier.RingKey || in.Key == seal.RecordKey {
		return fault.New("node.raw", fault.Denied,
			"the rows of the key ring and the seal are neither shown nor written; use operator rotate")
	}
	root := r.Caller != nil && r.Caller.Root
	if !root && (strings.HasPrefix(in.Key, "token") || strings.HasPrefix(in.Key+"/", string(wrapping.Rows)) ||
		a.inCubbyhole(in.Key)) {
		return fault.New("node.raw", fault.Denied,
			"permission denied: only a root token may use the rows of tokens, cubbyholes and wrapped answers; use "+
				"auth/token, cubbyhole and sys/wrapping")
	}
	if in.Encoding != "" && in.Encoding != "base64" {
		return fault.New("node.raw", fault.Invalid, "field \"encoding\": want base64, or leave it out")
	}
	return nil
}

// inCubbyhole reports whether a key belongs to a cubbyhole. A root token in the cubbyhole of one
// token must not be shown to another.
func (a *rawAPI) inCubbyhole(key string) bool {
	for _, e := range a.Mounts.Snapshot().Table.Live(mount.ClassSecret) {
		if e.Type == "cubbyhole" && strings.HasPrefix(key+"/", storagePrefix(e)) {
			return true
		}
	}
	return false
}

type rawOut struct {
	Value secret.Value `json:"value"`
}

func (a *rawAPI) read(ctx context.Context, r *route.Request, in rawIn) (*rawOut, error) {
	if err := a.checkRaw(r, in); err != nil {
		return nil, err
	}
	row, err := a.View.Get(ctx, in.Key)
	if err != nil || row.Version == 0 {
		return nil, err
	}
	switch {
	case in.Encoding == "base64":
		return &rawOut{secret.Text(base64.StdEncoding.EncodeToString(row.Value))}, nil
	case !utf8.Valid(row.Value):
		return nil, fault.New("node.raw", fault.Invalid, "the row is not text; read it with encoding=base64")
	}
	return &rawOut{secret.New(row.Value)}, nil
}

func (a *rawAPI) write(ctx context.Context, r *route.Request, in rawIn) (route.None, error) {
	if err := a.checkRaw(r, in); err != nil {
		return route.None{}, err
	}
	value := in.Value.Reveal()
	if in.Encoding == "base64" {
		var err error
		if value, err = base64.StdEncoding.DecodeString(string(value)); err != nil {
			return route.None{}, fault.New("node.raw", fault.Invalid,
				"field \"value\": it is not base64; encode it, or leave out \"encoding\"")
		}
	}
	_, err := a.View.Commit(ctx, storage.Set(in.Key, value))
	return route.None{}, err
}

func (a *rawAPI) remove(ctx context.Context, r *route.Request, in rawIn) (route.None, error) {
	if err := a.checkRaw(r, in); err != nil {
		return route.None{}, err
	}
	return route.None{}, a.View.Delete(ctx, in.Key)
}

// maxRawKeys is the maximum length of a list; list a folder of it to see more.
const maxRawKeys = 10_000

func (a *rawAPI) list(ctx context.Context, r *route.Request, in rawIn) (route.Keys, error) {
	if err := a.checkRaw(r, in); err != nil {
		return route.Keys{}, err
	}
	prefix := ""
	if in.Key != "" {
		prefix = strings.TrimSuffix(in.Key, "/") + "/"
	}
	end := storage.PrefixEnd(prefix)
	var keys []string
	for from := prefix; len(keys) < maxRawKeys; {
		next := ""
		for row, err := range a.View.Scan(ctx, from, end) {
			if err != nil {
				return route.Keys{}, err
			}
			name, _, folder := strings.Cut(strings.TrimPrefix(row.Key, prefix), "/")
			if folder {
				name += "/"
				next = storage.PrefixEnd(prefix + name) // skip the keys in the folder
			}
			keys = append(keys, name)
			if folder || len(keys) == maxRawKeys {
				break
			}
		}
		if next == "" {
			break
		}
		from = next
	}
	if len(keys) == maxRawKeys {
		r.Warn("the first %d keys; list the folders below for more", maxRawKeys)
	}
	return route.Keys{Keys: keys}, nil
}

type inspectIn struct {
	Tag string `path:"tag" doc:"The table to show: root, uuid, accessor or storage."`
}

// routed is one row of the router's table, with the field names of the reference server.
type routed struct {
	Routing   string `json:"routing_prefix"`
	Namespace string `json:"mount_namespace"`
	Path      string `json:"mount_path"`
	UUID      string `json:"mount_uuid"`
	Accessor  string `json:"mount_accessor"`
	Class     string `json:"mount_class"`
	Type      string `json:"mount_type"`
	Storage   string `json:"storage_prefix"`
}

func (a *rawAPI) inspect(_ context.Context, _ *route.Request, in inspectIn) (map[string]map[string]routed, error) {
	if !a.Introspection {
		return nil, fault.New("node.inspect", fault.Unsupported,
			"sys/internal/inspect is off; set introspection_endpoint = true in the server's configuration")
	}
	by := map[string]func(e *mount.Entry) string{
		"root":     func(e *mount.Entry) string { return e.Path },
		"uuid":     func(e *mount.Entry) string { return e.UUID },
		"accessor": func(e *mount.Entry) string { return e.Accessor },
		"storage":  storagePrefix,
	}[in.Tag]
	if by == nil {
		return nil, fault.New("node.inspect", fault.Invalid,
			"there is no table %q; use root, uuid, accessor or storage", in.Tag)
	}
	rows := map[string]routed{}
	for _, class := range []string{mount.ClassSecret, mount.ClassAuth} {
		for _, e := range a.Mounts.Snapshot().Table.Live(class) {
			rows[by(e)] = routed{
				Routing: e.Path, Path: e.Path, UUID: e.UUID, Accessor: e.Accessor, Class: e.Class, Type: e.Type,
				Storage: storagePrefix(e),
			}
		}
	}
	return map[string]map[string]routed{in.Tag: rows}, nil
}

func storagePrefix(e *mount.Entry) string { return "mount/" + e.UUID + "/" }
