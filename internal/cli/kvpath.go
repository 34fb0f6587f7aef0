package cli

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A kvPath is the mount of a secret, its path below the mount, and the version of the engine.
type kvPath struct {
	mount, rest target
	kind        string // type of the engine; empty if the server does not say
	versioned   bool
}

// apiPath returns the path for requests. kind is a segment of version 2: data, metadata, delete,
// undelete or destroy.
func (p kvPath) apiPath(kind target) target {
	if !p.versioned {
		return p.mount.below(p.rest)
	}
	return p.mount.below(kind).below(p.rest)
}

// mountFlag declares -mount.
func mountFlag(f *flags, mount *string) {
	f.String(mount, "mount", "path", "where the engine is mounted; the argument is then the path below it")
}

// connectKV connects and finds the engine of a path. The path may be a folder, or the mount
// itself.
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
	if found == nil { // the server does not say: version 1
		return client, typed, nil
	}
	p, err := found.split(typed)
	return client, p, err
}

// A mountInfo describes the mount of a path.
type mountInfo struct {
	path      string // with a slash at its end
	kind      string // the type of the engine
	versioned bool   // version 2 of the key-value engine
}

// mountOf reads the mount of path. It returns nil if the server does not say.
func (c *client) mountOf(ctx context.Context, path target) (*mountInfo, error) {
	var found *api.Secret
	err := c.auxiliary(func() (err error) {
		found, err = c.read(ctx, "sys/internal/ui/mounts/"+path, nil)
		return err
	})
	if err != nil || found == nil {
		return nil, err
	}
	m := &mountInfo{}
	m.path, _ = found.Data["path"].(string)
	m.kind, _ = found.Data["type"].(string)
	options, _ := found.Data["options"].(map[string]any)
	m.versioned = options["version"] == "2"
	return m, nil
}

// split returns typed with the path split at the mount, unless -mount names the mount.
func (m *mountInfo) split(typed kvPath) (kvPath, error) {
	mount, err := folder(m.path)
	if err != nil {
		return typed, remote(err, "finding the engine")
	}
	p := kvPath{mount: mount, rest: typed.rest, kind: m.kind, versioned: m.versioned}
	if typed.mount != "" {
		if typed.mount != mount {
			return p, usagef("-mount: no engine is mounted at %s/, which is below the mount %s/; write -mount=%s %s",
				typed.mount, mount, mount,
				strings.TrimPrefix(string(typed.mount.below(typed.rest)), string(mount)+"/"))
		}
		return p, nil
	}
	if p.rest, err = typed.rest.relativeTo(mount); err != nil {
		return p, remote(err, "finding the engine")
	}
	return p, nil
}

// connectSecret is connectKV for the path of a secret, which is not a mount or a folder.
func (s *session) connectSecret(ctx context.Context, mount, path string) (*client, kvPath, error) {
	// otherwise it may be the name of a mount
	if mount != "" || strings.Count(path, "/") > 1 || !strings.HasSuffix(path, "/") {
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

// showWritten prints the answer to a write: the path and metadata of the new version or, for
// version 1, that the write succeeded.
func (out *printer) showWritten(sec *api.Secret, path target) error {
	if sec == nil || len(sec.Data) == 0 || out.field != "" || out.format != "table" {
		return out.done(sec, "Success! Data written to: %s", path)
	}
	out.warn(sec.Warnings)
	return out.write(section("Secret Path", string(path)+"\n") + "\n" +
		section("Metadata", pairTable(dataPairs(sec.Data))))
}
