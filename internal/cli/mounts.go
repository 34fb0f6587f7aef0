package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// A mountKind is what secrets engines and login methods differ in; the commands
// are the same.
type mountKind struct {
	api     target // the endpoint
	prefix  target // of their paths, with a slash at its end, where it is not part of what is typed
	what    string // what one of them is called
	enabled string // what to say when one was enabled, with its type and path
	disable string // what to say when one was disabled, with its path
}

var (
	secretsKind = mountKind{
		api: "sys/mounts", what: "secrets engine",
		enabled: "Success! Enabled the %s secrets engine at: %s/", disable: "Success! Disabled the secrets engine (if it existed) at: %s",
	}
	authKind = mountKind{
		api: "sys/auth", prefix: "auth/", what: "auth method",
		enabled: "Success! Enabled %s auth method at: %s/", disable: "Success! Disabled the auth method (if it existed) at: %s",
	}
)

func secretsCommand() *command {
	return &command{
		name: "secrets", short: "Mount, tune, move and disable secrets engines",
		long: "Works with secrets engines: what answers below a path.",
		sub: []*command{
			enableCommand(secretsKind, []example{
				{"Mount the database engine at database/:", "keyturn secrets enable database"},
				{"Mount the key-value engine with versions at static/:", "keyturn secrets enable -version=2 -path=static kv"},
			}),
			disableCommand(secretsKind, []example{{"Disable the engine at database/:", "keyturn secrets disable database"}}),
			listMountsCommand(secretsKind, []example{{"List the engines:", "keyturn secrets list"}}),
			tuneCommand(secretsKind, []example{{"Set the lease times of a mount:", "keyturn secrets tune -default-lease-ttl=30m -max-lease-ttl=2h database"}}),
			moveCommand(secretsKind, []example{{"Move an engine:", "keyturn secrets move static keys"}}),
		},
	}
}

func authCommand() *command {
	return &command{
		name: "auth", short: "List, enable, tune, move and disable login methods",
		long: "Works with login methods, below auth/.",
		sub: []*command{
			listMountsCommand(authKind, []example{{"List the methods:", "keyturn auth list"}}),
			enableCommand(authKind, []example{{"Enable user names and passwords:", "keyturn auth enable userpass"}}),
			disableCommand(authKind, []example{{"Disable a method:", "keyturn auth disable userpass"}}),
			tuneCommand(authKind, []example{{"Set how long its tokens live:", "keyturn auth tune -default-lease-ttl=1h userpass"}}),
			authHelp(),
			moveCommand(authKind, []example{{"Move a method:", "keyturn auth move userpass people"}}),
		},
	}
}

// disableCommand is "secrets disable" and "auth disable".
func disableCommand(k mountKind, examples []example) *command {
	var force bool
	return &command{
		name: "disable", short: "Disable the " + k.what + " at a path", args: "PATH", min: 1, max: 1,
		long:     "Disables the " + k.what + " at a path. What it stored is deleted, and what it issued is\ntaken back.",
		examples: examples,
		flags: func(f *flags) {
			f.Bool(&force, "force", "disable it although a rotation is under way that nobody will end then")
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
			var query map[string][]string
			if force {
				query = map[string][]string{"force": {"true"}}
			}
			sec, err := client.remove(ctx, k.api.below(path), query)
			if err != nil {
				return remote(err, "disabling %s at %s/", k.what, path)
			}
			return s.out.done(sec, k.disable, path+"/")
		},
	}
}

// mountPoint is a typed mount as sys/remount takes it, where the paths of login
// methods begin with auth/.
func (k mountKind) mountPoint(typed string) (target, error) {
	path, err := folder(typed)
	if err != nil || strings.HasPrefix(string(path)+"/", string(k.prefix)) {
		return path, err
	}
	return k.prefix + path, nil
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
			client.then(ask{"read", "sys/remount/status/+"})
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
			if err := s.out.say("Started moving %s %s/ to %s/, with migration ID %s", k.what, from, to, id); err != nil {
				return err
			}
			if err := waitForMove(ctx, client, id); err != nil {
				return remote(err, "moving %s %s/ to %s/", k.what, from, to)
			}
			return s.out.say("Success! Finished moving %s %s/ to %s/, with migration ID %s", k.what, from, to, id)
		},
	}
}

// waitForMove asks for a migration's state until it ends.
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
		if err := pause(ctx, moveInterval); err != nil {
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
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			sec, err := client.read(ctx, k.api, nil)
			if err != nil {
				return remote(err, "listing each %s", k.what)
			}
			if sec == nil {
				return nothingAt("%s", k.api)
			}
			if done, err := s.out.encode(sec.Data); done {
				return err
			}
			if detailed {
				return s.out.write(detailedMounts(sec.Data))
			}
			return s.out.write(shortMounts(sec.Data))
		},
	}
}

