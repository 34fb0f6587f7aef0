api_addr          = "https://keyturn.example.org:8200"
cluster_addr      = "https://keyturn.example.org:8201"
cluster_name      = "payments"
default_lease_ttl = "1h"
max_lease_ttl     = 86400
pid_file          = "/run/keyturn.pid"
outbound_allow    = ["127.0.0.1", "10.1.2.0/16"]
audit_folders     = ["/var/log/keyturn/", "/data/audit"]
rotation_metrics_limit = 200
disable_cache     = true

connection_folders = ["/etc/keyturn/tls"]

disable_mlock     = true
plugin_directory  = "/opt/vault/plugins"
ui                = true

default_max_request_duration         = "45s"
enable_response_header_hostname      = true
enable_response_header_raft_node_id  = true

log_level            = "warn"
log_format           = "json"
log_requests_level   = "debug"
log_file             = "/var/log/keyturn.log"
log_rotate_bytes     = "1048576"
log_rotate_duration  = "1h"
log_rotate_max_files = 3

listener "tcp" {
  address                  = "0.0.0.0:8200"
  tls_disable              = "true"
  max_request_size         = 1048576
  max_request_duration     = "30s"
  http_idle_timeout        = "1m"
  http_read_header_timeout = "5s"
  http_read_timeout        = "20s"

  max_json_depth               = 10
  max_json_string_value_length = 1000
  max_json_object_entry_count  = "20"
  max_json_array_element_count = 30
  max_json_token               = 400

  redact_addresses    = true
  redact_cluster_name = "true"
  redact_version      = 1

  proxy_protocol_behavior         = "allow_authorized"
  proxy_protocol_authorized_addrs = ["10.0.0.0/8", "fd00::/8"]

  x_forwarded_for_authorized_addrs      = "10.0.0.0/8, 192.168.1.1"
  x_forwarded_for_hop_skips             = "1"
  x_forwarded_for_reject_not_authorized = false
  x_forwarded_for_reject_not_present    = "false"

  custom_response_headers {
    "default" = {
      "Strict-Transport-Security" = ["max-age=31536000", "includeSubDomains"],
      "x-custom"                  = ["a"],
      "X-Vault-Own"               = ["no"],
    },
    "2xx" = { "X-Custom" = ["b"] },
    "307" = { "X-Custom" = "c" },
  }
  telemetry {
    unauthenticated_metrics_access = true
  }
}

listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = 1
}

listener "unix" {
  address           = "/run/keyturn.sock"
  socket_mode       = 0660
  socket_user       = 1000
  socket_group      = "keyturn"
  http_idle_timeout = 0
  http_read_timeout = "0s"
  http_write_timeout = "0"
}

storage "pebble" {
  path = "/var/lib/keyturn"
}

seal "static" {
  current_key = "file:///etc/keyturn/key"
}

telemetry {
  statsd_address            = "127.0.0.1:8125"
  disable_hostname          = true
  prometheus_retention_time = "30s"
}
