package config

import (
	"maps"
	"slices"
	"strings"
)

// An absence is a key that Vault documents and this server does not have.
type absence struct {
	instead string // why, and what to do instead; after a colon
	// harmless keys are accepted with a warning, because everything works as configured without
	// them. Others are an error.
	harmless bool
}

const (
	noClusters   = "clusters are not implemented yet; remove it"
	noPlugins    = "every engine and login method is built in; remove it"
	noNamespaces = "there are no namespaces; remove it"
	noHAStorage  = "clusters are not implemented yet, and one server needs no lock elsewhere; remove it"
	noEnterprise = "it belongs to Vault Enterprise; remove it"
	scrape       = "metrics are not pushed; let Prometheus read /v1/sys/metrics?format=prometheus"
	statsd       = scrape + ", or a statsd exporter that reads it"
)

// absent has these keys, by block. The reference lists them.
var absent = map[string]map[string]absence{
	topBlock: absences(
		ignored(noEnterprise+"; work on expired leases already gives way to requests", "adaptive_overload_protection"),
		refused(noNamespaces, "administrative_namespace_path"),
		ignored("an audit line has no prefix; have the shipper add one", "allow_audit_log_prefixing"),
		ignored("the store's cache is measured in bytes; set cache_bytes of storage \"pebble\"", "cache_size"),
		ignored(noClusters, "cluster_cipher_suites", "disable_clustering"),
		ignored("locks are not watched; remove it", "detect_deadlocks"),
		ignored(noEnterprise,
			"disable_indexing", "disable_performance_standby", "disable_sealwrap", "disable_sentinel_trace",
			"observations", "replication", "reporting", "request_limiter"),
		ignored("names with letters that cannot be printed are refused in paths; remove it",
			"disable_printable_check"),
		refused("there is one seal; remove it", "enable_multiseal"),
		ignored("set log_level = \"debug\" to see what unsealing does",
			"enable_post_unseal_trace", "post_unseal_trace_directory"),
		ignored("it is the old name of ui, and the web interface is not implemented yet; use the command line",
			"enable_ui"),
		refused(noEnterprise+"; random bytes are the operating system's", "entropy"),
		ignored("there are none; remove it", "experiments"),
		refused(noHAStorage, "ha_backend", "ha_storage"),
		refused("it is the old name of seal; write seal \"static\" to unseal without people", "hsm"),
		ignored("there are no quotas by role; remove it", "imprecise_lease_role_tracking"),
		refused(noEnterprise, "kms_library"),
		ignored("no licence is needed; remove it", "license_path"),
		ignored(noPlugins, "plugin_directory", "plugin_file_permissions", "plugin_file_uid", "plugin_tmpdir"),
		refused("it is the old name of api_addr; write that", "redirect_addr"),
		ignored("revoking a lease is retried until it succeeds; use sys/leases/revoke-force to forget a lease",
			"remove_irrevocable_lease_after"),
		refused(noEnterprise+"; use policies", "sentinel"),
		ignored("the server registers itself nowhere; point Consul or Kubernetes at /v1/sys/health",
			"service_registration"),
		ignored("no login method that has passwords is built yet; remove it until there is one", "user_lockout"),
	),
	tcpBlock: absences(append(listenerAbsent,
		refused(noNamespaces, "chroot_namespace"),
		ignored("the login method cert is not implemented yet, so client certificates are not read; remove it",
			"x_forwarded_for_client_cert_header", "x_forwarded_for_client_cert_header_decoders"),
	)...),
	unixBlock: absences(listenerAbsent...),
	telemetryBlock: absences(
		ignored(noNamespaces, "add_lease_metrics_namespace_labels"),
		ignored("there is no rollback to be counted", "add_mount_point_rollback_metrics"),
		ignored(scrape,
			"circonus_api_app", "circonus_api_token", "circonus_api_url", "circonus_broker_id",
			"circonus_broker_select_tag", "circonus_check_display_name", "circonus_check_force_metric_activation",
			"circonus_check_id", "circonus_check_instance_id", "circonus_check_search_tag", "circonus_check_tags",
			"circonus_submission_interval", "circonus_submission_url", "stackdriver_debug_logs",
			"stackdriver_location", "stackdriver_namespace", "stackdriver_project_id"),
		ignored(statsd, "dogstatsd_addr", "dogstatsd_tags", "statsd_address", "statsite_address"),
		ignored("Prometheus labels what it reads with the instance", "enable_hostname_label"),
		ignored("drop series in Prometheus (metric_relabel_configs)", "filter_default", "prefix_filter"),
		ignored("leases are not counted by when they expire; keyturn_expiry_lateness_seconds tells whether expiry "+
			"keeps up",
			"lease_metrics_epsilon", "num_lease_metrics_buckets"),
		ignored("the number of series does not grow with what is stored", "maximum_gauge_cardinality"),
		ignored("the names of series are fixed; rename them in Prometheus (metric_relabel_configs)", "metrics_prefix"),
		refused("it belongs in the telemetry block of a listener", "unauthenticated_metrics_access"),
		ignored("figures are counted as things happen, not by scans from time to time", "usage_gauge_period"),
	),
}

