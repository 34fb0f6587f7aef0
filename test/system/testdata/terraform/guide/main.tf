# vault-secrets/main.tf
terraform {
required_providers {
vault = {
source = "hashicorp/vault"
version = "~> 3.0"
}
}
}
# AWS dynamic secrets
resource "vault_aws_secret_backend" "aws" {
path = "aws"
access_key = var.vault_aws_access_key
secret_key = var.vault_aws_secret_key
region = "us-east-1"
default_lease_ttl_seconds = 3600 # 1 hour
max_lease_ttl_seconds = 14400 # 4 hours
}
resource "vault_aws_secret_backend_role" "deploy" {
backend = vault_aws_secret_backend.aws.path
name = "deploy-service"
credential_type = "iam_user"
policy_arns = [
"arn:aws:iam::123456789012:policy/DeployAccess"
]
}
# Database dynamic secrets
resource "vault_mount" "database" {
path = "database"
type = "database"
}
resource "vault_database_secret_backend_connection" "postgres" {
backend = vault_mount.database.path
name = "production"
allowed_roles = ["app-readonly", "app-readwrite"]
postgresql {
connection_url = "postgresql://{{username}}:{{password}}@db.example.com:5432/myapp"
username = var.db_admin_username
password = var.db_admin_password
}
}
resource "vault_database_secret_backend_role" "readonly" {
backend = vault_mount.database.path
name = "app-readonly"
db_name = vault_database_secret_backend_connection.postgres.name
creation_statements = [
"CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{{name}}\";"
]
revocation_statements = [
"DROP ROLE IF EXISTS \"{{name}}\";"
]
default_ttl = 1800 # 30 minutes
max_ttl = 7200 # 2 hours
}
# Policy granting access to the deploy role
resource "vault_policy" "deploy_policy" {
name = "deploy-service"
policy = <<-EOT
path "aws/creds/deploy-service" {
capabilities = ["read"]
}
path "database/creds/app-readonly" {
capabilities = ["read"]
}
EOT
}
