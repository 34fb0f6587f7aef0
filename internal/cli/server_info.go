package cli

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/api"
)

func operatorKeyStatus() *command {
	return &command{
		name: "key-status", short: "Show the data key in use", fields: true,
		long: "Shows which data key is in use, since when, and how many blocks it has encrypted.\nThe server " +
			"makes a new one in time; operator rotate makes one now.",
		examples: []example{{"Show the data key:", "keyturn operator key-status"}},
		run: runRead(call{op: "read", path: "sys/key-status", doing: "reading the state of the data key"},
			func(s *session, sec *api.Secret) error {
				if s.out.field != "" || s.out.format != "table" {
					return s.out.show(sec)
				}
				return s.out.write(columns([][]string{
					{"Key Term", text(sec.Data["term"])},
					{"Install Time", text(sec.Data["install_time"])},
					{"Encryption Count", text(sec.Data["encryptions"])},
				}))
			}),
	}
}

func operatorMembers() *command {
	return &command{
		name: "members", short: "List the servers of the cluster",
		long:     "Lists the servers of the cluster, and which of them is active.",
		examples: []example{{"List the servers:", "keyturn operator members"}},
		run: runRead(call{op: "read", path: "sys/ha-status", doing: "reading the state of the cluster"},
			func(s *session, sec *api.Secret) error {
				if done, err := s.out.encode(sec.Data); done {
					return err
				}
				nodes, _ := sec.Data["nodes"].([]any)
				var rows [][]string
				for _, item := range nodes {
					n, _ := item.(map[string]any)
					rows = append(rows, []string{
						text(n["hostname"]), text(n["api_address"]), text(n["cluster_address"]),
						text(n["active_node"]), text(n["version"]), text(n["last_echo"]),
					})
				}
				return s.out.write(
					table([]string{"Host Name", "API Address", "Cluster Address", "Active Node", "Version",
						"Last Echo"}, rows))
			}),
	}
}

func versionHistoryCommand() *command {
	return &command{
		name: "version-history", short: "List the versions that the server has had",
		long:     "Lists the versions that the server has had, the oldest first, and since when.",
		examples: []example{{"List the versions:", "keyturn version-history"}},
		run: runRead(call{op: "list", path: "sys/version-history", doing: "listing versions"},
			func(s *session, sec *api.Secret) error {
				if done, err := s.out.encode(sec.Data); done {
					return err
				}
				info, _ := sec.Data["key_info"].(map[string]any)
				var rows [][]string
				for _, version := range keysOf(sec) {
					one, _ := info[version].(map[string]any)
					rows = append(rows,
						[]string{version, toSecond(one["timestamp_installed"]), toSecond(one["build_date"])})
				}
				return s.out.write(table([]string{"Version", "Installation Time", "Build Date"}, rows))
			}),
	}
}

func pluginCommand() *command {
	return &command{
		name: "plugin", short: "List what is built into the server",
		long: "Shows the auth methods, databases and secrets engines that the server has. All of\nthem are built in.",
		sub:  []*command{pluginList(), pluginInfo()},
	}
}

func pluginList() *command {
	var detailed bool
	return &command{
		name: "list", short: "List the auth methods, databases and secrets engines", args: "[TYPE]", max: 1,
		long:     "Lists everything that is built in, or one type: auth, database or secret.",
		examples: []example{{"List the kinds of database:", "keyturn plugin list database"}},
		flags:    func(f *flags) { f.Bool(&detailed, "detailed", "show whether it is supported, too") },
		run: runRead(call{op: "read", path: catalog, doing: "listing plugins"},
			func(s *session, sec *api.Secret) error {
				all, _ := sec.Data["detailed"].([]any)
				var shown []any
				rows, header := [][]string{}, []string{"Name", "Type", "Version"}
				if detailed {
					header = append(header, "Deprecation Status")
				}
				for _, item := range all {
					p, _ := item.(map[string]any)
					if kind := first(s.args); kind != "" && text(p["type"]) != kind {
						continue
					}
					shown = append(shown, p)
					row := []string{text(p["name"]), text(p["type"]), text(p["version"])}
					if detailed {
						row = append(row, text(p["deprecation_status"]))
					}
					rows = append(rows, row)
				}
				if len(shown) == 0 {
					return usagef("there are no plugins of type %q; the types are auth, database and secret",
						first(s.args))
				}
				if done, err := s.out.encode(shown); done {
					return err
				}
				return s.out.write(table(header, rows))
			}),
	}
}

func pluginInfo() *command {
	var version string
	return &command{
		name: "info", short: "Show one auth method, database or secrets engine",
		args: "TYPE NAME", min: 2, max: 2, fields: true,
		long:     "Shows an auth method, database or secrets engine of the server.",
		examples: []example{{"Show a kind of database:", "keyturn plugin info database postgresql-database-plugin"}},
		flags: func(f *flags) {
			f.String(&version, "version", "version", "its version, where the server has several")
		},
		run: func(ctx context.Context, s *session) error {
			path, err := catalog.child(s.args[0])
			if err == nil {
				path, err = path.child(s.args[1])
			}
			if err != nil {
				return err
			}
			params := map[string][]string{}
			if version != "" {
				params["version"] = []string{version}
			}
			doing := fmt.Sprintf("reading plugin %s of type %s", s.args[1], s.args[0])
			sec, err := s.send(ctx, call{op: "read", path: path, params: params, doing: doing})
			if err != nil {
				return err
			}
			if sec == nil {
				return refuse(exitRemote, "No plugin %s of type %s", s.args[1], s.args[0])
			}
			return s.out.show(sec)
		},
	}
}

const catalog target = "sys/plugins/catalog"
