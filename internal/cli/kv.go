package cli

import (
	"context"
	"errors"
	"net/http"
	"slices"
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

// A kvPath is where a secret is: its mount, with a slash at the end, its path
// below it, and the version of the engine.
type kvPath struct {
	mount, rest string
	versioned   bool
}

// api is the path to use in requests; kind is one of version 2's: data,
// metadata, delete, undelete, destroy.
func (p kvPath) api(kind string) string {
	if !p.versioned {
		return cleanPath(p.mount + p.rest)
	}
	return cleanPath(p.mount + kind + "/" + p.rest)
}

// mountFlag declares -mount.
func mountFlag(f *flags, mount *string) {
	f.String(mount, "mount", "path", "where the engine is mounted; the argument is then the path below it")
}

// connectKV is connect and finding out which engine path belongs to.
func (s *session) connectKV(ctx context.Context, mount, path string) (*api.Client, kvPath, error) {
	client, err := s.connect()
	if err != nil {
		return nil, kvPath{}, err
	}
	path, mount = cleanPath(path), cleanPath(mount)
	asked := path
	if mount != "" {
		asked = mount
	}
	var found *api.Secret
	err = s.aside(client, func() error {
		found, err = client.Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/"+asked)
		return err
	})
	if err != nil {
		return nil, kvPath{}, mountHint(remote(err, "finding the engine at %s", asked), err, client)
	}
	p := kvPath{mount: mount + "/"}
	if found == nil { // a server that does not tell: version 1
		if mount == "" {
			p.mount = ""
		}
		p.rest = path
		return client, p, nil
	}
	if text, ok := found.Data["path"].(string); ok {
		p.mount = cleanPath(text) + "/"
	}
	if p.rest = path; mount == "" {
		p.rest = strings.TrimPrefix(strings.TrimPrefix(path+"/", p.mount), "/")
		p.rest = cleanPath(p.rest)
	}
	if given, ok := found.Data["options"].(map[string]any); ok {
		p.versioned = given["version"] == "2"
	}
	return client, p, nil
}

// connectSecret is connectKV for what takes a secret, not the mount itself.
func (s *session) connectSecret(ctx context.Context, mount, path string) (*api.Client, kvPath, error) {
	client, p, err := s.connectKV(ctx, mount, path)
	if err == nil && p.rest == "" {
		return nil, p, usagef("at %s an engine is mounted: name a secret below it", p.mount)
	}
	return client, p, err
}

func mountHint(err, cause error, client *api.Client) error {
	var answer *api.ResponseError
	if errors.As(cause, &answer) && answer.StatusCode == http.StatusForbidden && client.Token() != "" {
		return hinted(err, "nothing is mounted there, or no policy of the token allows anything below it.")
	}
	return err
}

// versionHint adds to the error of a plain request which kv command it stands
// for, where the path is one of a versioned engine without its data/ or metadata/.
func versionHint(ctx context.Context, s *session, client *api.Client, path, command string, err error) error {
	var answer *api.ResponseError
	if errors.As(err, &answer) && answer.StatusCode != http.StatusNotFound {
		return err
	}
	var found *api.Secret
	asking := s.aside(client, func() (err error) {
		found, err = client.Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/"+path)
		return err
	})
	if asking != nil || found == nil {
		return err
	}
	options, _ := found.Data["options"].(map[string]any)
	mount, _ := found.Data["path"].(string)
	kind, _, _ := strings.Cut(strings.TrimPrefix(path+"/", mount), "/")
	if options["version"] != "2" || slices.Contains([]string{"data", "metadata", "config", "delete", "undelete", "destroy", "subkeys"}, kind) {
		return err
	}
	return hinted(err, "at %s is version 2 of the key-value engine: use %q.", mount, s.name+" kv "+command+" "+path)
}

// versionedOnly refuses what version 1 cannot do.
func (p kvPath) versionedOnly(what string) error {
	if p.versioned {
		return nil
	}
	return hinted(refusal{exitLocal, "Error: " + what + " needs version 2 of the key-value engine; at " + p.mount + " version 1 is mounted"},
		"the command \"kv enable-versioning %s\" upgrades it.", p.mount)
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
			sec, err := client.Logical().ReadWithDataWithContext(ctx, path, params)
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
			return refusal{exitRemote, "No data found at " + p.api("data")}
		}
		return out.showField(&api.Secret{Data: values})
	}
	out.warn(sec.Warnings)
	if done, err := out.encode(sec); done {
		return err
	}
	parts := []string{section("Secret Path", p.api("data")+"\n"), section("Metadata", pairTable(dataPairs(metadata)))}
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
func (out *printer) showWritten(sec *api.Secret, path string) error {
	if sec == nil || len(sec.Data) == 0 || out.field != "" || out.format != "table" {
		return out.done(sec, "Success! Data written to: %s", path)
	}
	out.warn(sec.Warnings)
	return out.write(section("Secret Path", path+"\n") + "\n" + section("Metadata", pairTable(dataPairs(sec.Data))))
}

func kvList() *command {
	var mount string
	return &command{
		name: "list", short: "List the names under a path", args: "PATH", max: 1,
		long: "Lists the names under a path. A name that ends in a slash has more below it.\nIt shows no values.",
		examples: []example{
			{"List the secrets of a mount:", "keyturn kv list static"},
			{"The same with the mount named:", "keyturn kv list -mount=static"},
		},
		flags: func(f *flags) { mountFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			if mount == "" && len(s.args) == 0 {
				return usagef("not enough arguments: name the path, or the mount with -mount")
			}
			client, p, err := s.connectKV(ctx, mount, first(s.args))
			if err != nil {
				return err
			}
			return s.list(ctx, client, p.api("metadata"))
		},
	}
}

func kvEnableVersioning() *command {
	return &command{
		name: "enable-versioning", short: "Turn version 1 of the engine into version 2", args: "MOUNT", min: 1, max: 1,
		long:     "Makes a mount of version 1 keep versions. What is stored stays.",
		examples: []example{{"Upgrade a mount:", "keyturn kv enable-versioning secret"}},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			mount := cleanPath(s.args[0])
			_, err = client.Logical().WriteWithContext(ctx, "sys/mounts/"+mount+"/tune", map[string]any{
				"options": map[string]any{"version": "2"},
			})
			if err != nil {
				return remote(err, "tuning the secrets engine at %s/", mount)
			}
			return s.out.say("Success! Tuned the secrets engine at: %s/", mount)
		},
	}
}
