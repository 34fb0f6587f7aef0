# A third party's key that Keyturn rotates. There is no resource for this in HashiCorp's provider, and
# none is needed: vault_generic_endpoint writes the API. Reads never show the secrets in
# admin, so ignore_absent_fields leaves them as they were written.

terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 3.25, < 6.0"
    }
  }
}

# Where consumers read the key: version 2, so that the previous key stays readable.
resource "vault_mount" "static" {
  path    = "static"
  type    = "kv"
  options = { version = "2" }
}

resource "vault_generic_endpoint" "key" {
  path                 = "rotation/keys/${var.name}"
  ignore_absent_fields = true
  disable_delete       = false

  data_json = jsonencode({
    recipe          = var.recipe
    params          = var.params
    admin           = var.admin
    path            = "${vault_mount.static.path}/${var.secret}"
    rotation_period = var.rotation_period
    grace_period    = var.grace_period
  })
}

# What a consumer may do: read the key, nothing else.
resource "vault_policy" "reader" {
  name   = "${var.name}-reader"
  policy = <<-EOT
    path "${vault_mount.static.path}/data/${var.secret}" {
      capabilities = ["read"]
    }
  EOT
}
