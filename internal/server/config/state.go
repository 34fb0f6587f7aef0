package config

import (
	"encoding/json"
	"time"
)

// An object of JSON.
type object = map[string]any

// Sanitized returns the configuration as a JSON object in Vault's format, for
// sys/config/state/sanitized. It omits the parameters of storage and seal, because they may be
// secret. Features that only Vault has appear as disabled.
func (c *Server) Sanitized() ([]byte, error) {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	state := object{
		"cache_size": 0, "cluster_addr": "", "cluster_cipher_suites": "", "disable_clustering": true,
		"disable_indexing": false,
		"disable_mlock":    true, "disable_performance_standby": false, "disable_printable_check": false,
		"disable_sealwrap": false,
		"enable_ui":        false, "plugin_directory": "", "default_max_request_duration": 0, "log_requests_level": "",

		"api_addr": c.APIAddr, "cluster_name": c.ClusterName, "pid_file": c.PIDFile,
		"default_lease_ttl": seconds(c.DefaultLeaseTTL), "max_lease_ttl": seconds(c.MaxLeaseTTL),
		"disable_cache": c.DisableCache, "enable_response_header_hostname": c.ShowHostname,
		"introspection_endpoint": c.Introspection, "raw_storage_endpoint": c.RawStorage,
		"log_file": c.Log.File, "log_format": c.Log.Format, "log_level": LevelName(c.Log.Level),
		"storage": object{
			"type": c.Storage.Name, "redirect_addr": c.APIAddr, "cluster_addr": "", "disable_clustering": true,
		},
	}
	if c.Says("default_max_request_duration") {
		state["default_max_request_duration"] = seconds(c.MaxRequestTime)
	}
	if c.Log.Requests != nil {
		state["log_requests_level"] = LevelName(*c.Log.Requests)
	}
	seal := c.Seal.Name
	if seal == "" {
		seal = "shamir"
	}
	state["seals"] = []object{{"type": seal, "disabled": false}}
	listeners := []object{}
	for _, l := range c.Listeners {
		members := object{"address": l.Address}
		for name, value := range l.given {
			members[name] = value
		}
		listeners = append(listeners, object{"type": l.Kind, "config": members})
	}
	state["listeners"] = listeners
	return json.Marshal(state)
}
