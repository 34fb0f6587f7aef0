# Credentials on demand: AWS and PostgreSQL, and a policy for the clients that may read them.
#
# The provider is HashiCorp's, unmodified; its address is Keyturn's:
#
#   export VAULT_ADDR=https://keyturn.example.com:8200
#   export VAULT_TOKEN=…
#   terraform init && terraform apply

terraform {
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 3.25, < 6.0"
    }
  }
}

# AWS: each reader gets an IAM user of its own, which is deleted when its lease ends.
resource "vault_aws_secret_backend" "aws" {
  path                      = "aws"
  access_key                = var.vault_aws_access_key
  secret_key                = var.vault_aws_secret_key
  region                    = var.aws_region
  iam_endpoint              = var.aws_iam_endpoint
  sts_endpoint              = var.aws_sts_endpoint
  default_lease_ttl_seconds = 3600  # 1 hour
  max_lease_ttl_seconds     = 14400 # 4 hours
}

resource "vault_aws_secret_backend_role" "deploy" {
  backend         = vault_aws_secret_backend.aws.path
  name            = "deploy-service"
  credential_type = "iam_user"
  policy_arns     = var.deploy_policy_arns
}

# PostgreSQL: each reader gets a role of its own.
resource "vault_mount" "database" {
  path = "database"
  type = "database"
}

resource "vault_database_secret_backend_connection" "postgres" {
  backend       = vault_mount.database.path
  name          = "production"
  allowed_roles = ["app-readonly", "app-readwrite"]

  postgresql {
    connection_url = var.db_connection_url
    username       = var.db_admin_username
    password       = var.db_admin_password
  }

  # After rotate-root only the server knows the password. Another value of the variable would be
  # sent, and one that was rotated is refused. What to do with old versions of the provider: ../README.md.
  lifecycle {
    ignore_changes = [postgresql[0].password]
  }
}

resource "vault_database_secret_backend_role" "readonly" {
  backend = vault_mount.database.path
  name    = "app-readonly"
  db_name = vault_database_secret_backend_connection.postgres.name

  creation_statements = [
    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{{name}}\";"
  ]
  revocation_statements = [
    "DROP ROLE IF EXISTS \"{{name}}\";"
  ]

  default_ttl = 1800 # 30 minutes
  max_ttl     = 7200 # 2 hours
}

# A token with this policy may read both, and nothing else.
resource "vault_policy" "deploy_policy" {
  name   = "deploy-service"
  policy = <<-EOT
    path "aws/creds/deploy-service" {
      capabilities = ["read"]
    }
    path "database/creds/app-readonly" {
      capabilities = ["read"]
    }
  EOT
}
