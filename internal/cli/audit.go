package cli

import (
	"context"
	"fmt"
	"strings"
)

func auditCommand() *command {
	return &command{
		name: "audit", short: "List, enable and disable audit devices",
		long: "Works with audit devices: where every request and answer is written down.",
		sub:  []*command{auditEnable(), auditDisable(), auditList()},
	}
}

const auditDevices target = "sys/audit"

func auditEnable() *command {
	var path, description string
	var notReplicated bool
	return &command{
		name: "enable", short: "Enable an audit device", args: "TYPE [K=V ...]", min: 1, max: -1,
		long:     "Enables an audit device. From then on, a request that it cannot write down is\nrefused.",
		examples: []example{{"Write to a file:", "keyturn audit enable file file_path=/var/log/keyturn/audit.log"}},
		flags: func(f *flags) {
			f.String(&path, "path", "path", "a name for it; by default its type")
			f.String(&description, "description", "text", "what it is for")
			f.Bool(&notReplicated, "local", "do not replicate it")
		},
		run: runChange(func(s *session) (call, error) {
			options, err := parseData(s.env.Stdin, s.args[1:])
			if err != nil {
				return call{}, err
			}
			kind := s.args[0]
			if path == "" {
				path = kind
			}
			at, err := folder(path)
			return call{
				op: "update", path: auditDevices.below(at), doing: "enabling audit device",
				body: map[string]any{"type": kind, "description": description, "local": notReplicated,
					"options": options},
				success: fmt.Sprintf("Success! Enabled the %s audit device at: %s/", kind, at),
			}, err
		}),
	}
}

func auditDisable() *command {
	return &command{
		name: "disable", short: "Disable an audit device", args: "PATH", min: 1, max: 1,
		long:     "Disables an audit device. What it wrote stays; its values can no longer be\nrecognised.",
		examples: []example{{"Disable the device at file/:", "keyturn audit disable file"}},
		run: runChange(func(s *session) (call, error) {
			at, err := folder(s.args[0])
			return call{
				op: "delete", path: auditDevices.below(at), doing: "disabling audit device",
				success: fmt.Sprintf("Success! Disabled audit device (if it was enabled) at: %s/", at),
			}, err
		}),
	}
}

func auditList() *command {
	var detailed bool
	return &command{
		name: "list", short: "List the audit devices",
		long:     "Lists the audit devices. The exit code is 2 when there are none.",
		examples: []example{{"List them with their options:", "keyturn audit list -detailed"}},
		flags:    func(f *flags) { f.Bool(&detailed, "detailed", "show options, too") },
		run: func(ctx context.Context, s *session) error {
			sec, err := s.send(ctx, call{op: "read", path: auditDevices, doing: "listing audits"})
			if err != nil {
				return err
			}
			if sec == nil || len(sec.Data) == 0 {
				if done, err := s.out.encode(struct{}{}); done && err != nil {
					return err
				}
				return refuse(exitRemote, "No audit devices are enabled.")
			}
			if done, err := s.out.encode(sec.Data); done {
				return err
			}
			return s.out.write(auditTable(sec.Data, detailed))
		},
	}
}

func auditTable(data map[string]any, detailed bool) string {
	header := []string{"Path", "Type", "Description"}
	if detailed {
		header = append(header, "Replication", "Options")
	}
	var rows [][]string
	eachMount(data, func(path string, device map[string]any) {
		row := []string{path, text(device["type"]), text(device["description"])}
		if detailed {
			replication, options := "replicated", ""
			if device["local"] == true {
				replication = "local"
			}
			given, _ := device["options"].(map[string]any)
			for _, key := range sortedKeys(given) {
				options += fmt.Sprintf(" %s=%v", key, given[key])
			}
			row = append(row, replication, strings.TrimSpace(options))
		}
		rows = append(rows, row)
	})
	return table(header, rows)
}
