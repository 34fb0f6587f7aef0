package cli

import "encoding/json"

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

// mountFlags are what enable and tune set.
type mountFlags struct {
	path, description, listing, tokenType        string
	defaultTTL, maxTTL, plugin, pluginVersion    string
	requestKeys, responseKeys, passHeaders, gets []string
	options                                      map[string]string
	version                                      int
	local, sealWrap, noCache, entropy            bool
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
