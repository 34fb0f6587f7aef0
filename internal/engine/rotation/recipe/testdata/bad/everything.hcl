name        = "Bad Name"
description = ""
style       = "two-key"
evidence    = env.HOME
hosts       = [param.nowhere, "${param.site}.example.com", admin.token]
late        = "soon"
extra       = true

param "site" {
  description = "x"
  type        = any
}
param "site" {
  description = "again"
  default     = 1
}
param "Site" {
  description = "upper case"
}
param "count" {
  description = "a number with a wrong default"
  type        = number
  default     = "many"
}
admin "token" {
  description = "x"
  secret      = "yes"
}
auth "magic" {
  token = admin.token
}
limits {
  keys = 1
}
settle {
  successes = 10
  interval  = "1m"
  timeout   = "5m"
}
create {
  url    = "https://example.com/${key.id}"
  method = "FETCH"
  json   = { a = file("/etc/passwd"), b = admin.password }
  form   = {}
  retry  = "maybe"
  expect {
    status = ["ok"]
  }
  expect {
    status = [201]
  }
  fail "rejected" {
    when = response.status
  }
  id     = response.body.id
  secret = merge({}, {})
  public = { id = "x", "A b" = "y" }
}
verify {
  url   = "https://example.com/"
  proof = "faith"
  json  = {}
}
retire {
  url = "https://example.com/keys"
}
retire {
  url = "https://example.com/keys"
}
