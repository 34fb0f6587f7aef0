package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

func readCommand() *command {
	return &command{
		name: "read", short: "Read a secret, credentials or configuration",
		args: "PATH [K=V ...]", min: 1, max: -1, fields: true,
		long: "Reads what is at a path. Reading credentials creates them. Further arguments\nare parameters of the " +
			"request.",
		examples: []example{
			{"Get database credentials:", "keyturn read database/creds/app-readonly"},
			{"Print one field of a secret:", "keyturn read -field=username database/creds/app-readonly"},
			{"Print the answer as it came:", "keyturn read -format=raw sys/health"},
		},
		run: func(ctx context.Context, s *session) error {
			path, client, data, err := s.connectTo()
			if err != nil {
				return err
			}
			if s.out.format == "raw" && s.out.field == "" {
				return printRaw(ctx, s, client, path, query(data))
			}
			sec, err := client.read(ctx, path, query(data))
			if err != nil {
				return kvVersionHint(ctx, s, client, path, "get", remote(err, "reading %s", path))
			}
			if s.out.emptyAnswer(sec) {
				return kvVersionHint(ctx, s, client, path, "get", notFoundAt("%s", path))
			}
			return s.out.show(sec)
		},
	}
}

// printRaw prints the body of an answer unchanged.
func printRaw(ctx context.Context, s *session, client *client, path target, params map[string][]string) error {
	response, err := client.raw(ctx, http.MethodGet, path, params, nil)
	if err != nil {
		return remote(err, "reading %s", path)
	}
	defer response.Body.Close()
	_, err = io.Copy(s.env.Stdout, response.Body)
	return remote(err, "reading %s", path)
}

// connectTo connects, and parses the first argument as a path and the others as fields.
func (s *session) connectTo() (target, *client, map[string]any, error) {
	path, err := exact(s.args[0])
	if err != nil {
		return "", nil, nil, err
	}
	client, data, err := s.connectWithData(s.args[1:])
	return path, client, data, err
}

// connectWithData connects and parses the arguments as fields.
func (s *session) connectWithData(args []string) (*client, map[string]any, error) {
	data, err := parseData(s.env.Stdin, args)
	if err != nil {
		return nil, nil, err
	}
	client, err := s.connect()
	return client, data, err
}

const dataHelp = `
A value is split from its key at the first equal sign. It may come from a file,
key=@file, or from standard input, key=-; a JSON object of all fields may come
from a file, @file, or from standard input, -.`

func writeCommand() *command {
	var force bool
	return &command{
		name: "write", short: "Write configuration, a secret, or call an endpoint",
		args: "PATH [K=V ...]", min: 1, max: -1, fields: true,
		long: "Sends fields to a path.\n" + dataHelp,
		examples: []example{
			{"Define a role:",
				"keyturn write database/roles/app-readonly db_name=production default_ttl=30m max_ttl=2h"},
			{"Take a value from a file:", "keyturn write aws/config/root access_key=AKIA… secret_key=@secret.txt"},
			{"Call an endpoint that takes no data:", "keyturn write -f sys/leases/tidy"},
		},
		flags: func(f *flags) {
			f.Bool(&force, "force", "send the request without any data; short: -f")
			f.Alias("f", "force")
		},
		run: func(ctx context.Context, s *session) error {
			if len(s.args) == 1 && !force {
				return hinted(usagef("there is no data to write to %s", s.args[0]),
					"give key=value, or -force to write without data.")
			}
			path, client, data, err := s.connectTo()
			if err != nil {
				return err
			}
			sec, err := client.write(ctx, path, data)
			if err != nil {
				return kvVersionHint(ctx, s, client, path, "put", remote(err, "writing data to %s", path))
			}
			return s.out.done(sec, "Success! Data written to: %s", path)
		},
	}
}

func patchCommand() *command {
	var force bool
	return &command{
		name: "patch", short: "Change some fields of what is at a path",
		args: "PATH K=V ...", min: 1, max: -1, fields: true,
		long: "Sends fields to a path as a merge patch (RFC 7396): other fields stay.\n" + dataHelp,
		examples: []example{{"Change one field of a key's schedule:",
			"keyturn patch rotation/keys/stripe rotation_period=720h"}},
		flags: func(f *flags) {
			f.Bool(&force, "force", "send the request without any data; short: -f")
			f.Alias("f", "force")
		},
		run: func(ctx context.Context, s *session) error {
			if len(s.args) == 1 && !force {
				return usagef("there is no data to patch %s with", s.args[0])
			}
			path, _, data, err := s.connectTo()
			if err != nil {
				return err
			}
			return s.change(ctx, call{
				op: "patch", path: path, body: data, doing: "patching " + string(path),
				success: "Success! Data written to: " + string(path),
			})
		},
	}
}

