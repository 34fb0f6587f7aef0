variable "vault_aws_access_key" {
  description = "Access key of the IAM user with which Keyturn creates other users. Rotate it afterwards: vault write -f aws/config/rotate-root"
  type        = string
  sensitive   = true
}

variable "vault_aws_secret_key" {
  description = "Secret key of that user."
  type        = string
  sensitive   = true
}

variable "aws_region" {
  description = "Region of the AWS API."
  type        = string
  default     = "us-east-1"
}

variable "aws_iam_endpoint" {
  description = "Address of the IAM API, where it is not AWS's own."
  type        = string
  default     = null
}

variable "aws_sts_endpoint" {
  description = "Address of the STS API, where it is not AWS's own."
  type        = string
  default     = null
}

variable "deploy_policy_arns" {
  description = "Policies of the users that deploy-service gets."
  type        = list(string)
  default     = ["arn:aws:iam::123456789012:policy/DeployAccess"]
}

variable "db_connection_url" {
  description = "Address of PostgreSQL. Keyturn fills in {{username}} and {{password}}."
  type        = string
  default     = "postgresql://{{username}}:{{password}}@db.example.com:5432/myapp"
}

variable "db_admin_username" {
  description = "PostgreSQL role with which Keyturn creates others. CREATEROLE is enough."
  type        = string
  default     = "vault_admin"
}

variable "db_admin_password" {
  description = "Its password. Rotate it afterwards: vault write -f database/rotate-root/production"
  type        = string
  sensitive   = true
}
