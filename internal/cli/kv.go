package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

func kvCommand() *command {
	return &command{
		name: "kv", short: "Store and read secrets by key, with their versions",
		long: "Works with key-value engines of version 1 and 2; which of them is mounted is\nfound out by itself. A path begins with the mount, or -mount names it.",
		sub: []*command{
			kvGet(), kvPut(), kvPatch(), kvList(), kvDelete(),
			kvUndelete(), kvDestroy(), kvRollback(), kvMetadata(), kvEnableVersioning(),
		},
	}
}

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

func kvGet() *command {
	var mount string
	var version int
	return &command{
		name: "get", short: "Read a secret", args: "PATH", min: 1, max: 1, fields: true,
		long: "Reads a secret, in version 2 its newest version.",
		examples: []example{
			{"Read a secret:", "keyturn kv get static/stripe/production"},
			{"Print one value of it:", "keyturn kv get -field=api_key static/stripe/production"},
			{"Read an older version, naming the mount:", "keyturn kv get -mount=static -version=1 stripe/production"},
		},
		flags: func(f *flags) {
			mountFlag(f, &mount)
			f.Int(&version, "version", "the version to read; 0 is the newest (version 2 only)")
		},
		run: func(ctx context.Context, s *session) error {
			client, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err != nil {
				return err
			}
			params := map[string][]string{}
			if p.versioned && version > 0 {
				params["version"] = []string{strconv.Itoa(version)}
			}
			path := p.api("data")
			sec, err := client.read(ctx, path, params)
			if err != nil {
				return remote(err, "reading %s", path)
			}
			if sec == nil {
				return nothingAt("%s", path)
			}
			return s.out.showKV(sec, p)
		},
	}
}

// showKV prints a secret that was read: in version 2 with its metadata, and
// with what the engine says of its rotation.
func (out *printer) showKV(sec *api.Secret, p kvPath) error {
	metadata, ok := sec.Data["metadata"].(map[string]any)
	if !p.versioned || !ok || sec.WrapInfo != nil {
		return out.showPlainKV(sec)
	}
	values, _ := sec.Data["data"].(map[string]any)
	if out.field != "" {
		if values == nil {
			return refusal{exitRemote, "No data found at " + string(p.api("data"))}
		}
		// As with Vault's command, -field=data is the whole secret, unless the secret has a field of that name.
		if _, own := values["data"]; out.field == "data" && !own {
			return out.single(values)
		}
		return out.showField(&api.Secret{Data: values})
	}
	out.warn(sec.Warnings)
	if done, err := out.encode(sec); done {
		return err
	}
	parts := []string{section("Secret Path", string(p.api("data"))+"\n"), section("Metadata", pairTable(dataPairs(metadata)))}
	extra := map[string]any{}
	for key, value := range sec.Data {
		if key != "data" && key != "metadata" {
			extra[key] = value
		}
	}
	if len(extra) > 0 {
		parts = append(parts, section("Rotation", pairTable(dataPairs(extra))))
	}
	if values != nil {
		parts = append(parts, section("Data", pairTable(dataPairs(values))))
	}
	return out.write(strings.Join(parts, "\n"))
}

func (out *printer) showPlainKV(sec *api.Secret) error {
	if out.field != "" || out.format != "table" || sec.WrapInfo != nil {
		return out.show(sec)
	}
	out.warn(sec.Warnings)
	return out.write(section("Data", pairTable(dataPairs(sec.Data))))
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

func kvList() *command {
	var mount string
	var detailed bool
	return &command{
		name: "list", short: "List the names under a path", args: "PATH", max: 1,
		long: "Lists the names under a path. A name that ends in a slash has more below it.\nIt shows no values.",
		examples: []example{
			{"List the secrets of a mount:", "keyturn kv list static"},
			{"The same with the mount named:", "keyturn kv list -mount=static"},
		},
		flags: func(f *flags) { mountFlag(f, &mount); detailedFlag(f, &detailed) },
		run: func(ctx context.Context, s *session) error {
			if mount == "" && len(s.args) == 0 {
				return usagef("not enough arguments: name the path, or the mount with -mount")
			}
			client, p, err := s.connectKV(ctx, mount, first(s.args))
			if err != nil {
				return err
			}
			return s.list(ctx, client, p.api("metadata"), detailed)
		},
	}
}

func kvEnableVersioning() *command {
	return &command{
		name: "enable-versioning", short: "Turn version 1 of the engine into version 2", args: "MOUNT", min: 1, max: 1,
		long:     "Makes a mount of version 1 keep versions. What is stored stays.",
		examples: []example{{"Upgrade a mount:", "keyturn kv enable-versioning secret"}},
		run: func(ctx context.Context, s *session) error {
			mount, err := folder(s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			_, err = client.write(ctx, "sys/mounts/"+mount+"/tune", map[string]any{
				"options": map[string]any{"version": "2"},
			})
			if err != nil {
				return remote(err, "tuning the secrets engine at %s/", mount)
			}
			return s.out.say("Success! Tuned the secrets engine at: %s/", mount)
		},
	}
}