// listenerAbsent are the absent keys of every kind of listener.
var listenerAbsent = []map[string]absence{
	ignored("there is no replication", "disable_replication_status_endpoints"),
	ignored("requests are not limited by the server's load", "disable_request_limiter"),
	ignored("sys/in-flight-req is served to tokens with sudo only; remove it", "inflight_requests_logging"),
	ignored("sys/pprof is served to tokens with sudo only; remove it", "profiling"),
	refused("it belongs to the listener of an agent or proxy", "require_request_header", "role"),
}

// storageKeys are absent keys that Vault's storages share. A driver may have one of them.
var storageKeys = absences(
	refused("it is the old name of api_addr; write that at the top level", "advertise_addr", "redirect_addr"),
	ignored(noClusters, "cluster_addr", "disable_clustering", "node_id", "performance_multiplier"),
	refused(noClusters, "ha_enabled", "retry_join"),
	ignored("set max_request_size of the listener", "max_entry_size"),
	ignored("the store decides what it does at once", "max_parallel"),
)

// sealKeys are absent keys that Vault's seals share.
var sealKeys = absences(
	refused("moving from one seal to another is not implemented yet; remove the stanza, or the key", "disabled"),
	ignored("there is one seal, and it needs no name", "name"),
	ignored("there is one seal", "priority", "purpose"),
)

func ignored(instead string, names ...string) map[string]absence {
	return same(absence{instead: instead, harmless: true}, names)
}

func refused(instead string, names ...string) map[string]absence {
	return same(absence{instead: instead}, names)
}

func same(a absence, names []string) map[string]absence {
	all := map[string]absence{}
	for _, name := range names {
		all[name] = a
	}
	return all
}

func absences(groups ...map[string]absence) map[string]absence {
	all := map[string]absence{}
	for _, g := range groups {
		maps.Copy(all, g)
	}
	return all
}

// absentIn returns the absent keys of a block, which may be that of a driver.
func absentIn(block string) map[string]absence {
	switch kind, _, _ := strings.Cut(block, " "); kind {
	case "storage", "backend":
		return storageKeys
	case "seal":
		return sealKeys
	}
	return absent[block]
}

// storageInstead says what to use instead of a storage that does not exist here.
func storageInstead(name string) string {
	switch {
	case name == "raft":
		return "Keyturn's own store for one server is pebble; clusters come later"
	case name == "file":
		return "Keyturn's own store on a disk is pebble"
	case slices.Contains(vaultStorages, name):
		return "external stores are not implemented yet; use pebble"
	}
	return "use pebble"
}

// vaultStorages are the external storages that Vault documents.
var vaultStorages = []string{
	"aerospike", "alicloudoss", "azure", "cassandra", "cockroachdb", "consul", "couchdb", "datastax", "dynamodb",
	"etcd",
	"foundationdb", "gcs", "manta", "mssql", "mysql", "oci", "postgresql", "s3", "spanner", "swift", "ydb",
	"zookeeper",
}

// vaultSeals are the seals that Vault documents.
var vaultSeals = []string{"alicloudkms", "awskms", "azurekeyvault", "gcpckms", "ocikms", "pkcs11", "transit"}
