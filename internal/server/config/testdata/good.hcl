api_addr          = "https://keyturn.example.org:8200"
cluster_name      = "payments"
default_lease_ttl = "1h"
max_lease_ttl     = 86400
log_level         = "warn"
log_format        = "json"
outbound_allow    = ["127.0.0.1", "10.1.2.0/16"]
audit_folders     = ["/var/log/keyturn/", "/data/audit"]
connection_folders = ["/etc/keyturn/tls"]
disable_mlock     = true
ui                = true

listener "tcp" {
  address              = "0.0.0.0:8200"
  tls_disable          = "true"
  max_request_size     = 1048576
  max_request_duration = "30s"
  telemetry {
    unauthenticated_metrics_access = true
  }
}

listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = 1
}

storage "pebble" {
  path = "/var/lib/keyturn"
}

seal "static" {
  current_key = "file:///etc/keyturn/key"
}

telemetry {
  statsd_address = "127.0.0.1:8125"
}
