variable "vault_aws_access_key" {}
variable "vault_aws_secret_key" {}
variable "db_admin_username" {}
variable "db_admin_password" {}
