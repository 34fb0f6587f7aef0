package cli

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A kvPath is where a secret is: its mount, its path below it, and the version
// of the engine.
type kvPath struct {
	mount, rest target
	kind        string // of the engine; empty: the server does not say
	versioned   bool
}

// api is the path to use in requests; kind is one of version 2's: data,
// metadata, delete, undelete, destroy.
func (p kvPath) api(kind target) target {
	if !p.versioned {
		return p.mount.below(p.rest)
	}
	return p.mount.below(kind).below(p.rest)
}

// mountFlag declares -mount.
func mountFlag(f *flags, mount *string) {
	f.String(mount, "mount", "path", "where the engine is mounted; the argument is then the path below it")
}

// connectKV is connect and finding out which engine a path belongs to. The path
// may be one of a folder, or the mount's.
func (s *session) connectKV(ctx context.Context, mount, path string) (*client, kvPath, error) {
	typed := kvPath{}
	var err error
	if path != "" || mount == "" {
		if typed.rest, err = folder(path); err != nil {
			return nil, typed, err
		}
	}
	asked := typed.rest
	if mount != "" {
		if typed.mount, err = folder(mount); err != nil {
			return nil, typed, err
		}
		asked = typed.mount
	}
	client, err := s.connect()
	if err != nil {
		return nil, typed, err
	}
	found, err := client.mountOf(ctx, asked)
	if err != nil {
		return nil, typed, mountHint(remote(err, "finding the engine at %s", asked), err)
	}
	if found == nil { // a server that does not tell: version 1
		return client, typed, nil
	}
	p, err := found.divide(typed)
	return client, p, err
}

// A foundMount is what the server says of the mount that a path is below.
type foundMount struct {
	path      string // with a slash at its end
	kind      string // the type of the engine
	versioned bool   // version 2 of the key-value engine
}

// mountOf asks for the mount of path; nil: the server does not tell.
func (c *client) mountOf(ctx context.Context, path target) (*foundMount, error) {
	var found *api.Secret
	err := c.aside(func() (err error) {
		found, err = c.read(ctx, "sys/internal/ui/mounts/"+path, nil)
		return err
	})
	if err != nil || found == nil {
		return nil, err
	}
	m := &foundMount{}
	m.path, _ = found.Data["path"].(string)
	m.kind, _ = found.Data["type"].(string)
	options, _ := found.Data["options"].(map[string]any)
	m.versioned = options["version"] == "2"
	return m, nil
}

// divide is typed with the mount cut off the path, where it was not typed apart
// from it.
func (m *foundMount) divide(typed kvPath) (kvPath, error) {
	mount, err := folder(m.path)
	if err != nil {
		return typed, remote(err, "finding the engine")
	}
	p := kvPath{mount: mount, rest: typed.rest, kind: m.kind, versioned: m.versioned}
	if typed.mount != "" {
		if typed.mount != mount {
			return p, usagef("-mount: no engine is mounted at %s/, which is below the mount %s/; write -mount=%s %s", typed.mount, mount, mount,
				strings.TrimPrefix(string(typed.mount.below(typed.rest)), string(mount)+"/"))
		}
		return p, nil
	}
	if p.rest, err = typed.rest.cut(mount); err != nil {
		return p, remote(err, "finding the engine")
	}
	return p, nil
}

// connectSecret is connectKV for what takes a secret, not the mount itself or a
// folder.
func (s *session) connectSecret(ctx context.Context, mount, path string) (*client, kvPath, error) {
	if mount != "" || strings.Count(path, "/") > 1 || !strings.HasSuffix(path, "/") { // else it may be a mount's name
		if _, err := exact(path); err != nil {
			return nil, kvPath{}, err
		}
	}
	client, p, err := s.connectKV(ctx, mount, path)
	if err == nil && p.rest == "" {
		return nil, p, usagef("%s/ is the path of an engine; name a secret below it", p.mount)
	}
	return client, p, err
}

// showWritten prints the answer to a write: the path and the new version's
// metadata, or for version 1 that it succeeded.
func (out *printer) showWritten(sec *api.Secret, path target) error {
	if sec == nil || len(sec.Data) == 0 || out.field != "" || out.format != "table" {
		return out.done(sec, "Success! Data written to: %s", path)
	}
	out.warn(sec.Warnings)
	return out.write(section("Secret Path", string(path)+"\n") + "\n" + section("Metadata", pairTable(dataPairs(sec.Data))))
}