// each yields the mounts of a list in order.
func each(data map[string]any, do func(path string, mount map[string]any)) {
	for _, path := range sortedKeys(data) {
		if mount, ok := data[path].(map[string]any); ok {
			do(path, mount)
		}
	}
}

func shortMounts(data map[string]any) string {
	var rows [][]string
	each(data, func(path string, m map[string]any) {
		rows = append(rows, []string{path, text(m["type"]), text(m["accessor"]), text(m["description"])})
	})
	return table([]string{"Path", "Type", "Accessor", "Description"}, rows)
}

func detailedMounts(data map[string]any) string {
	header := []string{"Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Force No Cache", "Replication", "Seal Wrap",
		"External Entropy Access", "Options", "Description", "UUID", "Version", "Running Version", "Running SHA256", "Deprecation Status"}
	var rows [][]string
	each(data, func(path string, m map[string]any) {
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

// text is a value for a cell; nothing is empty.
func text(v any) string {
	if v == nil {
		return ""
	}
	return cell(v)
}

// ttlText is a mount's lease time; zero is the system's.
func ttlText(v any) string {
	number, ok := v.(json.Number)
	if !ok || number == "0" {
		return "system"
	}
	if seconds, err := number.Int64(); err == nil {
		return human(seconds)
	}
	return number.String()
}

// mountFlags are what enable and tune set.
type mountFlags struct {
	path, description, listing, tokenType        string
	defaultTTL, maxTTL, plugin, pluginVersion    string
	requestKeys, responseKeys, passHeaders, gets []string
	options                                      map[string]string
	version                                      int
	local, sealWrap, noCache, entropy            bool
}

func (m *mountFlags) declare(f *flags) {
	f.String(&m.description, "description", "text", "what it is for")
	f.TTL(&m.defaultTTL, "default-lease-ttl", "how long leases and tokens live that say nothing else")
	f.TTL(&m.maxTTL, "max-lease-ttl", "how long they live at most")
	f.List(&m.requestKeys, "audit-non-hmac-request-keys", "field", "a field of requests that audit shows in the clear")
	f.List(&m.responseKeys, "audit-non-hmac-response-keys", "field", "a field of answers that audit shows in the clear")
	f.String(&m.listing, "listing-visibility", "name", "unauth: show the mount to those who have not logged in; hidden: do not")
	f.List(&m.passHeaders, "passthrough-request-headers", "name", "a request header that the engine may see")
	f.List(&m.gets, "allowed-response-headers", "name", "a response header that the engine may set")
	f.Pairs(&m.options, "options", "an option of the engine")
	f.Int(&m.version, "version", "the engine's version: 1 or 2 for kv")
	f.String(&m.tokenType, "token-type", "name", "what tokens a login method gives: default-service, default-batch, service, batch")
	f.String(&m.pluginVersion, "plugin-version", "version", "the version of the plugin")
}

func (m *mountFlags) declareEnable(f *flags) {
	f.String(&m.path, "path", "path", "where to mount it; by default at its type's name")
	m.declare(f)
	f.Bool(&m.noCache, "force-no-cache", "do not cache what it stores")
	f.Bool(&m.local, "local", "do not replicate it")
	f.Bool(&m.sealWrap, "seal-wrap", "wrap what it stores with the seal, too")
	f.Bool(&m.entropy, "external-entropy-access", "let it use an external source of randomness")
	f.String(&m.plugin, "plugin-name", "name", "the plugin to run; by default the type's")
}

// config is what was given of the tunable part, with the names of the API.
func (m *mountFlags) config(f *flags) map[string]any {
	config := map[string]any{}
	for flag, value := range map[string]any{
		"default-lease-ttl": m.defaultTTL, "max-lease-ttl": m.maxTTL,
		"audit-non-hmac-request-keys": m.requestKeys, "audit-non-hmac-response-keys": m.responseKeys,
		"listing-visibility": m.listing, "passthrough-request-headers": m.passHeaders,
		"allowed-response-headers": m.gets, "token-type": m.tokenType, "plugin-version": m.pluginVersion,
	} {
		if f.given(flag) {
			config[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
	return config
}

// allOptions are the engine's options, version among them.
func (m *mountFlags) allOptions(f *flags) map[string]string {
	options := map[string]string{}
	maps.Copy(options, m.options)
	if f.given("version") {
		options["version"] = fmt.Sprint(m.version)
	}
	return options
}
