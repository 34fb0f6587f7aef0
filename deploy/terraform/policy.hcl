# The smallest policy whose token applies and destroys the module in dynamic/:
#
#   vault policy write terraform policy.hcl && vault token create -policy=terraform -ttl=1h

# The provider works with a child token, which it creates for each run.
path "auth/token/create" {
  capabilities = ["update"]
}

path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/aws" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}
path "sys/mounts/aws/tune" {
  capabilities = ["read", "update"]
}
path "sys/mounts/database" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}
path "sys/mounts/database/tune" {
  capabilities = ["read", "update"]
}

path "aws/config/root" {
  capabilities = ["create", "read", "update"]
}
path "aws/roles/deploy-service" {
  capabilities = ["create", "read", "update", "delete"]
}

path "database/config/production" {
  capabilities = ["create", "read", "update", "delete"]
}
path "database/roles/app-readonly" {
  capabilities = ["create", "read", "update", "delete"]
}

# With these lines, Terraform can write any rights into this policy. If that is too much, apply the policy separately,
# with another token, and remove these lines.
path "sys/policies/acl/deploy-service" {
  capabilities = ["create", "read", "update", "delete"]
}
