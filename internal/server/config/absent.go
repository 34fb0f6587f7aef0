package config

import "slices"

// An absence is a key that Vault documents and this server does not have.
type absence struct {
	instead string // why, and what to do instead; after a colon
	// harmless keys are accepted with a warning, because everything works as configured without
	// them. Others are an error.
	harmless bool
}

const (
	noClusters   = "clusters are not implemented yet; take it out"
	noPlugins    = "every engine and login method is built in; take it out"
	noNamespaces = "there are no namespaces; take it out"
	noHAStorage  = "clusters are not implemented yet, and one server needs no lock elsewhere; take it out"
	noEnterprise = "it belongs to Vault Enterprise; take it out"
	scrape       = "metrics are not pushed; let Prometheus read /v1/sys/metrics?format=prometheus"
	statsd       = scrape + ", or a statsd exporter that reads it"
	cardinality  = "the number of series does not grow with what is stored"
)

// absent are such keys, by block. The reference lists them.
var absent = map[string]map[string]absence{
	topBlock: {
		"adaptive_overload_protection": {noEnterprise + "; work on expired leases already gives way to requests",
			true},
		"administrative_namespace_path": {noNamespaces, false},
		"allow_audit_log_prefixing":     {"an audit line has no prefix; have the shipper add one", true},
		"cache_size": {"the store's cache is measured in bytes; set cache_bytes of storage \"pebble\"",
			true},
		"cluster_cipher_suites":       {noClusters, true},
		"detect_deadlocks":            {"locks are not watched; take it out", true},
		"disable_clustering":          {noClusters, true},
		"disable_indexing":            {noEnterprise, true},
		"disable_performance_standby": {noEnterprise, true},
		"disable_printable_check": {"names with letters that cannot be printed are refused in paths; take it out",
			true},
		"disable_sealwrap":         {noEnterprise, true},
		"disable_sentinel_trace":   {noEnterprise, true},
		"enable_multiseal":         {"there is one seal; take it out", false},
		"enable_post_unseal_trace": {"set log_level = \"debug\" to see what unsealing does", true},
		"enable_ui": {"it is the old name of ui, and the web interface is not implemented yet; use the command line",
			true},
		"entropy":     {noEnterprise + "; random bytes are the operating system's", false},
		"experiments": {"there are none; take it out", true},
		"ha_backend":  {noHAStorage, false},
		"ha_storage":  {noHAStorage, false},
		"hsm": {"it is the old name of seal; write seal \"static\" to unseal without people",
			false},
		"imprecise_lease_role_tracking": {"there are no quotas by role; take it out", true},
		"kms_library":                   {noEnterprise, false},
		"license_path":                  {"no licence is needed; take it out", true},
		"observations":                  {noEnterprise, true},
		"plugin_directory":              {noPlugins, true},
		"plugin_file_permissions":       {noPlugins, true},
		"plugin_file_uid":               {noPlugins, true},
		"plugin_tmpdir":                 {noPlugins, true},
		"post_unseal_trace_directory":   {"set log_level = \"debug\" to see what unsealing does", true},
		"redirect_addr":                 {"it is the old name of api_addr; write that", false},
		"remove_irrevocable_lease_after": {"revoking a lease is retried until it succeeds; use sys/leases/revoke-force to forget a lease",
			true},
		"replication":     {noEnterprise, true},
		"reporting":       {noEnterprise, true},
		"request_limiter": {noEnterprise, true},
		"sentinel":        {noEnterprise + "; use policies", false},
		"service_registration": {"the server registers itself nowhere; point Consul or Kubernetes at /v1/sys/health",
			true},
		"user_lockout": {"no login method that has passwords is built yet; take it out until there is one",
			true},
	},
	tcpBlock: merge(listenerAbsent, map[string]absence{
		"chroot_namespace": {noNamespaces, false},
		"x_forwarded_for_client_cert_header": {"the login method cert is not implemented yet, so client certificates are not read; take it out",
			true},
		"x_forwarded_for_client_cert_header_decoders": {"the login method cert is not implemented yet, so client certificates are not read; take it out",
			true},
	}),
	unixBlock: listenerAbsent,
	telemetryBlock: {
		"add_lease_metrics_namespace_labels": {noNamespaces, true},
		"add_mount_point_rollback_metrics":   {"there is no rollback to be counted", true},
		"circonus_api_app":                   {scrape, true}, "circonus_api_token": {scrape, true},
		"circonus_api_url":   {scrape, true},
		"circonus_broker_id": {scrape, true}, "circonus_broker_select_tag": {scrape, true},
		"circonus_check_display_name":            {scrape, true},
		"circonus_check_force_metric_activation": {scrape, true}, "circonus_check_id": {scrape, true},
		"circonus_check_instance_id": {scrape, true},
		"circonus_check_search_tag":  {scrape, true}, "circonus_check_tags": {scrape, true},
		"circonus_submission_interval": {scrape, true},
		"circonus_submission_url":      {scrape, true}, "dogstatsd_addr": {statsd, true},
		"dogstatsd_tags":        {statsd, true},
		"enable_hostname_label": {"Prometheus labels what it reads with the instance", true},
		"filter_default":        {"drop series in Prometheus (metric_relabel_configs)", true},
		"lease_metrics_epsilon": {"leases are not counted by when they expire; keyturn_expiry_lateness_seconds tells whether expiry keeps up",
			true},
		"maximum_gauge_cardinality": {cardinality, true},
		"metrics_prefix": {"the names of series are fixed; rename them in Prometheus (metric_relabel_configs)",
			true},
		"num_lease_metrics_buckets": {"leases are not counted by when they expire; keyturn_expiry_lateness_seconds tells whether expiry keeps up",
			true},
		"prefix_filter":          {"drop series in Prometheus (metric_relabel_configs)", true},
		"stackdriver_debug_logs": {scrape, true}, "stackdriver_location": {scrape, true},
		"stackdriver_namespace":  {scrape, true},
		"stackdriver_project_id": {scrape, true}, "statsd_address": {statsd, true}, "statsite_address": {statsd, true},
		"unauthenticated_metrics_access": {"it belongs in the telemetry block of a listener", false},
		"usage_gauge_period": {"figures are counted as things happen, not by scans from time to time",
			true},
	},
}

