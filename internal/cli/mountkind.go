package cli

import "encoding/json"

// A mountKind is the difference between secrets engines and login methods, which share their
// commands.
type mountKind struct {
	api      target // the endpoint
	prefix   target // in front of the paths in the API, but not of typed paths
	what     string // its name in texts
	enabled  string // what enable prints, with type and path
	disabled string // what disable prints, with the path
}

var (
	secretsKind = mountKind{
		api: "sys/mounts", what: "secrets engine",
		enabled:  "Success! Enabled the %s secrets engine at: %s/",
		disabled: "Success! Disabled the secrets engine (if it existed) at: %s",
	}
	authKind = mountKind{
		api: "sys/auth", prefix: "auth/", what: "auth method",
		enabled:  "Success! Enabled %s auth method at: %s/",
		disabled: "Success! Disabled the auth method (if it existed) at: %s",
	}
)

// mountFlags are the settings of enable and tune.
type mountFlags struct {
	path, description, listing, tokenType                   string
	defaultTTL, maxTTL, plugin, pluginVersion               string
	requestKeys, responseKeys, passHeaders, responseHeaders []string
	options                                                 map[string]string
	version                                                 int
	local, sealWrap, noCache, entropy                       bool
}

// text returns a value for a cell; nil is empty.
func text(v any) string {
	if v == nil {
		return ""
	}
	return cell(v)
}

// ttlText returns the lease time of a mount; zero means the default of the system.
func ttlText(v any) string {
	number, ok := v.(json.Number)
	if !ok || number == "0" {
		return "system"
	}
	if seconds, err := number.Int64(); err == nil {
		return humanDuration(seconds)
	}
	return number.String()
}
