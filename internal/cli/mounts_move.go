package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
)

// disableCommand is "secrets disable" and "auth disable".
func disableCommand(k mountKind, examples []example) *command {
	var force bool
	return &command{
		name: "disable", short: "Disable the " + k.what + " at a path", args: "PATH", min: 1, max: 1,
		long: "Disables the " + k.what +
			" at a path. What it stored is deleted, and what it issued is\ntaken back.",
		examples: examples,
		flags: func(f *flags) {
			f.Bool(&force, "force", "disable it even while a rotation is in flight, which then never finishes")
		},
		run: runChange(func(s *session) (call, error) {
			path, err := folder(s.args[0])
			c := call{
				op: "delete", path: k.api.below(path), doing: fmt.Sprintf("disabling %s at %s/", k.what, path),
				success: fmt.Sprintf(k.disabled, path+"/"),
			}
			if force {
				c.params = map[string][]string{"force": {"true"}}
			}
			return c, err
		}),
	}
}

// moveCommand is "secrets move" and "auth move".
func moveCommand(k mountKind, examples []example) *command {
	return &command{
		name: "move", short: "Move the " + k.what + " at a path to another path", args: "FROM TO", min: 2, max: 2,
		long:     "Moves the " + k.what + " at a path to another path. The leases that it issued are revoked.",
		examples: examples,
		run: func(ctx context.Context, s *session) error {
			from, err := k.mountPoint(s.args[0])
			if err != nil {
				return err
			}
			to, err := k.mountPoint(s.args[1])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			client.announce(access{op: "read", path: "sys/remount/status/+"})
			sec, err := client.write(ctx, "sys/remount", map[string]any{"from": string(from), "to": string(to)})
			if err != nil {
				return remote(err, "moving %s %s/ to %s/", k.what, from, to)
			}
			id := ""
			if sec != nil {
				id, _ = sec.Data["migration_id"].(string)
			}
			if id == "" { // a server that answers when it is done
				return s.out.done(sec, "Success! Moved %s %s/ to: %s/", k.what, from, to)
			}
			if err := s.out.say("Started moving %s %s/ to %s/, with migration ID %s", k.what, from, to,
				id); err != nil {
				return err
			}
			if err := waitForMove(ctx, client, id); err != nil {
				return remote(err, "moving %s %s/ to %s/", k.what, from, to)
			}
			return s.out.say("Success! Finished moving %s %s/ to %s/, with migration ID %s", k.what, from, to, id)
		},
	}
}

// waitForMove reads the state of a migration until it has ended.
func waitForMove(ctx context.Context, client *client, id string) error {
	for {
		status, err := client.api.Sys().RemountStatusWithContext(ctx, id)
		if err != nil {
			return err
		}
		switch state := status.MigrationInfo.MigrationStatus; state {
		case "success":
			return nil
		case "failure":
			return fmt.Errorf("the server gave up; its log says why, under migration ID %s", id)
		}
		if err := sleep(ctx, moveInterval); err != nil {
			return err
		}
	}
}

// listMountsCommand is "secrets list" and "auth list".
func listMountsCommand(k mountKind, examples []example) *command {
	var detailed bool
	return &command{
		name: "list", short: "List each " + k.what,
		long:     "Lists each " + k.what + " with its path.",
		examples: examples,
		flags: func(f *flags) {
			f.Bool(&detailed, "detailed", "show lease times, options and versions, too")
		},
		run: runRead(call{op: "read", path: k.api, doing: "listing each " + k.what},
			func(s *session, sec *api.Secret) error {
				if done, err := s.out.encode(sec.Data); done {
					return err
				}
				if detailed {
					return s.out.write(detailedMounts(sec.Data))
				}
				return s.out.write(shortMounts(sec.Data))
			}),
	}
}

// eachMount calls do with each mount of a list, in the order of the paths.
func eachMount(data map[string]any, do func(path string, mount map[string]any)) {
	for _, path := range sortedKeys(data) {
		if mount, ok := data[path].(map[string]any); ok {
			do(path, mount)
		}
	}
}

func shortMounts(data map[string]any) string {
	var rows [][]string
	eachMount(data, func(path string, m map[string]any) {
		rows = append(rows, []string{path, text(m["type"]), text(m["accessor"]), text(m["description"])})
	})
	return table([]string{"Path", "Type", "Accessor", "Description"}, rows)
}

func detailedMounts(data map[string]any) string {
	header := []string{"Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Force No Cache", "Replication",
		"Seal Wrap",
		"External Entropy Access", "Options", "Description", "UUID", "Version", "Running Version", "Running SHA256",
		"Deprecation Status"}
	var rows [][]string
	eachMount(data, func(path string, m map[string]any) {
		config, _ := m["config"].(map[string]any)
		replication := "replicated"
		if m["local"] == true {
			replication = "local"
		}
		options, _ := m["options"].(map[string]any)
		rows = append(rows, []string{path, text(m["type"]), text(m["accessor"]),
			ttlText(config["default_lease_ttl"]), ttlText(config["max_lease_ttl"]), text(config["force_no_cache"]),
			replication, text(m["seal_wrap"]), text(m["external_entropy_access"]), fmt.Sprint(options),
			text(m["description"]), text(m["uuid"]), text(m["plugin_version"]), text(m["running_plugin_version"]),
			text(m["running_sha256"]), text(m["deprecation_status"])})
	})
	return table(header, rows)
}

// moveInterval is the time between two requests for the state of a move: short for a person who
// waits, long enough not to load the server.
const moveInterval = 200 * time.Millisecond

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
