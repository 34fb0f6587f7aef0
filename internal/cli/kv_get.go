package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

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
			_, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err != nil {
				return err
			}
			params := map[string][]string{}
			if p.versioned && version > 0 {
				params["version"] = []string{strconv.Itoa(version)}
			}
			path := p.apiPath("data")
			sec, err := s.read(ctx, call{op: "read", path: path, params: params, doing: "reading " + string(path)})
			if err != nil {
				return err
			}
			return s.out.showKV(sec, p)
		},
	}
}

// showKV prints a secret. A secret of version 2 is printed with its metadata and its rotation.
func (out *printer) showKV(sec *api.Secret, p kvPath) error {
	metadata, ok := sec.Data["metadata"].(map[string]any)
	if !p.versioned || !ok || sec.WrapInfo != nil {
		return out.showPlainKV(sec)
	}
	values, _ := sec.Data["data"].(map[string]any)
	if out.field != "" {
		if values == nil {
			return refuse(exitRemote, "No data found at %s", p.apiPath("data"))
		}
		// As with Vault's command, -field=data is the whole secret, unless the secret has a field
		// of that name.
		if _, own := values["data"]; out.field == "data" && !own {
			return out.single(values)
		}
		return out.showField(&api.Secret{Data: values})
	}
	out.warn(sec.Warnings)
	if done, err := out.encode(sec); done {
		return err
	}
	parts := []string{section("Secret Path", string(p.apiPath("data"))+"\n"),
		section("Metadata", pairTable(dataPairs(metadata)))}
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
			return s.list(ctx, client, p.apiPath("metadata"), detailed)
		},
	}
}

func kvEnableVersioning() *command {
	return &command{
		name: "enable-versioning", short: "Upgrade a version 1 engine to version 2", args: "MOUNT", min: 1, max: 1,
		long:     "Makes a mount of version 1 keep versions. What is stored stays.",
		examples: []example{{"Upgrade a mount:", "keyturn kv enable-versioning secret"}},
		run: func(ctx context.Context, s *session) error {
			mount, err := folder(s.args[0])
			if err != nil {
				return err
			}
			_, err = s.send(ctx, call{
				op: "update", path: "sys/mounts/" + mount + "/tune",
				doing: fmt.Sprintf("tuning the secrets engine at %s/", mount),
				body:  map[string]any{"options": map[string]any{"version": "2"}},
			})
			if err != nil {
				return err
			}
			return s.out.say("Success! Tuned the secrets engine at: %s/", mount)
		},
	}
}
