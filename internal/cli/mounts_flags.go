package cli

import (
	"fmt"
	"maps"
	"strings"
)

// mountPoint returns a typed mount for sys/remount, where the paths of login methods begin with
// auth/.
func (k mountKind) mountPoint(typed string) (target, error) {
	path, err := folder(typed)
	if err != nil || strings.HasPrefix(string(path)+"/", string(k.prefix)) {
		return path, err
	}
	return k.prefix + path, nil
}

func (m *mountFlags) declare(f *flags) {
	f.String(&m.description, "description", "text", "what it is for")
	f.TTL(&m.defaultTTL, "default-lease-ttl", "how long leases and tokens live that say nothing else")
	f.TTL(&m.maxTTL, "max-lease-ttl", "how long they live at most")
	f.List(&m.requestKeys, "audit-non-hmac-request-keys", "field", "a field of requests that audit shows in the clear")
	f.List(&m.responseKeys, "audit-non-hmac-response-keys", "field",
		"a field of answers that audit shows in the clear")
	f.String(&m.listing, "listing-visibility", "name",
		"unauth: show the mount to those who have not logged in; hidden: do not")
	f.List(&m.passHeaders, "passthrough-request-headers", "name", "a request header that the engine may see")
	f.List(&m.responseHeaders, "allowed-response-headers", "name", "a response header that the engine may set")
	f.Pairs(&m.options, "options", "an option of the engine")
	f.Int(&m.version, "version", "the engine's version: 1 or 2 for kv")
	f.String(&m.tokenType, "token-type", "name",
		"what tokens a login method gives: default-service, default-batch, service, batch")
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

// config returns the tunable settings that are on the command line, with their names in the API.
func (m *mountFlags) config(f *flags) map[string]any {
	config := map[string]any{}
	for flag, value := range map[string]any{
		"default-lease-ttl": m.defaultTTL, "max-lease-ttl": m.maxTTL,
		"audit-non-hmac-request-keys": m.requestKeys, "audit-non-hmac-response-keys": m.responseKeys,
		"listing-visibility": m.listing, "passthrough-request-headers": m.passHeaders,
		"allowed-response-headers": m.responseHeaders, "token-type": m.tokenType, "plugin-version": m.pluginVersion,
	} {
		if f.given(flag) {
			config[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
	return config
}

// allOptions returns the options of the engine, including its version.
func (m *mountFlags) allOptions(f *flags) map[string]string {
	options := map[string]string{}
	maps.Copy(options, m.options)
	if f.given("version") {
		options["version"] = fmt.Sprint(m.version)
	}
	return options
}