// listenerAbsent are those of every kind of listener.
var listenerAbsent = map[string]absence{
	"disable_replication_status_endpoints": {"there is no replication", true},
	"disable_request_limiter":              {"requests are not limited by the server's load", true},
	"inflight_requests_logging": {"sys/in-flight-req is served to tokens with sudo only; take it out",
		true},
	"profiling":              {"sys/pprof is served to tokens with sudo only; take it out", true},
	"require_request_header": {"it belongs to the listener of an agent or proxy", false},
	"role":                   {"it belongs to the listener of an agent or proxy", false},
}

func merge(a, b map[string]absence) map[string]absence {
	all := map[string]absence{}
	for _, m := range []map[string]absence{a, b} {
		for name, value := range m {
			all[name] = value
		}
	}
	return all
}

// storageInstead says what to use in place of Vault's storages that are not here.
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

// storageKeys are keys that Vault's storages share; a driver that does not take
// them says what to do instead.
var storageKeys = map[string]absence{
	"advertise_addr":         {"it is the old name of api_addr; write that at the top level", false},
	"cluster_addr":           {noClusters, true},
	"disable_clustering":     {noClusters, true},
	"ha_enabled":             {noClusters, false},
	"max_entry_size":         {"set max_request_size of the listener", true},
	"max_parallel":           {"the store decides what it does at once", true},
	"node_id":                {noClusters, true},
	"performance_multiplier": {noClusters, true},
	"redirect_addr":          {"it is the old name of api_addr; write that at the top level", false},
	"retry_join":             {noClusters, false},
}

// sealKeys are keys that Vault's seals share.
var sealKeys = map[string]absence{
	"disabled": {"moving from one seal to another is not implemented yet; take the stanza out, or the key", false},
	"name":     {"there is one seal, and it needs no name", true},
	"priority": {"there is one seal", true},
	"purpose":  {"there is one seal", true},
}
