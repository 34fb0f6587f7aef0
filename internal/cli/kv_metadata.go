package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

func kvMetadata() *command {
	return &command{
		name: "metadata", short: "What is kept about a secret: versions, limits, custom fields",
		long: "Version 2 keeps, beside the versions of a secret, their dates, how many to keep\nand fields of your " +
			"own. They hold no secrets.",
		sub: []*command{kvMetadataGet(), kvMetadataPut(), kvMetadataPatch(), kvMetadataDelete()},
	}
}

// connectMetadata connects and returns the path of the metadata. It fails for version 1.
func (s *session) connectMetadata(ctx context.Context, mount string) (target, error) {
	_, p, err := s.connectSecret(ctx, mount, s.args[0])
	if err == nil {
		err = p.requireVersioned("kv metadata")
	}
	return p.apiPath("metadata"), err
}

func kvMetadataGet() *command {
	var mount string
	return &command{
		name: "get", short: "Show a secret's metadata and its versions", args: "PATH", min: 1, max: 1, fields: true,
		long: "Shows the metadata of a secret, and its versions, oldest first.",
		examples: []example{
			{"See when a key was rotated, and when the old one is retired:",
				"keyturn kv metadata get static/stripe/production"},
		},
		flags: func(f *flags) { mountFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			path, err := s.connectMetadata(ctx, mount)
			if err != nil {
				return err
			}
			sec, err := s.read(ctx, call{op: "read", path: path, doing: "reading " + string(path)})
			if err != nil {
				return err
			}
			return s.out.showMetadata(sec, path)
		},
	}
}

// showMetadata prints the fields of a secret and then each version.
func (out *printer) showMetadata(sec *api.Secret, path target) error {
	versions, ok := sec.Data["versions"].(map[string]any)
	if out.field != "" || out.format != "table" || sec.WrapInfo != nil || !ok {
		return out.show(sec)
	}
	out.warn(sec.Warnings)
	own := map[string]any{}
	for key, value := range sec.Data {
		if key != "versions" {
			own[key] = value
		}
	}
	parts := []string{section("Metadata Path", string(path)+"\n"), section("Metadata", pairTable(dataPairs(own)))}
	for _, name := range numericKeys(versions) {
		fields, _ := versions[name].(map[string]any)
		parts = append(parts, section("Version "+name, pairTable(dataPairs(fields))))
	}
	return out.write(strings.Join(parts, "\n"))
}

// numericKeys returns the keys of m, which are numbers, in numeric order.
func numericKeys(m map[string]any) []string {
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b string) int {
		m, _ := strconv.Atoi(a)
		n, _ := strconv.Atoi(b)
		return m - n
	})
	return keys
}

// metadataFlags are the fields that put and patch set.
type metadataFlags struct {
	mount       string
	maxVersions int
	casRequired bool
	deleteAfter string
	custom      map[string]string
	remove      []string
}

func (m *metadataFlags) declare(f *flags) {
	mountFlag(f, &m.mount)
	f.Int(&m.maxVersions, "max-versions", "how many versions to keep; 0: as many as the engine's configuration says")
	f.Bool(&m.casRequired, "cas-required", "refuse writes without -cas")
	f.String(&m.deleteAfter, "delete-version-after", "duration", "delete versions when they are this old")
	f.Pairs(&m.custom, "custom-metadata", "a field of your own")
}

// body returns the fields whose flags are on the command line.
func (m *metadataFlags) body(f *flags) map[string]any {
	body := map[string]any{}
	if f.given("max-versions") {
		body["max_versions"] = m.maxVersions
	}
	if f.given("cas-required") {
		body["cas_required"] = m.casRequired
	}
	if f.given("delete-version-after") {
		body["delete_version_after"] = m.deleteAfter
	}
	custom := map[string]any{}
	for key, value := range m.custom {
		custom[key] = value
	}
	for _, key := range m.remove {
		custom[key] = nil
	}
	if len(custom) > 0 {
		body["custom_metadata"] = custom
	}
	return body
}

func (m *metadataFlags) send(ctx context.Context, s *session, op string) error {
	path, err := s.connectMetadata(ctx, m.mount)
	if err != nil {
		return err
	}
	return s.change(ctx, call{
		op: op, path: path, body: m.body(s.flags), doing: "writing metadata to " + string(path),
		success: "Success! Data written to: " + string(path),
	})
}

func kvMetadataPut() *command {
	var m metadataFlags
	return &command{
		name: "put", short: "Set a secret's metadata", args: "PATH", min: 1, max: 1,
		long: "Sets the metadata of a secret. Custom fields replace all earlier ones.",
		examples: []example{
			{"Keep five versions and say whose secret it is:",
				"keyturn kv metadata put -max-versions=5 -custom-metadata=owner=payments static/stripe/production"},
		},
		flags: m.declare,
		run:   func(ctx context.Context, s *session) error { return m.send(ctx, s, "update") },
	}
}

func kvMetadataPatch() *command {
	var m metadataFlags
	return &command{
		name: "patch", short: "Change some of a secret's metadata", args: "PATH", min: 1, max: 1,
		long: "Changes the settings that are given and keeps the others, including other custom\nfields.",
		examples: []example{
			{"Change one custom field and take another away:", "keyturn kv metadata patch " +
				"-custom-metadata=owner=billing -remove-custom-metadata=note static/stripe/production"},
		},
		flags: func(f *flags) {
			m.declare(f)
			f.List(&m.remove, "remove-custom-metadata", "key", "a custom field to take away")
		},
		run: func(ctx context.Context, s *session) error { return m.send(ctx, s, "patch") },
	}
}

func kvMetadataDelete() *command {
	var mount string
	return &command{
		name: "delete", short: "Delete a secret with all its versions", args: "PATH", min: 1, max: 1,
		long: "Deletes a secret with its versions and its metadata. This cannot be undone.",
		examples: []example{
			{"Delete a secret for good:", "keyturn kv metadata delete static/stripe/production"},
		},
		flags: func(f *flags) { mountFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			path, err := s.connectMetadata(ctx, mount)
			if err != nil {
				return err
			}
			return s.change(ctx, call{
				op: "delete", path: path, doing: "deleting " + string(path),
				success: "Success! Data deleted (if it existed) at: " + string(path),
			})
		},
	}
}