func deleteCommand() *command {
	return &command{
		name: "delete", short: "Delete a secret or configuration",
		args: "PATH [K=V ...]", min: 1, max: -1, fields: true,
		long: "Deletes what is at a path. The effect depends on the engine.",
		examples: []example{
			{"Delete a role:", "keyturn delete database/roles/app-readonly"},
		},
		run: func(ctx context.Context, s *session) error {
			path, client, data, err := s.connectTo()
			if err != nil {
				return err
			}
			sec, err := client.remove(ctx, path, query(data))
			if err != nil {
				return kvVersionHint(ctx, s, client, path, "delete", remote(err, "deleting %s", path))
			}
			return s.out.done(sec, "Success! Data deleted (if it existed) at: %s", path)
		},
	}
}

func listCommand() *command {
	var detailed bool
	return &command{
		name: "list", short: "List the names under a path", args: "PATH", min: 1, max: 1,
		long: "Lists the names under a path. A name that ends in a slash has more below it.",
		examples: []example{
			{"List roles:", "keyturn list database/roles"},
			{"List the leases of a role's credentials:", "keyturn list sys/leases/lookup/database/creds/app-readonly"},
		},
		flags: func(f *flags) { detailedFlag(f, &detailed) },
		run: func(ctx context.Context, s *session) error {
			path, err := folder(s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			return s.list(ctx, client, path, detailed)
		},
	}
}

// list prints the names under a path. If there are none, it fails as Vault does and, in another
// format than a table, prints an empty object.
func (s *session) list(ctx context.Context, client *client, path target, detailed bool) error {
	sec, err := client.list(ctx, path)
	if err != nil {
		return kvVersionHint(ctx, s, client, path, "list", remote(err, "listing %s", path))
	}
	if sec != nil && sec.WrapInfo != nil {
		return s.out.show(sec)
	}
	keys := keysOf(sec)
	if len(keys) == 0 {
		s.out.emptyAnswer(sec)
		if done, err := s.out.encode(struct{}{}); done && err != nil {
			return err
		}
		return kvVersionHint(ctx, s, client, path, "list", notFoundAt("%s", path))
	}
	s.out.warn(sec.Warnings)
	info, _ := sec.Data["key_info"].(map[string]any)
	var shown any = keys
	if detailed {
		shown = sec.Data
	}
	if done, err := s.out.encode(shown); done {
		return err
	}
	if detailed && len(info) > 0 {
		return s.out.write(infoTable(keys, info))
	}
	return s.out.write(keyTable(keys))
}

func keysOf(sec *api.Secret) []string {
	if sec == nil {
		return nil
	}
	list, _ := sec.Data["keys"].([]any)
	keys := make([]string, len(list))
	for i, key := range list {
		keys[i] = fmt.Sprint(key)
	}
	return keys
}

func keyTable(keys []string) string {
	rows := make([][]string, len(keys))
	for i, key := range keys {
		rows[i] = []string{key}
	}
	return table([]string{"Keys"}, rows)
}

// detailedFlag declares -detailed for lists of names.
func detailedFlag(f *flags, detailed *bool) {
	f.Bool(detailed, "detailed", "also show the details that the server has of each name")
}

// infoTable is a table of names with the details of each.
func infoTable(keys []string, info map[string]any) string {
	column := map[string]int{}
	header := []string{"Keys"}
	for _, key := range keys {
		fields, _ := info[key].(map[string]any)
		for _, name := range sortedKeys(fields) {
			if _, seen := column[name]; !seen {
				column[name] = len(header)
				header = append(header, name)
			}
		}
	}
	rows := make([][]string, len(keys))
	for i, key := range keys {
		rows[i] = make([]string, len(header))
		rows[i][0] = key
		fields, _ := info[key].(map[string]any)
		for name, value := range fields {
			rows[i][column[name]] = text(value)
		}
	}
	return table(header, rows)
}

func unwrapCommand() *command {
	return &command{
		name: "unwrap", short: "Open a wrapped answer", args: "[TOKEN]", max: 1, fields: true,
		long: "Prints the answer that a wrapping token stands for. The token works once.\nWithout an argument, the " +
			"session's own token is taken for a wrapping token.",
		examples: []example{
			{"Open an answer that was wrapped with -wrap-ttl:", "keyturn unwrap hvs.CAESIJ…"},
		},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			sec, err := client.api.Logical().UnwrapWithContext(ctx, first(s.args))
			if err != nil {
				return remote(err, "unwrapping")
			}
			if sec == nil {
				return refuse(exitRemote, "Could not find wrapped response")
			}
			return s.out.show(sec)
		},
	}
}

func pathHelpCommand() *command {
	return &command{
		name: "path-help", short: "Show what a path takes", args: "PATH", min: 1, max: 1,
		long: "Asks the server what a path is for and which fields it takes.",
		examples: []example{
			{"See what an engine serves:", "keyturn path-help database"},
			{"See what one path takes:", "keyturn path-help database/roles/app-readonly"},
		},
		run: func(ctx context.Context, s *session) error {
			path, err := folder(s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			help, err := client.help(ctx, path)
			if err != nil {
				return remote(err, "retrieving help for %s", path)
			}
			if done, err := s.out.encode(help); done {
				return err
			}
			return s.out.write(strings.TrimRight(help.Help, "\n") + "\n")
		},
	}
}
