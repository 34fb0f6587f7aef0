resource "vault_mount" "versioned" {
  path    = "versioned"
  type    = "kv"
  options = { version = "2" }
}

resource "vault_mount" "by_type" {
  path = "by-type"
  type = "kv-v2"
}

resource "vault_mount" "plain" {
  path = "plain"
  type = "kv"
  # options of plain
}

resource "vault_token_auth_backend_role" "ci" {
  role_name              = "ci"
  allowed_policies       = ["zebra", "alpha", "mid"]
  disallowed_policies    = ["zz", "default", "aa"]
  allowed_policies_glob  = ["z*", "a*"]
  token_bound_cidrs      = ["127.0.0.1/32", "10.0.0.0/8"]
  orphan                 = true
  renewable              = true
  token_explicit_max_ttl = 115200
}
